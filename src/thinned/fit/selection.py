"""Which columns are learned from: those that say nothing, or too much, are left out by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.beginnings import YEARS
from thinned.fit.dates import are_unknown_months, in_another_calendar, two_digit_years
from thinned.fit.kinds import Column, Kind, check_values, kind_of
from thinned.fit.remarks import (
    OLD,
    note_alike,
    note_calendar,
    note_copies,
    note_far_date,
    note_no_values,
    note_row_names,
    note_telling,
    note_texts,
    numbers_in,
)
from thinned.fit.source import TableFile
from thinned.fit.target import Goal, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["selected"]

# A text column with more different values than this, most of them in one row only, names its rows;
# and so does one with another text in each of so many rows.
MANY_TEXTS, IDENTIFIER_SHARE, MANY_ROWS = 50, 0.5, 13
# Rows that show what most columns are not, before all are looked at.
FIRST_ROWS = 100
# Names under which different whole numbers in all rows are numbers of rows, and no quantity.
_ID = re.compile(
    r"(?i:(.*[_ .-])?(id|uid|uuid|index|idx|key|no\.?|nr\.?|row|row[_ .-]?(names?|no|nr|id|number)|"
    r"obs|observation|case|resp|respondent|unnamed: ?\d+|(case|user|customer|client|person|patient|"
    r"subject|sample|record|order|product|item|house|hh|site|student|employee|member|account)id))"
    r"|.*[a-z]I[dD]"
)


def selected(
    source: TableFile,
    names: Collection[str],
    goals: Sequence[Goal],
    rows: NDArray[np.intp],
    keep: Collection[str] = (),
    made: Collection[str] = (),
) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """The columns to learn from, and their cells. Notes name the others, and why.

    Parameters
    ----------
    source : TableFile, read.
    names : columns besides the targets.
    goals : the targets, with class numbers or values for each of `rows`.
    rows : positions of the rows that are learned from.
    keep : columns that are learned from whatever they hold.
    made : columns that dates have become: they neither number rows nor copy a target.
    """
    import pandas as pd

    kept: list[Column] = []
    out: dict[str, Any] = {}
    left_out: dict[str, list[str]] = {}
    for name in names:
        kind, cells = kind_of(source, name)
        learned = cells.iloc[rows]
        reason = _useless(kind, learned) or _of_a_month(source, name, made)
        if not reason and name not in made:
            reason = _telling(name, kind, cells, learned, goals)
        if reason and not (name in keep and kind != "date" and learned.notna().any()):
            left_out.setdefault(reason, []).append(name)
            continue
        if kind == "numeric":
            check_values(source, name, cells.to_numpy(np.float64))
            _note_numbers(source, name, learned.to_numpy(np.float64), name in made)
        if kind == "text":
            note_alike(source, name, cells)
            note_texts(source, name, cells)
        if name not in made and not reason:
            note_telling(source, name, kind, learned, goals)
        kept.append(Column(name, cast(Kind, kind)))
        out[name] = cells
    for reason, those in left_out.items():
        what = "Column" if len(those) == 1 else "Columns"
        source.notes.append(f"{what} left out: {listed(those)} ({reason}).")
    frame = pd.DataFrame(out, copy=False)  # a large table is not held twice
    if kept:
        note_copies(source, frame.iloc[rows] if len(rows) < len(frame) else frame, goals)
    return tuple(kept), frame


def _note_numbers(source: TableFile, name: str, values: NDArray[np.float64], made: bool) -> None:
    """Point out what numbers may be besides quantities. made : of dates."""
    if not made:
        note_no_values(source, name, values)
        note_row_names(source, name, values)
    elif name.endswith(": days"):
        note_far_date(source, name.removesuffix(": days"), values)
        note_calendar(source, name.removesuffix(": days"), values)


def _useless(kind: str, cells: pd.Series) -> str:
    """Why a column has nothing to learn from, or an empty string."""
    if kind == "numeric" and cells.iloc[:FIRST_ROWS].nunique() > 1:  # as nearly all show at once
        return ""
    known = cells.dropna()
    if not len(known):
        return "no value in any row"
    if kind == "date":
        return "lengths of time; make numbers of them (days, seconds) to use it"
    if kind == "numeric":  # without counting all different numbers, which takes long
        return "the same value in every row" if known.min() == known.max() else ""
    different = known.nunique()
    if different == 1 and len(known) == len(cells):
        return "the same value in every row"
    if kind == "text":
        if are_unknown_months(known):
            return "dates whose months' names are not known here; write 2023-03-25 to use it"
        if in_another_calendar(known):
            return "dates of another calendar (Persian, Islamic); convert them to use it"
        if two_digit_years(known):
            return "dates whose years have two digits; write all four to use it"
        many = different > MANY_TEXTS and different > IDENTIFIER_SHARE * len(known)
        if many or different == len(known) >= MANY_ROWS:
            what, use = numbers_in(known)
            what = f"with {what}; {use}" if what else "which name rows"
            return f"{different} different texts in {len(known)} rows, {what}"
    return ""


def _of_a_month(source: TableFile, name: str, made: Collection[str]) -> str:
    """Why the weekday of dates says nothing: each is the first of a month, for which it stands."""
    column, _, part = name.rpartition(": ")
    days = f"{column}: days"
    if name not in made or not part.startswith("weekday") or days not in source.frame.columns:
        return ""
    known = source.frame[days].dropna().to_numpy(np.float64)
    dates = np.floor(known).astype("datetime64[D]")
    first = (known == np.floor(known)).all() and (dates == dates.astype("datetime64[M]")).all()
    return "each date is the first of a month" if first else ""


def _telling(
    name: str,
    kind: str,
    cells: pd.Series,
    learned: pd.Series,
    goals: Sequence[Goal],
) -> str:
    """Why a column says which row it is, or what the target is; or an empty string."""
    if kind == "numeric" and _counts(name, cells.to_numpy(np.float64)):
        return f"it numbers the rows; --keep {quoted(name)} uses it"
    for goal in goals:
        if _is_copy(learned, goal.target, goal.task):
            return f"a copy of the target{_which(goal, goals)}; --keep {quoted(name)} uses it"
    return ""


def _which(goal: Goal, goals: Sequence[Goal]) -> str:
    """The name of a target where there are several."""
    return f" {quoted(goal.name)}" if len(goals) > 1 else ""


def _counts(name: str, values: NDArray[np.float64]) -> bool:
    """Whether a column goes up or down by 1 in each row, or has the name of such a one and a whole
    number of its own in each row. Years may go up by 1."""
    if not np.isfinite(values).all():
        return False
    if not _ID.fullmatch(name) and not np.isin(np.diff(values[:3]), (1.0, -1.0)).all():
        return False  # as the first rows of nearly all columns show
    steps = np.diff(values)
    if (steps == 1.0).all() or (steps == -1.0).all():
        low, high = float(values.min()), float(values.max())
        first = YEARS[0] if "year" in name.lower() else OLD
        return low == np.round(low) and not (first <= low and high <= YEARS[1])
    if not _ID.fullmatch(name):
        return False
    return bool((values == np.round(values)).all()) and len(np.unique(values)) == len(values)


def _is_copy(cells: pd.Series, target: NDArray[Any], task: Task) -> bool:
    """Whether the known cells of a column are the target's, in other words or units perhaps."""
    if task == "classification" and cells.iloc[:FIRST_ROWS].nunique() > target.max() + 1:
        return False
    there = cells.notna().to_numpy()
    if there.sum() * 2 < len(there):
        return False
    known, y = cells[there], target[there]
    if task == "classification":
        # As many different cells as classes, and as many pairs of them: one word for each class.
        most = int(y.max()) + 1
        if known.head(MANY_TEXTS * most).nunique() > most:
            return False
        different = known.nunique()
        if different != len(np.unique(y)) or different < 2:
            return False
        codes = np.unique(known.to_numpy(), return_inverse=True)[1]
        return len(np.unique(codes * (int(y.max()) + 1) + y)) == different
    if known.dtype.kind != "f":
        return False
    x = known.to_numpy(np.float64)
    if np.array_equal(x, y):
        return True
    if not np.ptp(x) or not np.ptp(y) or np.abs(x).max() > 1e100 or len(x) < 3:
        return False
    # In other units: a straight line through all points, as far as binary64 can tell.
    a, b = (v / np.abs(v).max() for v in (x - x.mean(), y - y.mean()))
    return bool(np.abs(a - np.sign(a @ b) * b).max() < 1e-9)
