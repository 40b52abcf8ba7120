"""The pictures of the report, each from a result alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thinned.fit.rate import Rate, along, spelled
from thinned.fit.results import Level, Mean, Result, ShownMask
from thinned.fit.words import number, with_error
from thinned.pages.colours import ACCENT, GRID, INK, MUTED, NONE, SURFACE, colour_of
from thinned.pages.document import clean
from thinned.report.svg import Picture, canvas, inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "errors",
    "gap_by_p",
    "importance",
    "loss_by_p",
    "masks",
    "predicted_against_true",
    "training_and_validation",
    "validation_curves",
]

MARKERS = "osD^vPX*"
# Cells of a mask that can be told apart in a picture of this size, and dots in a scatter.
MOST_UNITS, MOST_ROWS, MOST_DOTS = 64, 32, 1500
MOST_COLUMNS = 15  # whose worth the picture shows
SMALLEST = 1e-6  # a smaller loss is drawn here, since its axis is logarithmic


def measure_name(result: Result) -> str:
    """The measure that decides, with its unit."""
    if result.metric.name == "loss":
        return loss_name(result)
    unit = result.metric.unit if not result.metric.percent else ""
    return f"{result.metric.called}{f' ({unit})' if unit else ''}"


def loss_name(result: Result) -> str:
    """What the loss is, with its unit."""
    if result.data.task == "classification":
        return "log loss (nats)"
    return "squared error (target\N{SUPERSCRIPT TWO})"


def _plain(value: float, _: Any = None) -> str:
    return f"{value:g}"


def _logarithmic(axes: Axes, axis: str = "y") -> None:
    """A logarithmic axis with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    getattr(axes, f"set_{axis}scale")("log")
    side = axes.yaxis if axis == "y" else axes.xaxis
    low, high = sorted(side.get_view_interval())
    steps = (1.0, 2.0, 5.0) if high / max(low, 1e-300) < 300 else (1.0,)
    side.set_major_locator(LogLocator(subs=steps, numticks=12))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(FuncFormatter(_plain))
    side.set_minor_formatter(NullFormatter())


def _whole_numbers(*axes: Any) -> None:
    """Ticks at whole numbers only, for what is counted."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _points(
    axes: Axes, levels: tuple[Level, ...], means: list[Mean], colour: str, label: str
) -> Any:
    """Means with their errors, one for each p; returns the line that joins them."""
    ps = [level.p for level in levels]
    x = along(ps)
    drawn = axes.errorbar(
        x,
        [mean.value for mean in means],
        yerr=[mean.error for mean in means],
        color=colour,
        marker="o",
        markersize=5,
        capsize=3,
        elinewidth=1.2,
        label=label,
    )
    axes.set_xticks(x, [spelled(p) for p in ps])
    axes.set_xlabel("p (probability to drop a unit)")
    return drawn[0]


def _place(result: Result, p: Rate) -> float:
    """Where a p stands on the axis of `_points`."""
    ps = [level.p for level in result.levels]
    return along(ps)[ps.index(p)]


def _only(axes: Axes, label: str) -> tuple[list[Any], list[str]]:
    """The legend's entry of this label alone."""
    handles, labels = axes.get_legend_handles_labels()
    return [handles[labels.index(label)]], [label]


def loss_by_p(result: Result) -> Picture:
    """Validation loss against p."""
    with canvas() as (figure, axes):
        name = result.metric.name
        means = [level.validation[name] for level in result.levels]
        axes.axhline(
            means[0].value,
            color=NONE,
            linestyle=(0, (4, 3)),
            linewidth=1.2,
            label="without dropout",
        )
        _points(axes, result.levels, means, ACCENT, "validation")
        best = result.best
        axes.plot(
            [_place(result, best.p)],
            [best.validation[name].value],
            marker="o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=ACCENT,
            markeredgewidth=1.6,
            linestyle="none",
        )
        axes.set_ylabel(f"validation {measure_name(result)}")
        title = f"Validation {result.metric.called if name != 'loss' else 'loss'} against p"
        axes.set_title(title)
        axes.legend(*_only(axes, "without dropout"), fontsize=8.5)
        said = "; ".join(
            f"p = {spelled(level.p)}: {with_error(level.validation[name])}"
            for level in result.levels
        )
        svg = inline(
            figure,
            "loss-by-p",
            title,
            f"Mean validation {measure_name(result)} with standard error. {said}. "
            f"Best at p = {spelled(best.p)}.",
            len(result.levels),
        )
    caption = (
        f"Mean over {result.settings.splits} splits, bars one standard error. The ring marks the "
        f"best, p = {spelled(best.p)}."
    )
    return Picture(svg, caption)


def gap_by_p(result: Result) -> Picture:
    """How much worse a network is on rows that it was not trained on, against p."""
    with canvas() as (figure, axes):
        levels = result.levels
        axes.axhline(0, color=MUTED, linewidth=0.9)
        last = [level.last_gap for level in levels]
        line = _points(axes, levels, last, NONE, "validation, at the last epoch")
        line.set_linestyle((0, (4, 3)))
        _points(axes, levels, [level.gap for level in levels], ACCENT, "validation, at best epoch")
        axes.plot(
            [_place(result, refit.p) for refit in result.refits],
            [refit.gap for refit in result.refits],
            linestyle="none",
            marker="D",
            markersize=7,
            markerfacecolor=SURFACE,
            markeredgecolor=INK,
            markeredgewidth=1.5,
            label="test part, refit",
            zorder=5,
        )
        axes.set_ylabel(f"gap in {loss_name(result)}")
        axes.set_title("Train-test gap against p")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
        said = "; ".join(f"p = {spelled(level.p)}: {with_error(level.gap)}" for level in levels)
        tested = "; ".join(
            f"p = {spelled(refit.p)}: {number(refit.gap)}" for refit in result.refits
        )
        svg = inline(
            figure,
            "gap-by-p",
            "Train-test gap against p",
            f"Loss on rows not trained on minus loss on rows trained on, in {loss_name(result)}. "
            f"Validation: {said}. Test part: {tested}.",
            len(levels),
        )
    caption = (
        "Loss on rows that were not trained on, minus loss on those that were, nothing dropped "
        "in either. A wide gap is overfitting."
    )
    return Picture(svg, caption)


def validation_curves(result: Result) -> Picture:
    """Validation loss over the epochs, a line for each p."""
    with canvas() as (figure, axes):
        for rank, level in enumerate(result.levels):
            curve = [max(mean.value, SMALLEST) for mean in level.validation_curve]
            at = result.looks.index(level.epochs)
            axes.plot(
                result.looks[: len(curve)],
                curve,
                color=colour_of(rank),
                linestyle=(0, (4, 2)) if rank == 0 else "-",
                marker=MARKERS[rank % len(MARKERS)],
                markevery=[at],
                markersize=7,
                label=f"p = {spelled(level.p)}",
            )
        _logarithmic(axes)
        _whole_numbers(axes.xaxis)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {loss_name(result)}")
        axes.set_title("Validation loss over the epochs")
        figure.legend(loc="outside lower center", ncols=min(len(result.levels), 3), fontsize=8.5)
        said = "; ".join(
            f"p = {spelled(level.p)}: {number(level.validation['loss'].value)} at epoch "
            f"{level.epochs}, "
            f"{number(level.last_loss.value)} at epoch {level.last_epoch}"
            for level in result.levels
        )
        svg = inline(
            figure, "validation-curves", "Validation loss over the epochs", said, len(result.levels)
        )
    return Picture(svg, "One line for each p, a mark at its best epoch.")


def training_and_validation(result: Result, level: Level) -> Picture:
    """The two curves of one p, on the same axes as those of every other p."""
    rank = result.levels.index(level)
    every = [
        max(mean.value, SMALLEST)
        for one in result.levels
        for mean in (*one.validation_curve, *one.training_curve)
    ]
    with canvas(3.5, 2.6) as (figure, axes):
        validation, training = (
            np.array([[max(m.value, SMALLEST), m.error] for m in curve]).T
            for curve in (level.validation_curve, level.training_curve)
        )
        colour, looks = colour_of(rank), result.looks[: len(level.validation_curve)]
        for values, style in ((training, (0, (2, 1.5))), (validation, "-")):
            low = np.maximum(values[0] - values[1], SMALLEST)
            axes.fill_between(
                looks, low, values[0] + values[1], color=colour, alpha=0.16, linewidth=0
            )
            axes.plot(looks, values[0], color=colour, linestyle=style)
        at = result.looks.index(level.epochs)
        axes.plot([level.epochs], [validation[0][at]], marker="o", color=colour, markersize=6)
        axes.set_ylim(min(every) / 1.3, max(every) * 1.3)
        _logarithmic(axes)
        _whole_numbers(axes.xaxis)
        axes.set_xlabel("epoch")
        axes.set_ylabel(loss_name(result))
        cut = "" if level.finished else ", cut short"
        axes.set_title(f"p = {spelled(level.p)}" + (" (no dropout)" if level.p == 0 else "") + cut)
        svg = inline(
            figure,
            f"curves-{rank}",
            f"Learning curves at p = {spelled(level.p)}",
            f"After {level.last_epoch} epochs the training loss is "
            f"{number(level.training_curve[-1].value)} and the validation loss "
            f"{number(level.validation_curve[-1].value)}, in {loss_name(result)}; "
            f"validation is best at epoch {level.epochs}.",
            len(result.levels),
        )
    return Picture(svg, "")


def predicted_against_true(result: Result) -> Picture:
    """Predictions against the truth on the test part."""
    found = result.predictions
    picked = np.unique(np.linspace(0, len(found.target) - 1, MOST_DOTS).round().astype(int))
    true, said = found.target[picked], found.answers.prediction[picked]
    low, high = min(true.min(), said.min()), max(true.max(), said.max())
    with canvas(4.2, 3.9) as (figure, axes):
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter(true, said, s=20, color=ACCENT, alpha=0.55, linewidths=0)
        axes.set_xlabel("true value (units of the target)")
        axes.set_ylabel("predicted value (units of the target)")
        axes.set_title("Predicted against true (test part)")
        scores = result.refit(result.best.p).test
        svg = inline(
            figure,
            "predicted",
            "Predicted against true values of the test part",
            f"{len(picked)} rows. R² {number(scores['r2'])}, root mean square error "
            f"{number(scores['rmse'])} in the target's units; true values go from "
            f"{number(found.target.min())} to {number(found.target.max())}, predictions from "
            f"{number(found.answers.prediction.min())} to "
            f"{number(found.answers.prediction.max())}.",
            len(result.levels),
        )
    caption = "On the dashed line prediction and truth agree."
    if len(picked) < len(found.target):
        caption += f" {len(picked)} of {len(found.target)} test rows are shown."
    return Picture(svg, caption)


def errors(result: Result) -> Picture:
    """How far off the predictions for the test part are, and to which side."""
    found = result.predictions
    off = found.answers.prediction - found.target
    scores = result.refit(result.best.p).test
    with canvas(4.2, 3.9) as (figure, axes):
        axes.hist(off, bins=min(max(len(off) // 6, 8), 40), color=ACCENT, alpha=0.9, rwidth=0.92)
        axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.grid(axis="x", visible=False)
        _whole_numbers(axes.yaxis)
        axes.set_xlabel("predicted minus true (units of the target)")
        axes.set_ylabel("rows of the test part")
        axes.set_title("Errors (test part)")
        svg = inline(
            figure,
            "errors",
            "Errors of the predictions for the test part",
            f"Predicted minus true, {len(off)} rows: from {number(off.min())} to "
            f"{number(off.max())}, {number(off.mean())} on average, root mean square "
            f"{number(scores['rmse'])}.",
            len(result.levels),
        )
    return Picture(svg, "To the right of the dashed line the prediction is too high.")


def importance(result: Result) -> Picture:
    """How much the test loss rises when a column is shuffled, the most important columns."""
    shown = result.importance[:MOST_COLUMNS]
    names = [clean(one.column, 24) for one in shown]
    with canvas(4.2, max(1.5 + 0.17 * len(shown), 2.2)) as (figure, axes):
        axes.barh(range(len(shown)), [one.value for one in shown], color=ACCENT, height=0.7)
        axes.errorbar(
            [one.value for one in shown], range(len(shown)), xerr=[one.error for one in shown],
            color=INK, linestyle="none", elinewidth=1, capsize=2,
        )  # fmt: skip
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_yticks(range(len(shown)), names, fontsize=8.5)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        # Names take half of the picture, so both are short.
        axes.set_xlabel(f"rise in {loss_name(result)}\nwhen shuffled")
        axes.set_title("What each column is worth")
        said = "; ".join(
            f"{name}: {with_error(Mean(one.value, one.error))}"
            for name, one in zip(names, shown, strict=True)
        )
        svg = inline(
            figure, "importance", "Permutation importance of the columns", f"{said}.",
            len(result.levels),
        )  # fmt: skip
    rest = len(result.importance) - len(shown)
    more = f" {rest} more columns are in metrics.json." if rest > 0 else ""
    caption = (
        "Each column's cells were shuffled among the test rows; bars one standard error over these "
        f"rows. Columns that tell the same share their worth.{more}"
    )
    return Picture(svg, caption)


def masks(result: Result, at: int) -> Picture:
    """The mask of one batch at one site, cell by cell."""
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    shown: ShownMask = result.masks[at]
    keep = shown.keep[:MOST_ROWS, :MOST_UNITS]
    rows, units = keep.shape
    with canvas(3.5, 0.8 + 2.8 * MOST_ROWS / MOST_UNITS) as (figure, axes):
        axes.grid(visible=False)
        axes.set_xlim(0, units)
        axes.set_ylim(rows, 0)
        # All kept, then the dropped ones on top, then the joints: a third of the size of a picture
        # that draws each kept cell.
        axes.add_patch(Rectangle((0, 0), units, rows, facecolor=ACCENT, linewidth=0))
        corners, codes = [], []
        for row, unit in zip(*np.nonzero(~keep), strict=True):
            corners += [(unit, row), (unit + 1, row), (unit + 1, row + 1), (unit, row + 1), (0, 0)]
            codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
        if corners:
            axes.add_patch(PathPatch(Path(corners, codes), facecolor=GRID, linewidth=0))
        joints: dict[str, Any] = {"colors": SURFACE, "linewidth": 0.7}
        axes.vlines(range(1, units), 0, rows, **joints)
        axes.hlines(range(1, rows), 0, units, **joints)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _whole_numbers(axes.xaxis, axes.yaxis)
        axes.set_xlabel("input" if at == 0 else "unit")
        axes.set_ylabel("row of the batch")
        name = "Inputs" if at == 0 else f"Hidden layer {at}"
        axes.set_title(f"{name}: {keep.mean():.0%} kept of these")
        svg = inline(
            figure,
            f"mask-{at}",
            f"Mask of the first batch, {name.lower()}",
            f"{rows} of {shown.shape[0]} rows and {units} of {shown.shape[1]} units; "
            f"{int(keep.sum())} of {keep.size} cells are kept at p = {shown.p:g}. The whole mask "
            f"is thinned.keep_mask({shown.shape}, {shown.p:g}, thinned.{shown.address}).",
            len(result.levels),
        )
    first = int(shown.keep[0].sum())
    return Picture(
        svg,
        f"Filled cells are kept. The first row is trained on {first} of {shown.shape[1]}"
        f"{' inputs' if at == 0 else ' units'}.",
    )
