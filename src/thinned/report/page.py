"""The report as one HTML file: it loads nothing, runs nothing, and reads on any screen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from thinned.errors import listed, quoted
from thinned.fit.baselines import called
from thinned.fit.rate import spelled
from thinned.fit.results import Level, Mean, Refit, Result
from thinned.fit.words import Shown, count, number, shown_measures, unit_of, with_error
from thinned.pages.document import MARK, Section, document, table, text, text_long
from thinned.report import classes as by_class, data as about_data, figures, uncertainty
from thinned.report.svg import figures as side_by_side

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
        about_data.section(result),
        _levels(result),
        _beside(result),
        _curves(result),
        _test(result),
        uncertainty.section(result),
        *([_masks(result)] if result.masks else []),
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
    first, _, rest = result.headline.partition(". ")
    first, also = (f"{first}.", f'<p class="also">{text(rest)}</p>') if rest else (first, "")
    said = "".join(f"<li>{text_long(sentence)}</li>" for sentence in result.sentences)
    return (
        f'<header><div class="brand">{MARK}<span><b>Thinned</b> · what dropout did for this data'
        f'</span></div><h1 class="{words}">{text(first)}</h1>{also}'
        f'<p class="about">{about}</p>{_tiles(result)}<div class="opening">'
        f'<ul class="summary">{said}</ul>{side_by_side([figures.loss_by_p(result)])}</div></header>'
    )


def _tiles(result: Result) -> str:
    best, found, metric = result.best, result.comparison, result.metric
    none, some = result.refits
    saved = result.refit(best.p)
    classes = result.data.task == "classification"
    tiles = [
        (
            f"Best {metric.called} at",
            f"p = {spelled(best.p)}",
            f"of {len(result.levels)} values of p tried",
        ),
        _test_tile(result, saved),
    ]
    unit = "%" if metric.percent else metric.unit.replace("squared units of the target", "target²")
    scale = 100 if metric.percent else 1
    sign = "+" if found.difference > 0 else "\N{MINUS SIGN}"
    tiles.append(
        (
            f"{metric.called.capitalize()}, p = {spelled(found.p)} against none".replace(
                "R²", "R²"
            ),
            f"{sign}{number(scale * abs(found.difference))}",
            f"± {number(scale * found.error, 2)} {unit.replace('units of the target', '')}",
        )
    )
    gaps = f"{number(some.gap)} {'nats' if classes else 'target²'}"
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


def _test_tile(result: Result, saved: Refit) -> tuple[str, str, str]:
    """The saved model's score on the test part, and what it takes to reach as much."""
    first = shown_measures(result)[0]
    value, error = saved.test[first.name], saved.errors[first.name]
    unit = " %" if first.unit == "%" else ""
    shown = f"{number(first.scale * value)}{unit}"
    without = {one.name: one.test[first.name] for one in result.baselines}["constant"]
    beside = (
        f"± {number(first.scale * error, 2)}; {number(first.scale * without)}{unit} without inputs"
    )
    return f"Test {first.head.removesuffix(' (%)')}", shown, beside


def _levels(result: Result) -> Section:
    unit, columns = unit_of(result.data.task), shown_measures(result)
    head: list[tuple[str, str]] = [
        ("p", "dropped"),
        ("Epochs", f"at most {result.settings.epochs}"),
        ("Validation loss", unit),
    ]
    head += [(_named(one), one.unit) for one in columns]
    head += [("Training loss", unit), ("Gap", unit)]
    rows = [_level_row(result, level, columns) for level in result.levels]
    shown = table(
        head,
        rows,
        f"Mean ± standard error over {result.settings.splits} splits.",
        "Validation results by p",
    )
    pictures = side_by_side([figures.validation_curves(result), figures.gap_by_p(result)])
    lead = (
        f"Every p was trained on the same {result.settings.splits} splits, from the same first "
        "weights and with masks at the same addresses, so that what differs is p alone: where a "
        "unit is kept at some p, it is kept at every smaller one. A split is judged after the "
        "epoch that the other folds of its repeat have chosen."
    )
    return Section("levels", "Every p, cross-validated", lead, shown + pictures)


def _named(one: Shown) -> str:
    name = one.head.removesuffix(" (%)")
    return name[0].upper() + name[1:]


def _level_row(result: Result, level: Level, columns: list[Shown]) -> str:
    best = level is result.best
    name = "0 (none)" if level.p == 0 else f"{spelled(level.p)}"
    tag = '<span class="tag">best</span>' if best else ""
    epochs = str(level.epochs) if level.finished else f"{level.epochs}, cut short"
    shown = [epochs, with_error(level.validation["loss"])]
    shown += [one.of(level.validation[one.name]) for one in columns]
    shown += [with_error(level.training["loss"]), with_error(level.gap)]
    return _row(name + tag, shown, best)


def _row(name: str, cells: list[str], marked: bool = False) -> str:
    mark = ' class="best"' if marked else ""
    shown = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{mark}><th scope="row">{name}</th>{shown}</tr>'


def _beside(result: Result) -> Section:
    """The saved model's p and the simple models, on the same splits and the same test part."""
    task, columns, metric = result.data.task, shown_measures(result), result.metric
    scale = 100 if metric.percent else 1
    head = [("Model", ""), ("Validation loss", unit_of(task))]
    head += [(_named(one), one.unit) for one in columns]
    head += [
        (f"Test {_named(columns[0])}".replace(" A", " a").replace(" B", " b"), columns[0].unit)
    ]
    head += [("Network minus it", f"{metric.called}, ± error"), ("Needed", "to be clear")]
    best, refit, first = result.best, result.refit(result.best.p), columns[0]

    def cells(
        means: dict[str, Mean], test: dict[str, float], errors: dict[str, float]
    ) -> list[str]:
        shown = [with_error(means["loss"]), *(one.of(means[one.name]) for one in columns)]
        return [*shown, first.of(Mean(test[first.name], errors[first.name]))]

    name = "network without dropout" if best.p == 0 else f"network at p = {spelled(best.p)}"
    rows = [_row(name, [*cells(best.validation, refit.test, refit.errors), "", ""], True)]
    for one in result.baselines:
        found = one.against
        shown = cells(one.validation, one.test, one.errors)
        shown.append(with_error(Mean(found.difference, found.error), scale))
        shown.append(number(scale * found.bound, 2))
        rows.append(_row(escape(called(one.name, task)), shown))
    trees = next(one for one in result.baselines if one.name == "trees")
    caption = f"Mean ± standard error over {result.settings.splits} splits"
    caption += (
        f"; trees on the first {trees.splits}." if trees.splits < result.settings.splits else "."
    )
    lead = (
        "What simple models make of the same splits and the same inputs, with scikit-learn's "
        "defaults. The differences are paired, and the last column is how large one must be by the "
        "same test that dropout is judged by."
    )
    return Section(
        "beside", "Beside simple models", lead, table(head, rows, caption, "Simple models")
    )


def _curves(result: Result) -> Section:
    small = [figures.training_and_validation(result, level) for level in result.levels]
    lead = (
        'Mean loss over the epochs, nothing dropped: <span class="key"></span>on validation '
        'rows, <span class="key dashed"></span>on training rows, shaded one standard error, a '
        "dot at the best epoch."
    )
    return Section("curves", "Learning curves", lead, side_by_side(small, "small"))


def _test(result: Result) -> Section:
    unit, columns = unit_of(result.data.task), shown_measures(result)
    head = [("Refit", ""), ("Epochs", ""), ("Training loss", unit), ("Test loss", unit)]
    head += [("Gap", unit), *((_named(one), one.unit) for one in columns)]
    rows = [_refit_row(refit, refit.p == result.best.p, columns) for refit in result.refits]
    shown = table(
        head,
        rows,
        f"Trained on {result.data.rows - result.data.test_rows:,} rows, tested on "
        f"{result.data.test_rows:,}. Standard errors are over the test rows.",
        "Test results",
    )
    if result.data.classes:
        pictures = [by_class.confusion(result), by_class.found_by_class(result)]
    else:
        pictures = [figures.predicted_against_true(result), figures.errors(result)]
    pictures.append(figures.importance(result))
    lead = (
        "Both networks were trained on every row but the test part, each for the epochs that "
        "validation chose for its p. No choice was made on the test part. The pictures show the "
        f"saved model, p = {spelled(result.best.p)}."
    )
    return Section("test", "On rows that no choice has seen", lead, shown + side_by_side(pictures))


def _refit_row(refit: Refit, saved: bool, columns: list[Shown]) -> str:
    name = "without dropout" if refit.p == 0 else f"p = {spelled(refit.p)}"
    tag = '<span class="tag">saved model</span>' if saved else ""
    test = {key: Mean(value, refit.errors[key]) for key, value in refit.test.items()}
    shown = [str(refit.epochs), number(refit.training["loss"]), with_error(test["loss"])]
    shown += [number(refit.gap), *(one.of(test[one.name]) for one in columns)]
    return _row(name + tag, shown, saved)


def _masks(result: Result) -> Section:
    pictures = [figures.masks(result, at) for at in range(len(result.masks))]
    lead = (
        f"What the refit at p = {spelled(result.comparison.p)} dropped in its first batch. Each "
        "row of a batch trains its own thinned network, a part of the whole one."
    )
    return Section("masks", "The masks of one batch", lead, side_by_side(pictures, "small"))


def _replay(result: Result, again: Sequence[str]) -> Section:
    typed = " ".join(f"<span>{escape(group)}</span>" for group in again)
    body = (
        "<p>The whole run, to the last digit on a machine of the same kind; the seed of each split "
        f'is in metrics.json:</p><pre class="command"><code>{typed}</code></pre>'
    )
    if not result.masks:
        return Section("replay", "Do it again", "", body)
    shown = result.masks[-1]
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
    return Section("replay", "Draw it again", lead, f"<pre><code>{escape(code)}</code></pre>{body}")


def _settings(result: Result) -> Section:
    data, settings = result.data, result.settings
    sizes = " → ".join(
        str(size) for size in (data.inputs, *settings.hidden, len(data.classes) or 1)
    )
    network = f"{sizes} units, ReLU; dropout on the input and on each hidden layer"
    if (own := settings.network) is not None:
        network = (
            f"{own.called}, from {data.inputs} inputs to {len(data.classes) or 1} outputs; SHA-256 "
            f"of the file {own.sha256}"
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
        f"at most {settings.epochs} epochs, ended where validation gets no better, weight decay "
        f"{settings.weight_decay:g}"
    )
    validation = (
        f"{settings.folds} folds, {count(settings.repeats, 'time')}, inside "
        f"{1 - settings.test_share:.0%} of the rows; scaling learned from each fold's "
        "training rows alone"
    )
    facts = [
        ("Data", f"{data.name}: {', '.join(kinds)}; target {quoted(data.target)}"),
        ("Network", network),
        ("Training", training),
        ("Validation", validation),
        ("Decided by", result.metric.called),
        ("Seed", str(settings.seed)),
        ("Versions", ", ".join(f"{name} {there}" for name, there in result.versions.items())),
    ]
    if (
        result.took is not None
    ):  # the page itself has no time in it, so that equal results give equal pages
        facts.append(("Machine", f"{result.took.machine}; took.json says how long it took"))
    if len(data.targets) > 1:
        facts.insert(
            1, ("Learned together", f"one network, with outputs for {listed(data.targets)}")
        )
    if data.sha256:
        facts.insert(1, ("SHA-256 of the file", data.sha256))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{text_long(said)}</dd>" for name, said in facts)
    return Section("settings", "Settings", "", f'<dl class="facts">{rows}</dl>')


def _footer(result: Result) -> str:
    return (
        "<footer>Losses are measured with nothing dropped. A difference is called clear where it "
        "is past Student's t at 5 %, with a Bonferroni correction for the number of values of p, "
        "and the standard error corrected "
        "for training parts that overlap (Nadeau and Bengio, 2003). "
        f"Thinned {text(result.versions.get('thinned', ''))}.</footer>"
    )
