"""How the texts of a column are read: a value that is found once, and saved with a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.numerals import STYLES, taken_apart
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VERBATIM", "Reading", "applied", "forms", "notes_on"]

# The form of a column that was declared to be text: each cell as it stands, "NA" and "017" too.
VERBATIM = "text"


@dataclass(frozen=True)
class Reading:
    """How a column's texts become values.

    form : a key of `STYLES`, or "text".
    before, after : what stands around each number: a currency, a unit.
    lenient : what has not this form is missing; else it is an error.
    """

    column: str
    form: str
    before: str = ""
    after: str = ""
    lenient: bool = False

    def values(self, cells: pd.Series) -> NDArray[np.float64]:
        """The numbers that texts stand for; NaN where one is missing or has not this form."""
        import pandas as pd

        style = STYLES[self.form]
        if not self.before + self.after and (whole := style.at_once(cells)) is not None:
            return whole
        codes, texts = pd.factorize(cells)
        known = np.full(len(texts) + 1, np.nan)  # the last is for the code -1, a missing text
        for i, one in enumerate(taken_apart(texts)):
            fits = one is not None and (one.before, one.after) == (self.before, self.after)
            if one is not None and fits and style.fits(one):
                known[i] = style.value(one)
        return known[codes]


def forms() -> tuple[str, ...]:
    """Every form that a reading can have."""
    return (*STYLES, VERBATIM)


def applied(source: TableFile, readings: Iterable[Reading]) -> None:
    """Read the columns of a table, in place.

    A column that the file gives as numbers already stays what it is.

    Raises
    ------
    InputError at a cell that has not the form that it must have.
    """
    for reading in readings:
        if reading.column not in source.frame.columns:
            continue  # the target of new data, say
        if reading.form == VERBATIM:
            source.frame[reading.column] = source.spelled(reading.column)
        elif (cells := _texts(source, reading.column)) is not None:
            source.frame[reading.column] = _read(source, reading, cells)


def _texts(source: TableFile, name: str) -> pd.Series | None:
    """The texts of a column as they stand, None where the file itself holds numbers."""
    import pandas as pd

    cells = source.frame[name]
    if not pd.api.types.is_numeric_dtype(cells.dtype):
        return cells
    if source.text is None:
        return None
    return source.spelled(name).where(cells.notna(), None)


def _read(source: TableFile, reading: Reading, cells: pd.Series) -> NDArray[np.float64]:
    values = reading.values(cells)
    wrong = np.flatnonzero(np.isnan(values) & cells.notna().to_numpy())
    if not wrong.size or (reading.lenient and wrong.size < cells.notna().sum()):
        if wrong.size:
            words = list(dict.fromkeys(cells.iloc[wrong]))
            source.notes.append(
                f"Column {quoted(reading.column)}: {listed(words, 3)} taken for missing "
                f"({wrong.size} row{'s' * (wrong.size > 1)}), as --type says."
            )
        return values
    raise source.error(
        f"column {quoted(reading.column)} holds numbers as {_example(reading)}; "
        f"{source.row(int(wrong[0]))} holds {quoted(cells.iloc[wrong[0]])}."
    )


def _example(reading: Reading) -> str:
    return quoted(f"{reading.before}{reading.form}{reading.after and ' ' + reading.after}")


def notes_on(readings: Iterable[Reading], examples: dict[str, str]) -> list[str]:
    """A sentence for each way of reading. examples : for each column a cell that shows it."""
    import pandas as pd

    alike: dict[tuple[str, str, str], list[Reading]] = {}
    for one in readings:
        if one.column in examples:
            alike.setdefault((one.form, one.before, one.after), []).append(one)
    said = []
    for (form, before, after), group in alike.items():
        cell = examples[group[0].column]
        value = group[0].values(pd.Series([cell], dtype=object))[0]
        around = " and ".join(quoted(mark) for mark in (before, after) if mark)
        without = f", {around} left away," if around else ""
        said.append(
            f"{STYLES[form].sentence}{without} in {listed([one.column for one in group], 3)}: "
            f"{quoted(cell)} is {value:.12g}."
        )
    return said
