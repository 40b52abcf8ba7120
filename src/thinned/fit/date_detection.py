"""Finding out how the dates and times of a column are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit.date_numbers import form_of_numbers
from thinned.fit.dates import FORMS, Counted, in_another_calendar, in_western_digits
from thinned.fit.doubt import MANY_VALUES, are_few, count, differing, option, row_of, stray
from thinned.fit.readings import Reading
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["declared_dates", "form_of_dates", "form_of_typed"]

# The forms that --type allows for what it says.
_DECLARED = {
    "date": tuple(form for form, way in FORMS.items() if not isinstance(way, Counted)),
    "day/month/year": (
        *("25/03/2023", "25.03.2023", "25 Mar 2023"),
        *("25/03/23", "25.03.23", "25-Mar-23"),
    ),
    "month/day/year": ("03/25/2023", "Mar 25, 2023", "03/25/23"),
}
# How months are spelled that are read as numbers, and so many different ones are no accident.
_DECIMAL_MONTHS = {
    "03.2023": r"(?:0?[1-9]|1[0-2])\.(?:1[89]|2[01])[0-9]{2}",
    "2023.03": r"(?:1[89]|2[01])[0-9]{2}\.(?:0[1-9]|1[0-2])",
}
_ENOUGH_MONTHS = 8
# If none of this many texts of a column is a date, the rest is not looked at.
FIRST = 50
# What every date and time has: to look for this takes less time than to look for each form.
_HINT = re.compile(
    r"[0-9]\s?[-/.:\u2010-\u2014]\s?[0-9]|[^\W\d_]{3}.{0,40}[0-9]{4}|[0-9][\s:/-]?[QqWTKMmHS]"
    r"|^(?:[QqWTHS]|KW)\s?[0-9]|^[1-4]\.\s?Q|[0-9][\u5e74\ub144]|^[12][0-9]{5}(?:[0-9]{2})?$"
    r"|[0-9]\s?[AaPp]\.?\s?[Mm]|[0-9]h[0-9]|^[12][0-9]{3}(?:[\s.].*[0-9]|[\s,./-]*[^\W\d_]{3})"
)


def form_of_typed(source: TableFile, name: str, kind: str | None) -> str | None:
    """The form of dates that all numbers of a column have; None if they are no dates, or no
    numbers. kind : "date" if the user says that they are dates."""
    cells = source.frame[name]
    return form_of_numbers(name, cells, kind) or _months_as_decimals(source, name)


def _months_as_decimals(source: TableFile, name: str) -> str | None:
    """The form of months written as 03.2023 or 2023.03, which are numbers to a reader of CSV.

    All cells are such: prices of many values are not by accident.
    """
    cells = source.frame[name]
    if source.text is None or cells.dtype.kind != "f":
        return None
    for form, spelled in _DECIMAL_MONTHS.items():
        low, high = cells.min(), cells.max()  # at once for nearly all columns
        first = cells.dropna().iloc[:FIRST].map(str).astype(object)
        if not 1.0 <= low <= high < 2200.0 or not np.isfinite(FORMS[form].days(first)).all():
            continue
        known = source.spelled(name)[cells.notna().to_numpy()]
        if known.nunique() >= _ENOUGH_MONTHS and known.str.strip().str.fullmatch(spelled).all():
            return form
    return None


def form_of_dates(source: TableFile, name: str, cells: pd.Series) -> str | None:
    """The form that all cells of a column have, None if they are no dates.

    Raises
    ------
    InputError if they have two forms that make other days of them, or nearly all have one.
    """
    first = in_western_digits(cells[:FIRST])
    if not any(map(_HINT.search, first)) or not (some := _days(first)):
        return None
    texts = cells.drop_duplicates()
    # A form that all have is one that the first have: the others need not be tried on all.
    fitting = _days(texts, [form for form, days in some.items() if np.isfinite(days).all()])
    whole = [form for form, days in fitting.items() if np.isfinite(days).all()]
    if not whole:
        if not in_another_calendar(texts):
            _check_strays(source, name, cells, texts, _days(texts))
        return None
    best = next((form for form in whole if FORMS[form].sure), whole[0])
    if FORMS[best].sure:
        return best
    if "(?P<short>" in FORMS[best].pattern and _year_may_be_first(texts):
        return None
    for form in whole[1:]:
        differs = np.flatnonzero(fitting[form] != fitting[best])
        if differs.size:
            raise _either(source, name, texts.iloc[int(differs[0])], best, form)
    return best


def _year_may_be_first(texts: pd.Series) -> bool:
    """Whether the last of three numbers looks as days do, and the first as years do, in dates whose
    years have two digits."""
    parts = in_western_digits(texts).str.extract(r"([0-9]{1,2})\D.*?\D([0-9]{1,2})(?:\s.*)?$")
    first, last = parts[0].nunique(), parts[1].nunique()
    return last > max(first, 12)


def _days(texts: pd.Series, forms: Iterable[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """The days that texts stand for under each form that any of them has. forms : None tries all
    that texts can have."""
    if forms is None:
        forms = (form for form, way in FORMS.items() if not isinstance(way, Counted))
    found = {form: FORMS[form].days(texts) for form in forms}
    return {form: days for form, days in found.items() if np.isfinite(days).any()}


def _either(source: TableFile, name: str, text: str, form: str, other: str) -> InputError:
    import pandas as pd

    days: Any = [int(FORMS[one].days(pd.Series([text], dtype=object))[0]) for one in (form, other)]
    meant = " or ".join(str(np.datetime64(day, "D")) for day in days)
    return source.error(
        f"column {quoted(name)}, {row_of(source, name, text)} holds {quoted(text)}, which can be "
        f"{meant}, and no row decides; write {option(name, 'day/month/year')} or "
        f"{option(name, 'month/day/year')}."
    )


def _check_strays(
    source: TableFile,
    name: str,
    cells: pd.Series,
    texts: pd.Series,
    fitting: Mapping[str, NDArray[np.float64]],
) -> None:
    """Refuse a column that is dates but for a few cells, or dates written in several ways."""
    best = max(fitting, key=lambda form: int(np.isfinite(fitting[form]).sum()))
    some = np.any([np.isfinite(days) for days in fitting.values()], axis=0)
    words = list(texts[~some])
    if not words:
        good = np.isfinite(fitting[best])
        one, other = texts[good].iloc[0], texts[~good].iloc[0]
        raise differing(source, name, one, other, "dates are written in several ways", "date")
    good = np.isfinite(fitting[best])
    if len(texts) - int(good.sum()) == len(words) and are_few(cells, list(texts[good]), words):
        raise stray(source, name, "times" if FORMS[best].clock else "dates", words)
    rows = int(cells.isin(list(texts[some])).sum())
    if some.sum() >= MANY_VALUES and 2 * rows >= len(cells):
        alike = (some == good).all()
        ways = "" if alike else ", written in several ways,"
        use = f"{option(name, 'date')} takes these for missing" if alike else "write all in one way"
        source.notes.append(
            f"Column {quoted(name)} was read as texts: it holds dates{ways} in "
            f"{count(rows, 'row')} and others, as {quoted(words[0])}, in {len(cells) - rows:,}; "
            f"{use}."
        )


def declared_dates(source: TableFile, name: str, cells: pd.Series, kind: str) -> Reading:
    """The reading of a column that the user says holds dates: what most of its cells have."""
    fitting = {form: int(np.isfinite(FORMS[form].days(cells)).sum()) for form in _DECLARED[kind]}
    best = max(fitting, key=lambda form: fitting[form])  # the first of equals
    if not fitting[best]:
        text = cells.iloc[0]
        raise source.error(
            f"column {quoted(name)} holds no {kind}, as --type says it does; "
            f"{row_of(source, name, text)} holds {quoted(text)}."
        )
    rival = "03/25/2023"
    if kind == "date" and best == "25/03/2023" and fitting[rival] == fitting[best]:
        ours, theirs = (FORMS[form].days(cells) for form in (best, rival))
        either = np.flatnonzero(np.isfinite(ours) & np.isfinite(theirs) & (ours != theirs))
        if either.size:
            raise _either(source, name, cells.iloc[int(either[0])], best, rival)
        one, other = (cells[np.isfinite(days)].iloc[0] for days in (ours, theirs))
        if one != other:
            why = "as many begin with the day as with the month"
            raise differing(source, name, one, other, why, "day/month/year")
    return Reading(name, best, lenient=True)
