"""Numbers as they are shown, and the results as tables of text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinned.fit.rate import spelled
from thinned.fit.results import Mean, Result
from thinned.fit.target import Task

__all__ = [
    "Shown",
    "baseline_table",
    "count",
    "duration",
    "number",
    "percent",
    "shown_measures",
    "table",
    "unit_of",
    "with_error",
]


def number(value: float, digits: int = 3) -> str:
    """A number with this many significant digits, and never fewer than its whole part has."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e9 or abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{decimals}f}"


def with_error(mean: Mean, scale: float = 1.0) -> str:
    """A mean and its standard error, both to the second digit of the error: 0.0894 ± 0.0051. What
    cannot vary (an error of 0) stands alone."""
    value, error = mean.value * scale, mean.error * scale
    if not error:
        return number(value)
    if abs(value) >= 1e9 or abs(value) + error < 1e-6:
        return f"{number(value)} ± {number(error, 2)}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def count(n: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def duration(seconds: float) -> str:
    """A time as a person says it: 35 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Shown:
    """A measure as a column of a table."""

    name: str
    head: str
    unit: str = ""
    scale: float = 1.0

    def of(self, mean: Mean) -> str:
        return with_error(mean, self.scale)


def shown_measures(result: Result) -> list[Shown]:
    """The measures beside the loss: more of them for unbalanced classes, and the chosen one."""
    if result.data.task == "regression":
        columns = [Shown("rmse", "RMSE", "units of the target"), Shown("r2", "R²")]
        more = [Shown("mae", "MAE", "units of the target")]
    else:
        accuracy = Shown("accuracy", "accuracy (%)", "%", 100)
        balanced = Shown("balanced_accuracy", "balanced accuracy (%)", "%", 100)
        more = [Shown("auc", "AUC"), Shown("average_precision", "average precision")]
        columns, more = [accuracy], [balanced, *more]
        if result.data.unbalanced:
            columns, more = [balanced, *more[1:]], [accuracy]
    return columns + [one for one in more if one.name == result.settings.metric]


def unit_of(task: Task) -> str:
    """The loss's unit, in a table."""
    return "nats" if task == "classification" else "target²"


def table(result: Result) -> str:
    """The levels as text, in columns of even width."""
    task, columns = result.data.task, shown_measures(result)
    head = ["p", "epochs", f"validation loss ({unit_of(task)})", *(one.head for one in columns)]
    wide = len(columns) < 3
    head += [*(["training loss"] if wide else []), "gap"]
    rows = [head]
    for level in result.levels:
        epochs = f"{level.epochs}{'' if level.finished else '+'}"
        row = [f"{spelled(level.p)}", epochs, with_error(level.validation["loss"])]
        row += [one.of(level.validation[one.name]) for one in columns]
        row += [with_error(level.training["loss"])] if wide else []
        rows.append([*row, with_error(level.gap)])
    lines = _even(rows)
    name = result.settings.metric.replace("_", " ").replace("auc", "AUC")
    mark = "lowest" if result.metric.cost(1.0) > 0 else "highest"
    lines[1 + result.levels.index(result.best)] += f"  <- {mark} {name}"
    return "\n".join(lines)


def baseline_table(result: Result) -> str:
    """The simple models beside the saved one, as text."""
    from thinned.fit.baselines import called

    task, columns = result.data.task, shown_measures(result)
    head = ["beside it", f"validation loss ({unit_of(task)})", *(one.head for one in columns)]
    rows = [[*head, "on the test part"]]
    for base in result.baselines:
        row = [called(base.name, task), with_error(base.validation["loss"])]
        row += [one.of(base.validation[one.name]) for one in columns]
        first = columns[0]
        row.append(first.of(Mean(base.test[first.name], base.errors[first.name])))
        rows.append(row)
    return "\n".join(_even(rows, left=1))


def _even(rows: list[list[str]], left: int = 0) -> list[str]:
    """Rows as lines; the first `left` columns flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
