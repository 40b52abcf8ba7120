"""The report's section on how far answers can be trusted, and its pictures."""

from __future__ import annotations

from html import escape

import numpy as np

from thinned.fit.conformal import fewest_rows
from thinned.fit.rate import spelled
from thinned.fit.results import Result
from thinned.fit.uncertainty import Bounds, Members, Uncertainty
from thinned.fit.words import count, number, percent
from thinned.pages.colours import ACCENT, GRID, INK, MUTED, SURFACE
from thinned.pages.document import Section, clean
from thinned.report.svg import Picture, canvas, figures, inline

__all__ = ["section"]

MOST_INTERVALS = 60
# A bin of fewer rows says little: its dot is hollow.
FEW_ROWS = 5


def section(result: Result) -> Section:
    """Intervals or sets, whether probabilities mean what they say, and the thinned networks."""
    found = result.uncertainty
    assert found is not None
    body = f"<p>{_bounds(result, found.bounds)}</p>"
    first = [_intervals(result, found)] if not result.data.classes else []
    if found.reliability is not None:
        first.append(_reliability(result, found))
        if found.bounds.known:
            first.append(_sizes(result, found.bounds))
    body += figures([one for one in first if one is not None])
    body += f"<p>{_asked(result, found)}</p>"
    if found.members is not None:
        body += figures(_pictures(result, found.members))
        rows = ", ".join(str(result.predictions.rows[i]) for i in found.members.least)
        body += f"<p>The rows that they are least sure of: {rows}.</p>"
    return Section("members", "How far its answers can be trusted", "", body)


def _bounds(result: Result, bounds: Bounds) -> str:
    rows, level = len(result.predictions.rows), f"{bounds.level:.0%}"
    what = "sets of classes" if result.data.classes else "intervals"
    weights = result.data.choices.weights
    if not bounds.known:
        return (
            f"There are no {what} at {level}: they take {fewest_rows(bounds.level)} rows in the "
            f"test part{'' if weights is None else ' as heavy as its heaviest'}, and it has {rows}."
        )
    code = f"<code>thinned predict --level {bounds.level:g}</code>"
    on = f"by the {count(rows, 'row')} of the test part"
    alike = (
        ""
        if weights is None
        else f"Rows count here by their {escape(weights)}, and a new row as much as the heaviest. "
    )
    if bounds.sizes is None:
        start = f"An interval of ± {number(bounds.limit)} around an answer holds the true value"
    else:
        start = (
            f"The set of the classes with a probability of {number(max(1 - bounds.limit, 0.0))} or "
            f"more, {number(float(bounds.sizes.mean()))} of them on average, holds the true class"
        )
    return (
        f"{start} with a probability of {level} or more (split conformal prediction, set {on}). "
        "That is so on average over rows like these, and whatever the model is worth; single "
        f"groups of rows may be covered less. {alike}{code} gives them for new rows."
    )


def _asked(result: Result, found: Uncertainty) -> str:
    if found.members is None:
        return f"Its thinned networks were asked for nothing: {escape(found.why)}"
    asked = found.members
    measure = "predictive entropy" if result.data.classes else "standard deviation between them"
    which = (
        "The saved model was run"
        if asked.own
        else "The saved model was trained without dropout, and has no thinned networks. The one "
        f"that was refitted at p = {spelled(asked.p)} is saved beside it, and was run"
    )
    return (
        f"{which} {asked.count} times on the test part, each time as another of its thinned "
        f"networks. Shown are their mean and, as a sign of uncertainty, the {measure}. Its size "
        "depends on p, and it need not shrink with more data: the pictures measure, on the test "
        f"part, how far it can be trusted. <code>thinned predict --members {asked.count}</code> "
        "gives the same for other rows."
    )


def _pictures(result: Result, found: Members) -> list[Picture]:
    shown = [_entropies(result, found)] if result.data.classes else []
    shown.append(_kept(result, found))
    return [*shown, *([_least(result, found)] if found.images is not None else [])]


def _reliability(result: Result, found: Uncertainty) -> Picture:
    curve = found.reliability
    assert curve is not None
    filled = curve.rows > 0
    claimed, right, rows = curve.confidence[filled], curve.accuracy[filled], curve.rows[filled]
    many = rows >= FEW_ROWS
    # One right and one wrong row are added to each bin, because a bin of one row is not certain.
    error = np.sqrt((right * rows + 1) * ((1 - right) * rows + 1) / (rows + 2) ** 2 / (rows + 3))
    with canvas(4.2, 3.9) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        low, high = np.maximum(right - error, 0), np.minimum(right + error, 1)
        axes.vlines(claimed, low, high, color=ACCENT, linewidth=1, alpha=0.6)
        axes.plot(claimed[many], right[many], color=ACCENT, marker="o", markersize=6)
        axes.plot(
            claimed[~many], right[~many], color=ACCENT, marker="o", markersize=6,
            markerfacecolor=SURFACE, linestyle="none",
        )  # fmt: skip
        for c, a, n in zip(claimed, right, rows, strict=True):
            under = a > 0.08  # beside the bar, and below the line to the next dot
            axes.annotate(
                str(n), (c, a), (4, -4 if under else 4), textcoords="offset points", ha="left",
                va="top" if under else "bottom", fontsize=7.5, color=MUTED,
            )  # fmt: skip
        axes.set_ylim(-0.04, 1.04)
        axes.set_xlabel("claimed probability of the predicted class")
        axes.set_ylabel("share of right answers")
        axes.set_title("Reliability (test part)")
        told = ", ".join(
            f"{number(c)} claimed and {number(a)} right of {count(int(n), 'row')}"
            for c, a, n in zip(claimed, right, rows, strict=True)
        )
        svg = inline(
            figure, "reliability", "Reliability diagram of the test part", f"{told}.",
            len(result.levels),
        )  # fmt: skip
    caption = (
        "On the dashed line claims are true; below it the model is too sure. Beside each dot the "
        f"number of rows; a hollow one has fewer than {FEW_ROWS}. Bars one standard error."
    )
    return Picture(svg, caption)


def _sizes(result: Result, bounds: Bounds) -> Picture:
    assert bounds.sizes is not None
    counts = np.bincount(bounds.sizes, minlength=2)[1:]
    size = np.arange(1, len(counts) + 1)
    with canvas(4.2, 3.9) as (figure, axes):
        axes.bar(size, counts, color=ACCENT, width=0.72)
        for x, n in zip(size, counts, strict=True):
            if n and len(size) <= 12:
                axes.annotate(
                    str(n), (x, n), (0, 2), textcoords="offset points", ha="center", fontsize=8.5
                )
        if len(size) <= 12:
            axes.set_xticks(size)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("classes in the set")
        axes.set_ylabel("rows of the test part")
        axes.set_title(f"Sets of {bounds.level:.0%} (test part)")
        told = ", ".join(
            f"{count(int(n), 'row')} with {x}" for x, n in zip(size, counts, strict=True) if n
        )
        svg = inline(
            figure, "sets", "How many classes the sets hold", f"{told}.", len(result.levels)
        )
    return Picture(svg, "The fewer classes a set takes to hold the truth, the more the model says.")


def _entropies(result: Result, found: Members) -> Picture:
    wrong = found.wrong > 0
    ends = np.linspace(0.0, max(float(found.uncertainty.max()), 1e-3), 25).tolist()
    groups = [("right", ~wrong, ACCENT), ("wrong", wrong, INK)]
    with canvas(4.2, 3.9) as (figure, axes):
        for name, rows, colour in groups:
            if rows.any():
                weights = np.full(int(rows.sum()), 1.0 / rows.sum())
                axes.hist(
                    found.uncertainty[rows], bins=ends, weights=weights, color=colour, alpha=0.6,
                    label=f"{name} ({int(rows.sum())})",
                )  # fmt: skip
        axes.legend(frameon=False)
        axes.set_xlabel("predictive entropy (nats)")
        axes.set_ylabel("share of such rows")
        axes.set_title("Entropy of right and wrong answers")
        means = ", ".join(
            f"{name} answers {number(found.uncertainty[rows].mean())} nats on average"
            for name, rows, _ in groups
            if rows.any()
        )
        svg = inline(
            figure, "entropies", "Predictive entropy of right and wrong answers", f"{means}.",
            len(result.levels),
        )  # fmt: skip
    return Picture(svg, "The further right the wrong answers lie, the better entropy tells them.")


def _kept(result: Result, found: Members) -> Picture:
    classes = result.data.task == "classification"
    share = found.kept.coverage
    worth = 1.0 - found.kept.risk if classes else np.sqrt(found.kept.risk)
    what = "accuracy" if classes else "root mean square error"
    unit = "" if classes else " (units of the target)"
    with canvas(4.2, 3.9) as (figure, axes):
        axes.plot(share, worth, color=ACCENT)
        axes.axhline(worth[-1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("share of rows answered, the surest first")
        axes.set_ylabel(f"{what} of these{unit}")
        axes.set_title(f"{what.capitalize()} against coverage")
        half = len(share) // 2
        svg = inline(
            figure, "coverage", f"{what.capitalize()} against coverage",
            f"Of the surer half {number(worth[half])}, of all rows {number(worth[-1])}.",
            len(result.levels),
        )  # fmt: skip
    return Picture(svg, "What is gained by leaving the rows that the members are least sure of.")


def _intervals(result: Result, found: Uncertainty) -> Picture | None:
    half = found.bounds.limit
    if not found.bounds.known:
        return None
    target, said = result.predictions.target, result.predictions.answers.prediction
    order = np.argsort(said, kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, MOST_INTERVALS).round().astype(int))]
    place = np.arange(len(picked))
    inside = np.abs(said - target) <= half
    share = percent(float(inside.mean()))
    with canvas(4.2, 3.9) as (figure, axes):
        axes.vlines(
            place, said[picked] - half, said[picked] + half, color=GRID, linewidth=2, zorder=1
        )
        axes.plot(place, said[picked], color=MUTED, linewidth=1)
        axes.scatter(place, target[picked], s=12, color=ACCENT, linewidths=0, zorder=3)
        axes.set_xticks([])
        axes.set_xlabel("rows of the test part, by predicted value")
        axes.set_ylabel("value (units of the target)")
        axes.set_title(f"Intervals of {found.bounds.level:.0%} (test part)")
        svg = inline(
            figure, "intervals", f"Intervals of {found.bounds.level:.0%} and what came true",
            f"{share} of the rows lie in theirs.", len(result.levels),
        )  # fmt: skip
    caption = (
        f"{share} of these rows lie in their interval, which was set by them. All intervals are "
        "equally wide: where the dots stray more, rows are covered less."
    )
    return Picture(svg, caption)


def _least(result: Result, found: Members) -> Picture:
    images = found.images
    assert images is not None
    across = 4
    down = -(-len(images) // across)
    classes, told = result.data.classes, []
    with canvas(4.2, 3.9) as (figure, axes):
        axes.set_axis_off()
        for i, (row, image) in enumerate(zip(found.least, images, strict=True)):
            part = figure.add_subplot(down, across, i + 1)
            part.imshow(image, cmap="gray_r", interpolation="nearest")
            part.set_xticks([])
            part.set_yticks([])
            said = clean(classes[int(found.answers.prediction[row])], 12)
            true = clean(classes[int(result.predictions.target[row])], 12)
            part.set_title(f"{said}, is {true}", fontsize=8)
            told.append(f"row {result.predictions.rows[row]}: {said}, is {true}")
        svg = inline(
            figure, "least-sure", "The rows that the model is least sure of", "; ".join(told) + ".",
            len(result.levels),
        )  # fmt: skip
    return Picture(svg, "The test rows of highest entropy, with what the model says and what is.")
