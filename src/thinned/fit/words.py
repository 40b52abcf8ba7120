"""What dropout did for this data, in plain words."""

from __future__ import annotations

import math

from thinned.errors import quoted
from thinned.fit.results import Comparison, FitSettings, Level, Mean, Refit, Result
from thinned.fit.tables import Task

__all__ = ["HEADLINES", "count", "number", "percent", "sentences", "table", "with_error"]

HEADLINES = {
    "helped": "Dropout helped.",
    "no clear difference": "Dropout made no clear difference.",
    "hurt": "Dropout hurt.",
}


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, and never fewer than its whole part has."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e9 or abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{decimals}f}"


def with_error(mean: Mean, scale: float = 1.0) -> str:
    """A mean and its standard error, both to the second digit of the error: 0.0894 ± 0.0051."""
    value, error = mean.value * scale, mean.error * scale
    if not error or abs(value) >= 1e9 or abs(value) + error < 1e-6:
        return f"{number(value)} ± {number(error, 2)}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def count(n: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def sentences(
    task: Task,
    settings: FitSettings,
    levels: tuple[Level, ...],
    comparison: Comparison,
    refits: tuple[Refit, ...],
    target: str,
) -> tuple[str, ...]:
    """The summary: the comparison, the scores, the gap, the test part, and what to be wary of."""
    none = levels[0]
    some = next(level for level in levels if level.p == comparison.p)
    said = [_loss(task, settings, none, some, comparison), _score(task, none, some, target)]
    said.append(_gap(none, some))
    said.append(_test(task, refits, min(levels, key=lambda one: one.validation["loss"].value)))
    said += _late(task, settings, none, some)
    said += _early(settings, levels)
    return tuple(said)


def _loss(task: Task, settings: FitSettings, none: Level, some: Level, found: Comparison) -> str:
    unit = "nats" if task == "classification" else "squared units of the target"
    what = "log loss" if task == "classification" else "squared error"
    way = "lower" if found.difference < 0 else "higher"
    size = with_error(Mean(abs(found.difference), found.error))
    best = ", the best p above 0," if len(settings.p) > 2 else ""
    start = (
        f"On the same {settings.splits} splits the validation {what} was "
        f"{number(some.validation['loss'].value)} {unit} at p = {some.p:g}{best} and "
        f"{number(none.validation['loss'].value)} without dropout: {way} by {size} (standard "
        "error of the paired difference)."
    )
    if found.verdict == "no clear difference":
        return f"{start} Chance alone may reach {number(found.bound, 2)}, so this may be chance."
    return f"{start} Chance alone would rarely reach {number(found.bound, 2)}."


def _score(task: Task, none: Level, some: Level, target: str) -> str:
    with_, without = some.validation, none.validation
    if task == "classification":
        return (
            f"Validation accuracy was {with_error(with_['accuracy'], 100)} % at p = {some.p:g} and "
            f"{with_error(without['accuracy'], 100)} % without dropout."
        )
    off, off_without = (number(one["rmse"].value) for one in (with_, without))
    return (
        f"Predictions of {quoted(target)} were off by {off} (root mean square, in its own unit) at "
        f"p = {some.p:g} and by {off_without} without dropout; R² was {with_error(with_['r2'])} "
        f"and {with_error(without['r2'])}."
    )


def _gap(none: Level, some: Level) -> str:
    change = "narrower" if some.gap.value < none.gap.value else "wider"
    if abs(some.gap.value - none.gap.value) <= max(some.gap.error, none.gap.error):
        change = "about as wide"
    return (
        f"The gap between training and validation loss was {change} with dropout: "
        f"{with_error(some.gap)} at p = {some.p:g}, {with_error(none.gap)} without."
    )


def _test(task: Task, refits: tuple[Refit, ...], best: Level) -> str:
    none, some = refits
    name = "accuracy" if task == "classification" else "R²"
    key = "accuracy" if task == "classification" else "r2"
    show = percent if task == "classification" else number
    kept = f"p = {best.p:g}" if best.p else "the one without dropout"
    return (
        f"On the test part, which no choice was made on, {name} was {show(some.test[key])} for the "
        f"network refitted at p = {some.p:g} and {show(none.test[key])} for the one refitted "
        f"without dropout; the saved model is {kept if best.p == 0 else 'the one at ' + kept}."
    )


def _late(task: Task, settings: FitSettings, none: Level, some: Level) -> list[str]:
    """What longer training does, where it does something to either."""
    if none.epochs == some.epochs == settings.epochs:
        return []
    said = (
        f"Each p was stopped at its own best epoch ({some.epochs} at p = {some.p:g}, {none.epochs} "
        f"without dropout). Trained on to epoch {settings.epochs}, the validation loss is "
        f"{number(some.last_loss.value)} and {number(none.last_loss.value)}."
    )
    return [said]


def _early(settings: FitSettings, levels: tuple[Level, ...]) -> list[str]:
    """The ps whose loss was lowest when training ended."""
    still = [f"{level.p:g}" for level in levels if level.epochs == settings.epochs]
    if not still:
        return []
    which = still[0] if len(still) == 1 else f"{', '.join(still[:-1])} and {still[-1]}"
    return [f"At p = {which} the loss was lowest at the last epoch: more epochs may do better."]


def table(result: Result) -> str:
    """The levels as text, in columns of even width."""
    classes = result.data.task == "classification"
    unit = "nats" if classes else "target²"
    head = ["p", "epochs", f"validation loss ({unit})"]
    head += ["accuracy (%)"] if classes else ["RMSE", "R²"]
    rows = [[*head, "training loss", "gap"]]
    for level in result.levels:
        row = [f"{level.p:g}", str(level.epochs), with_error(level.validation["loss"])]
        if classes:
            row.append(with_error(level.validation["accuracy"], 100))
        else:
            row += [with_error(level.validation[key]) for key in ("rmse", "r2")]
        rows.append([*row, with_error(level.training["loss"]), with_error(level.gap)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines[1 + result.levels.index(result.best)] += "  <- lowest loss"
    return "\n".join(lines)
