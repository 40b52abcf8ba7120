"""The table at a glance: what each column holds, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinned.errors import quoted
from thinned.fit.encoding import FURTHEST, MISSING, Encoder
from thinned.fit.numerals import FAMILIES

if TYPE_CHECKING:
    from thinned.fit.tables import Problem

__all__ = ["ColumnFacts", "overview_of"]

MOST_TEXTS = 3


@dataclass(frozen=True)
class ColumnFacts:
    """One column that is learned from.

    kind : "number", "text" or "yes or no". missing : cells without a value. low, middle, high :
    least, median and greatest of the numbers. texts : the commonest texts with their numbers of
    rows; `different` counts all of them. inputs : of the network. done : what was made of it.
    """

    name: str
    kind: str
    missing: int
    different: int
    inputs: int
    done: str
    low: float | None = None
    middle: float | None = None
    high: float | None = None
    texts: tuple[tuple[str, int], ...] = ()


def overview_of(problem: Problem, encoder: Encoder) -> tuple[ColumnFacts, ...]:
    """The columns in the table's order. encoder : of the refits."""
    numeric = {one.name: one for one in encoder.numeric}
    texts = {one.name: one for one in encoder.texts}
    read = {name: one for one in problem.readings for name in one.makes}
    found = []
    for column in problem.columns:
        cells = problem.features[column.name]
        known = cells.dropna()
        missing, different = len(cells) - len(known), int(known.nunique())
        reading = read.get(column.name)
        start = _reading(column.name, reading)
        if column.name in numeric:
            values = known.to_numpy(np.float64)
            done = f"{start}scaled to mean 0 and variance 1"
            if missing:
                done += f"; missing cells became {numeric[column.name].median:.6g}"
            if _clipped(values, numeric[column.name]):
                done += f"; beyond {FURTHEST:g} deviations clipped"
            middle = float(np.median(values))
            found.append(
                ColumnFacts(
                    column.name, "number", missing, different, 1, done,
                    float(values.min()), middle, float(values.max()),
                )
            )  # fmt: skip
            continue
        coded = texts[column.name]
        done = f"{start}an input for each text"
        if MISSING in (*coded.own, *coded.rare):
            done += ", missing cells being one"
        if coded.rare:
            done += f"; the {len(coded.rare)} rarest share one"
        common = known.value_counts(sort=True).head(MOST_TEXTS)
        found.append(
            ColumnFacts(
                column.name, "yes or no" if column.kind == "bool" else "text", missing, different,
                coded.inputs, done,
                texts=tuple((str(text), int(n)) for text, n in common.items()),
            )
        )  # fmt: skip
    return tuple(found)


def _reading(name: str, reading: Any) -> str:
    if reading is None:
        return ""
    if reading.dated:
        return f"made from the dates of {quoted(reading.column)}; "
    family = FAMILIES.get(reading.after)
    around = [part for part in (reading.before, "" if family else reading.after) if part.strip()]
    said = f", {' and '.join(map(quoted, around))} left away" if around else ""
    said += f", {family.said}" if family else ""
    return f"read as {reading.form}{said}; "


def _clipped(values: Any, number: Any) -> bool:
    return bool((np.abs(values - number.mean) > FURTHEST * number.scale).any())
