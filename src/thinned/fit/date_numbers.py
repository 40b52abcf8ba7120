"""Numbers that are dates: 20230325 in themselves, 1679702400 where their column's name says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from thinned.fit.dates import FORMS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLOCK_NAME", "form_of_numbers", "is_called_a_date"]

# Numbers that are dates in themselves: the least and the most, and how many different ones are no
# accident.
_WHOLE = (
    ("20230325", 19000101, 21000000, 2),
    ("202303", 190001, 210000, 4),
    ("20230325101500", 19000101000000, 21000000000000, 2),
    ("20230325101500", 190001010000, 210000000000, 4),  # without seconds
    ("20230325101500", 1900010100, 2100000000, 8),  # hours alone
)
# So many different numbers of hours and minutes whose last two digits are all below 60 are none by
# accident, where the column is called a time.
_ENOUGH_TIMES = 20
CLOCK_NAME = re.compile(
    r"(?i:(.*[_ .-])?(time|hhmm|uhrzeit|zeit|heure|hora|orario|tijd)([_ .-].*)?)|.*[a-z]Time"
)
# Numbers that are dates where the column is called so, from 1980 to 2080 or so.
_COUNTED = {
    "1679702400": (3e8, 3.5e9),
    "1679702400000": (3e11, 3.5e12),
    "45010": (29000.0, 66000.0),
}
_OF_DAYS = r"date|datum|fecha|dato|datetime|date_?time"
_OF_TIMES = rf"{_OF_DAYS}|time|timestamp|time_?stamp|ts|epoch|unix|created|updated|modified"
_CALLED = {
    form: re.compile(
        rf"(?i:(.*[_ .-])?({_OF_DAYS if form == '45010' else _OF_TIMES})([_ .-].*)?|.*_(at|on))"
        r"|.*[a-z](Date|Time|Timestamp|At|On)"
    )
    for form in _COUNTED
}


def is_called_a_date(name: str) -> bool:
    """Whether a column's name says that it holds dates or times."""
    return any(called.fullmatch(name) for called in _CALLED.values())


def form_of_numbers(name: str, cells: pd.Series, kind: str | None = None) -> str | None:
    """The form of dates that all numbers of a column have, None if they are no dates.

    name : the column's. kind : "date" if the user says that they are.
    """
    if cells.dtype.kind not in "iuf" or not cells.notna().any():
        return None
    low, high = cells.min(), cells.max()  # at once for nearly all columns
    for form, least, most, enough in _WHOLE:
        if least <= low and high < most and _are_all(form, cells, enough):
            return form
    for form, (first, last) in _COUNTED.items():
        called = kind == "date" or _CALLED[form].fullmatch(name)
        if called and first <= low < high <= last:
            return form
    if low >= 0 and 100 <= high <= 2400 and CLOCK_NAME.fullmatch(name):
        times = cells.dropna().unique()
        times = times[times >= 100]
        if len(times) >= _ENOUGH_TIMES and _are_all("1405", cells, 2):
            return "1405"
    return None


def _are_all(form: str, cells: pd.Series, enough: int) -> bool:
    """Whether all of these numbers are in the calendar."""
    import pandas as pd

    known = cells.dropna().unique()
    if len(known) < enough or (known != np.round(known)).any():
        return False
    texts = pd.Series(known.astype(np.int64).astype(str), dtype=object)
    return bool(np.isfinite(FORMS[form].days(texts)).all())
