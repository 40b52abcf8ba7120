"""How the texts of a column are read: a value that is found once, and saved with a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.compounds import COMPOUNDS, LENGTH
from thinned.fit.date_parts import part_names, parts
from thinned.fit.dates import FORMS, days_of
from thinned.fit.doubt import option
from thinned.fit.numerals import FAMILIES, STYLES, in_company, taken_apart
from thinned.fit.source import TableFile, text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VERBATIM", "Reading", "applied", "forms", "notes_on"]

# The form of a column that was declared to be text: each cell as it stands, "NA" and "017" too.
VERBATIM = "text"


@dataclass(frozen=True)
class Reading:
    """How a column's texts become values.

    form : a key of `STYLES`, of dates' `FORMS` or of `COMPOUNDS`, or "text".
    before, after : what stands around each number: a currency, a unit; `after` can be a key of
        `FAMILIES`.
    lenient : what has not this form is missing; else it is an error.
    """

    column: str
    form: str
    before: str = ""
    after: str = ""
    lenient: bool = False

    @property
    def dated(self) -> bool:
        """Whether the column holds dates or times of day, which become columns of their own."""
        return self.form in FORMS

    @property
    def makes(self) -> tuple[str, ...]:
        """The columns that it can become."""
        if not self.dated:
            return (self.column,)
        return part_names(self.column, FORMS[self.form])

    def values(self, cells: pd.Series) -> NDArray[np.float64]:
        """The numbers that texts stand for; NaN where one is missing or has not this form.

        Of dates they are days since 1970-01-01, of times of day parts of a day.
        """
        import pandas as pd

        if self.dated:
            codes, texts = pd.factorize(cells)
            days = FORMS[self.form].days(pd.Series(texts, dtype=object))
            return np.append(days, np.nan)[codes]
        if self.form in COMPOUNDS:
            return COMPOUNDS[self.form].values(cells)
        style = STYLES[self.form]
        if not self.before + self.after and (whole := style.at_once(cells)) is not None:
            return whole
        codes, texts = pd.factorize(cells)
        known = np.full(len(texts) + 1, np.nan)  # the last is for the code -1, a missing text
        for i, one in enumerate(taken_apart(texts)):
            one = in_company(one, self.before, self.after)
            # Digits alone are the same number in each style.
            if one is not None and (style.fits(one) or one.digits.isdigit()):
                known[i] = style.value(one)
        return known[codes]


def forms() -> tuple[str, ...]:
    """Every form that a reading can have."""
    return (*STYLES, *FORMS, *COMPOUNDS, VERBATIM)


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
        if reading.dated:
            _take_dates(source, reading)
        elif reading.form == VERBATIM:
            source.frame[reading.column] = source.spelled(reading.column)
        elif (cells := _texts(source, reading.column)) is not None:
            source.frame[reading.column] = _read(source, reading, cells)


def _take_dates(source: TableFile, reading: Reading) -> None:
    """Put the columns that dates become in their place."""
    import pandas as pd

    name, form = reading.column, FORMS[reading.form]
    cells = source.frame[name]
    days = None if form.clock else days_of(cells)
    if days is None:
        numbers = pd.api.types.is_numeric_dtype(cells.dtype) and cells.notna().any()
        if numbers and not form.whole:
            raise source.error(f"column {quoted(name)} holds numbers where the model has dates.")
        texts = cells.map(text_of, na_action="ignore").astype(object)
        days = _read(source, reading, texts.where(texts.notna(), None))
    made = parts(name, days, form)
    for part in made:
        if part in source.frame.columns:
            raise source.error(
                f"the dates of column {quoted(name)} make a column {quoted(part)}, which is there "
                "already; rename it."
            )
    place = list(source.frame.columns).index(name)
    before, after = source.frame.iloc[:, :place], source.frame.iloc[:, place + 1 :]
    new = pd.DataFrame(made, index=source.frame.index)
    source.frame = pd.concat([before, new, after], axis=1)


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
    what = "dates or times" if reading.dated else "numbers"
    raise source.error(
        f"column {quoted(reading.column)} holds {what} as {_example(reading)}; "
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
        if group[0].dated:
            said.append(_dates_note(group, cell))
            continue
        value = group[0].values(pd.Series([cell], dtype=object))[0]
        sentence = (COMPOUNDS | STYLES)[form].sentence
        family = after in FAMILIES
        around = " and ".join(quoted(m) for m in (before, "" if family else after) if m)
        ways = [f"{around} left away"] if around else []
        ways += [FAMILIES[after].said] if family else []
        without = f", {', '.join(ways)}," if ways else ""
        short = form == LENGTH and re.fullmatch(r"[-+]?[0-9]+:[0-9.]+", cell.strip())
        meant = ", its last number being seconds" if short else ""
        said.append(
            f"{sentence}{without} in {listed([one.column for one in group], 3)}: "
            f"{quoted(cell)} is {value:.12g}{meant}."
        )
    return said


def _dates_note(group: list[Reading], cell: str) -> str:
    import pandas as pd

    form, more = FORMS[group[0].form], ""
    value = group[0].values(pd.Series([cell], dtype=object))[0]
    if form.clock:
        minutes = round(value * 1440)
        meant = f"{minutes // 60}:{minutes % 60:02d}"
        made = "columns: the hour (a sine and a cosine)"
        if re.fullmatch(r"[0-9:. ]*", cell):
            more = f" If they are lengths of time, write {option(group[0].column, 'duration')}."
    elif not form.cycles:
        meant, made = (
            str(np.datetime64(int(value), "D"))[:4],
            "a column: the year that each begins in",
        )
    else:
        meant = str(np.datetime64(int(np.floor(value)), "D"))
        *first, last = form.cycles
        cycles = f"{', '.join(first)} and {last}" if first else last
        each = " each" if first else ""
        made = f"columns: days since 1970, the year, and {cycles} (a sine and a cosine{each})"
    return (
        f"{form.sentence} were read in {listed([one.column for one in group], 3)}: {quoted(cell)} "
        f"is {meant}. They become {made}.{more}"
    )
