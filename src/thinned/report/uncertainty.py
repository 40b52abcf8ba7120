"""The report's pictures of the members' predictions: how far their spread can be trusted."""

from __future__ import annotations

import numpy as np

from thinned.fit.results import Result
from thinned.fit.uncertainty import LEVEL, Uncertainty
from thinned.fit.words import number, percent
from thinned.pages.colours import ACCENT, GRID, INK, MUTED
from thinned.pages.document import clean
from thinned.report.svg import Picture, canvas, inline

__all__ = ["pictures"]

MOST_INTERVALS = 60


def pictures(result: Result, found: Uncertainty) -> list[Picture]:
    """All of them, in reading order."""
    classes = result.data.task == "classification"
    shown = [_reliability(result, found), _entropies(result, found)] if classes else []
    shown += (
        [_kept(result, found)] if classes else [_intervals(result, found), _kept(result, found)]
    )
    return [*shown, *([_least(result, found)] if found.images is not None else [])]


def _reliability(result: Result, found: Uncertainty) -> Picture:
    curve = found.reliability
    assert curve is not None
    filled = curve.rows > 0
    with canvas(4.2, 3.9) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(
            curve.confidence[filled], curve.accuracy[filled], color=ACCENT, marker="o", markersize=5
        )
        axes.set_xlabel("claimed probability of the predicted class")
        axes.set_ylabel("share of right answers")
        axes.set_title("Reliability (test part)")
        told = ", ".join(
            f"{number(c)} claimed and {number(a)} right of {n} rows"
            for c, a, n in zip(
                curve.confidence[filled], curve.accuracy[filled], curve.rows[filled], strict=True
            )
        )
        svg = inline(
            figure, "reliability", "Reliability diagram of the test part", f"{told}.",
            len(result.levels),
        )  # fmt: skip
    return Picture(svg, "On the dashed line claims are true; below it the model is too sure.")


def _entropies(result: Result, found: Uncertainty) -> Picture:
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


def _kept(result: Result, found: Uncertainty) -> Picture:
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
    return Picture(svg, "What is gained by leaving the rows that the model is least sure of.")


def _intervals(result: Result, found: Uncertainty) -> Picture:
    assert found.low is not None
    assert found.high is not None
    target = result.predictions.target
    order = np.argsort(found.answers.prediction, kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, MOST_INTERVALS).round().astype(int))]
    place = np.arange(len(picked))
    with canvas(4.2, 3.9) as (figure, axes):
        axes.vlines(place, found.low[picked], found.high[picked], color=GRID, linewidth=2)
        axes.plot(place, found.answers.prediction[picked], color=MUTED, linewidth=1)
        axes.scatter(place, target[picked], s=12, color=ACCENT, linewidths=0)
        axes.set_xticks([])
        axes.set_xlabel("rows of the test part, by predicted value")
        axes.set_ylabel("value (units of the target)")
        axes.set_title(f"Intervals of {LEVEL:.0%} (test part)")
        svg = inline(
            figure, "intervals", f"Intervals of {LEVEL:.0%} and what came true",
            f"{percent(found.covered or 0.0)} of the rows lie in theirs.", len(result.levels),
        )  # fmt: skip
    caption = (
        f"{percent(found.covered or 0.0)} of the test part lies in its interval: the members' "
        "spread and, for the noise that it leaves out, the error on the training rows. The "
        f"interval is meant to hold {LEVEL:.0%}; nothing guarantees it."
    )
    return Picture(svg, caption)


def _least(result: Result, found: Uncertainty) -> Picture:
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
