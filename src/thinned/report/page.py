"""The report as one HTML file: it loads nothing, runs nothing, and reads on any screen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from thinned.errors import quoted
from thinned.fit.results import Level, Refit, Result
from thinned.fit.words import count, number, percent, with_error
from thinned.pages.document import MARK, Section, document, table, text, text_long
from thinned.report import figures, uncertainty
from thinned.report.svg import Picture

__all__ = ["page"]


def page(result: Result, again: Sequence[str]) -> str:
    """The report of a fit.

    Parameters
    ----------
    result : Result. What the search found; nothing is computed here but positions and texts.
    again : the command that does the fit again, as a shell reads it: words that belong together in
        one string.

    Returns
    -------
    str. A whole HTML document without scripts and without references to anything outside of it.
    """
    title = f"{result.headline} {result.data.name}"
    parts = [section.html() for section in sections(result, again)]
    return document(title, _header(result), parts, _footer(result), len(result.levels))


def sections(result: Result, again: Sequence[str]) -> list[Section]:
    """The page's parts, in reading order."""
    return [
        _levels(result),
        _curves(result),
        _test(result),
        *_members(result),
        _masks(result),
        _replay(result, again),
        _settings(result),
    ]


# ------------------------------------------------------------------------------------------- parts


def _header(result: Result) -> str:
    data, words = result.data, result.comparison.verdict.split()[0]
    kind = (
        f"{data.task} into {count(len(data.classes), 'class').replace('classs', 'classes')}"
        if data.classes
        else data.task
    )
    about = (
        f"<b>{text(data.name)}</b>: {kind} of <b>{text(data.target)}</b> from "
        f"{count(len(data.columns), 'column')}, {count(data.rows, 'row')}, of which "
        f"{data.test_rows:,} were held out as the test part."
    )
    said = "".join(f"<li>{text_long(sentence)}</li>" for sentence in result.sentences)
    return (
        f'<header><div class="brand">{MARK}<span><b>Thinned</b> · what dropout did for this data'
        f'</span></div><h1 class="{words}">{text(result.headline)}</h1>'
        f'<p class="about">{about}</p>{_tiles(result)}<div class="opening">'
        f'<ul class="summary">{said}</ul>{_figures([figures.loss_by_p(result)])}</div></header>'
    )


def _tiles(result: Result) -> str:
    best, found = result.best, result.comparison
    none, some = result.refits
    saved = result.refit(best.p)
    unit = "nats" if result.data.task == "classification" else "target²"
    tiles = [("Lowest loss at", f"p = {best.p:g}", f"of {len(result.levels)} ps tried")]
    if result.data.task == "classification":
        shown = percent(saved.test["accuracy"])
        other = f"{percent(some.test['accuracy'])} with, {percent(none.test['accuracy'])} without"
        tiles.append(("Test accuracy", shown, other))
    else:
        shown = number(saved.test["rmse"])
        other = f"{number(some.test['rmse'])} with, {number(none.test['rmse'])} without"
        tiles.append(("Test error (RMSE)", shown, other))
    minus = "\N{MINUS SIGN}"
    tiles.append(
        (
            f"Loss, p = {found.p:g} against none",
            f"{'+' if found.difference > 0 else minus}{number(abs(found.difference))}",
            f"± {number(found.error, 2)} {unit}",
        )
    )
    gaps = f"{number(some.gap)} {unit}"
    tiles.append(("Train-test gap with dropout", gaps, f"{number(none.gap)} without"))
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div><dt>{text(name)}</dt><dd class="figure">{text(value)}</dd>'
            f'<dd class="beside">{text(beside)}</dd></div>'
            for name, value, beside in tiles
        )
        + "</dl>"
    )


def _levels(result: Result) -> Section:
    classes = result.data.task == "classification"
    unit = "nats" if classes else "target²"
    head: list[tuple[str, str]] = [
        ("p", "dropped"),
        ("Epochs", "best of " + str(result.settings.epochs)),
        ("Validation loss", unit),
    ]
    head += [("Accuracy", "%")] if classes else [("RMSE", "units of the target"), ("R²", "")]
    head += [("Training loss", unit), ("Gap", unit)]
    rows = [_level_row(level, level is result.best, classes) for level in result.levels]
    shown = table(
        head,
        rows,
        f"Mean ± standard error over {result.settings.splits} splits.",
        "Validation results by p",
    )
    pictures = _figures([figures.validation_curves(result), figures.gap_by_p(result)])
    lead = (
        f"Every p was trained on the same {result.settings.splits} splits, from the same first "
        "weights and with masks at the same addresses, so that what differs is p alone: where a "
        "unit is kept at some p, it is kept at every smaller one."
    )
    return Section("levels", "Every p, cross-validated", lead, shown + pictures)


def _level_row(level: Level, best: bool, classes: bool) -> str:
    name = "0 (none)" if level.p == 0 else f"{level.p:g}"
    tag = '<span class="tag">lowest loss</span>' if best else ""
    shown = [str(level.epochs), with_error(level.validation["loss"])]
    if classes:
        shown.append(with_error(level.validation["accuracy"], 100))
    else:
        shown += [with_error(level.validation[key]) for key in ("rmse", "r2")]
    shown += [with_error(level.training["loss"]), with_error(level.gap)]
    cells = "".join(f"<td>{cell}</td>" for cell in shown)
    mark = ' class="best"' if best else ""
    return f'<tr{mark}><th scope="row">{name}{tag}</th>{cells}</tr>'


def _curves(result: Result) -> Section:
    small = [figures.training_and_validation(result, level) for level in result.levels]
    lead = (
        'Mean loss after each epoch, nothing dropped: <span class="key"></span>on validation '
        'rows, <span class="key dashed"></span>on training rows, shaded one standard error, a '
        "dot at the best epoch."
    )
    return Section("curves", "Learning curves", lead, _figures(small, "small"))


def _test(result: Result) -> Section:
    classes = result.data.task == "classification"
    unit = "nats" if classes else "target²"
    head = [("Refit", ""), ("Epochs", ""), ("Training loss", unit), ("Test loss", unit)]
    head += [("Gap", unit)]
    head += [("Accuracy", "%")] if classes else [("RMSE", "units of the target"), ("R²", "")]
    rows = [_refit_row(refit, refit.p == result.best.p, classes) for refit in result.refits]
    shown = table(
        head,
        rows,
        f"Trained on {result.data.rows - result.data.test_rows:,} rows, tested on "
        f"{result.data.test_rows:,}.",
        "Test results",
    )
    if classes:
        pictures = [figures.confusion(result), figures.found_by_class(result)]
    else:
        pictures = [figures.predicted_against_true(result), figures.errors(result)]
    lead = (
        "Both networks were trained on every row but the test part, each for the epochs that "
        "validation chose for its p. No choice was made on the test part. The pictures show the "
        f"saved model, p = {result.best.p:g}."
    )
    return Section("test", "On rows that no choice has seen", lead, shown + _figures(pictures))


def _members(result: Result) -> list[Section]:
    """Nothing for a model without thinned networks."""
    found = result.uncertainty
    if found is None:
        return []
    measure = "predictive entropy" if result.data.classes else "standard deviation between them"
    lead = (
        f"The saved model was run {found.members} times on the test part, each time as another "
        "of its thinned networks. Shown are their mean and, as a sign of uncertainty, the "
        f"{measure}. Its size depends on p, and it need not shrink with more data: the pictures "
        "measure, on the test part, how far it can be trusted. "
        f"<code>thinned predict --members {found.members}</code> gives the same for other rows."
    )
    rows = ", ".join(str(result.predictions.rows[i]) for i in found.least)
    body = _figures(uncertainty.pictures(result, found))
    body += f"<p>The rows that the model is least sure of: {rows}.</p>"
    return [Section("members", "How sure its thinned networks are", lead, body)]


def _refit_row(refit: Refit, saved: bool, classes: bool) -> str:
    name = "without dropout" if refit.p == 0 else f"p = {refit.p:g}"
    tag = '<span class="tag">saved model</span>' if saved else ""
    shown = [str(refit.epochs), number(refit.training["loss"]), number(refit.test["loss"])]
    shown.append(number(refit.gap))
    if classes:
        shown.append(f"{100 * refit.test['accuracy']:.1f}")
    else:
        shown += [number(refit.test[key]) for key in ("rmse", "r2")]
    cells = "".join(f"<td>{cell}</td>" for cell in shown)
    mark = ' class="best"' if saved else ""
    return f'<tr{mark}><th scope="row">{name}{tag}</th>{cells}</tr>'


def _masks(result: Result) -> Section:
    pictures = [figures.masks(result, at) for at in range(len(result.masks))]
    lead = (
        f"What the refit at p = {result.comparison.p:g} dropped in its first batch. Each row of a "
        "batch trains a network of its own, thinned out of the whole one."
    )
    return Section("masks", "The masks of one batch", lead, _figures(pictures, "small"))


def _replay(result: Result, again: Sequence[str]) -> Section:
    shown = result.masks[-1]
    typed = " ".join(f"<span>{escape(group)}</span>" for group in again)
    code = (
        "import thinned\n\n"
        f"at = thinned.{shown.address}\n"
        f"keep = thinned.keep_mask({shown.shape}, p={shown.p:g}, at=at)  # True where kept\n"
        "at.replace(step=41)  # where the 42nd batch has its mask"
    )
    sites = ", ".join(f"<code>{escape(repr(one.site))}</code>" for one in result.masks)
    lead = (
        "No mask was stored. Each is a function of its address, and the same on every machine. "
        f"The sites are {sites}; the step counts batches from 0."
    )
    body = (
        f"<pre><code>{escape(code)}</code></pre><p>The whole run, to the last digit on a machine "
        "of the same kind; the seed of each split is in metrics.json:</p>"
        f'<pre class="command"><code>{typed}</code></pre>'
    )
    return Section("replay", "Draw it again", lead, body)


def _settings(result: Result) -> Section:
    data, settings = result.data, result.settings
    sizes = " → ".join(
        str(size) for size in (data.inputs, *settings.hidden, len(data.classes) or 1)
    )
    kinds = [
        count(n, what)
        for kind, what in (
            ("numeric", "numeric column"),
            ("text", "text column"),
            ("bool", "yes-or-no column"),
        )
        if (n := sum(column.kind == kind for column in data.columns))
    ]
    training = (
        f"Adam, learning rate {settings.learning_rate:g}, batches of {settings.batch_size}, "
        f"up to {settings.epochs} epochs, weight decay {settings.weight_decay:g}"
    )
    validation = (
        f"{settings.folds} folds, {count(settings.repeats, 'time')}, inside "
        f"{1 - settings.test_share:.0%} of the rows; scaling learned from each fold's "
        "training rows alone"
    )
    facts = [
        ("Data", f"{data.name}: {', '.join(kinds)}; target {quoted(data.target)}"),
        ("Network", f"{sizes} units, ReLU; dropout on the input and on each hidden layer"),
        ("Training", training),
        ("Validation", validation),
        ("Seed", str(settings.seed)),
        ("Versions", ", ".join(f"{name} {there}" for name, there in result.versions.items())),
    ]
    if data.sha256:
        facts.insert(1, ("SHA-256 of the file", data.sha256))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{text_long(said)}</dd>" for name, said in facts)
    notes = "".join(f"<li>{text_long(note)}</li>" for note in data.notes)
    body = f'<dl class="facts">{rows}</dl>' + (f'<ul class="notes">{notes}</ul>' if notes else "")
    return Section("settings", "Settings and notes", "", body)


def _footer(result: Result) -> str:
    return (
        "<footer>Losses are measured with nothing dropped. A difference is called clear where it "
        "is past Student's t at 5 %, shared among the ps tried, with the standard error corrected "
        "for training parts that overlap (Nadeau and Bengio, 2003). "
        f"Thinned {text(result.versions.get('thinned', ''))}.</footer>"
    )


# ------------------------------------------------------------------------------------------ pieces


def _figures(pictures: list[Picture], kind: str = "") -> str:
    shown = "".join(
        f"<figure>{picture.svg}"
        + (f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else "")
        + "</figure>"
        for picture in pictures
    )
    return f'<div class="figures {kind}">{shown}</div>'
