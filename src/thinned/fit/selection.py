"""Which columns are learned from: those that say nothing, or too much, are left out by name."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.beginnings import YEARS
from thinned.fit.dates import two_digit_years
from thinned.fit.doubt import count
from thinned.fit.kinds import Column, Kind, check_values, kind_of
from thinned.fit.source import TableFile
from thinned.fit.target import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["note_alike", "selected"]

# A text column with more different values than this, most of them in one row only, names its rows.
MANY_TEXTS, IDENTIFIER_SHARE = 50, 0.5
# A share of texts that have the same form.
SAME_FORM = 0.8
# Whole numbers with so many digits each are codes more often than counts.
_LONG, _LONGEST = 1e8, 1e17
# Numbers that stand for no value in many tables, where they are far from all others.
_NO_VALUES = frozenset(
    sign * number for number in (9, 99, 999, 9999, 99999, 999999) for sign in (1, -1)
)
_NO_VALUES |= {-1}
# From this correlation on a column looks as if it were computed from the quantity.
NEARLY = 0.999
# This many rows, or fewer, are put in order before all are.
FIRST_ORDERED = 1000
# Rows that a text must have on average for its class to be no accident.
FEWEST_OF_TEXT = 5
# Names under which different whole numbers in all rows are numbers of rows, and no quantity.
_ID = re.compile(
    r"(?i:(.*[_ .-])?(id|uid|uuid|index|idx|key|no\.?|nr\.?|row|row[_ .-]?(names?|no|nr|id|number)|"
    r"obs|observation|case|unnamed: ?\d+))|.*[a-z]I[dD]"
)


def selected(
    source: TableFile,
    names: Collection[str],
    target: NDArray[Any],
    rows: NDArray[np.intp],
    task: Task,
    keep: Collection[str] = (),
    made: Collection[str] = (),
) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """The columns to learn from, and their cells. Notes name the others, and why.

    Parameters
    ----------
    source : TableFile, read.
    names : columns besides the target.
    target : class numbers or values, one for each of `rows`.
    rows : positions of the rows that are learned from.
    task : what the target is.
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
        reason = _useless(kind, learned)
        if not reason and name not in made:
            reason = _telling(name, kind, cells, learned, target, task)
        if reason and not (name in keep and kind != "date" and learned.notna().any()):
            left_out.setdefault(reason, []).append(name)
            continue
        if kind == "numeric":
            check_values(source, name, cells.to_numpy(np.float64))
            _note_no_values(source, name, cells.to_numpy(np.float64))
            if name not in made:
                _note_row_names(source, name, cells.to_numpy(np.float64))
        if kind == "text":
            note_alike(source, name, cells)
        if name not in made and not reason:
            _note_telling(source, name, kind, learned, target, task)
        kept.append(Column(name, cast(Kind, kind)))
        out[name] = cells
    for reason, those in left_out.items():
        what = "Column" if len(those) == 1 else "Columns"
        source.notes.append(f"{what} left out: {listed(those)} ({reason}).")
    return tuple(kept), pd.DataFrame(out, copy=False)  # a large table is not held twice


def _useless(kind: str, cells: pd.Series) -> str:
    """Why a column has nothing to learn from, or an empty string."""
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
        if two_digit_years(known):
            return "dates whose years have two digits; write all four to use it"
        if different > MANY_TEXTS and different > IDENTIFIER_SHARE * len(known):
            return f"{different} different texts in {len(known)} rows, {_what_texts_are(known)}"
    return ""


def _what_texts_are(texts: pd.Series) -> str:
    """What nearly as many different texts as rows are: names, or values of a form of their own."""
    forms = texts.str.strip().str.replace(r"[0-9]+(?:\.[0-9]+)?", "9", regex=True)
    form = str(forms.mode().iloc[0])
    if (forms == form).mean() >= SAME_FORM and re.search("9[^A-Za-z0-9]+9", form):
        cell = texts[forms == form].iloc[0]
        return f"with several numbers in each, as {quoted(cell)}; a column for each could be used"
    return "which name rows"


def _telling(
    name: str,
    kind: str,
    cells: pd.Series,
    learned: pd.Series,
    target: NDArray[Any],
    task: Task,
) -> str:
    """Why a column says which row it is, or what the target is; or an empty string."""
    if kind == "numeric" and _counts(name, cells.to_numpy(np.float64)):
        return f"it numbers the rows; --keep {quoted(name)} uses it"
    if _is_copy(learned, target, task):
        return f"a copy of the target; --keep {quoted(name)} uses it"
    return ""


def _counts(name: str, values: NDArray[np.float64]) -> bool:
    """Whether a column goes up or down by 1 in each row, or has the name of such a one and a whole
    number of its own in each row. Years may go up by 1."""
    if not np.isfinite(values).all():
        return False
    steps = np.diff(values)
    if (steps == 1.0).all() or (steps == -1.0).all():
        low, high = float(values.min()), float(values.max())
        return low == np.round(low) and not (YEARS[0] <= low and high <= YEARS[1])
    if not _ID.fullmatch(name):
        return False
    return bool((values == np.round(values)).all()) and len(np.unique(values)) == len(values)


def _is_copy(cells: pd.Series, target: NDArray[Any], task: Task) -> bool:
    """Whether the known cells of a column are the target's, in other words or units perhaps."""
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


def _note_no_values(source: TableFile, name: str, values: NDArray[np.float64]) -> None:
    """Point out a number that may stand for no value: -999 where all others are from 0 to 50."""
    known = values[np.isfinite(values)]
    for extreme in (float(known.min()), float(known.max())):
        if extreme not in _NO_VALUES:
            continue
        others = known[known != extreme]
        rows = len(known) - len(others)
        if rows < 2 or len(others) < 2 or len(np.unique(others)) < 3:
            continue
        if np.abs(others - extreme).min() > max(float(np.ptp(others)), 1.0):
            source.notes.append(
                f"Column {quoted(name)} holds {extreme:g} in {count(rows, 'row')}, far from all "
                "other "
                f'numbers: if it says that there is none, write --missing "{extreme:g}".'
            )


def _note_row_names(source: TableFile, name: str, values: NDArray[np.float64]) -> None:
    """Point out whole numbers, each in one row, that may name or number rows: they rise from row to
    row, or are long and have the same number of digits."""
    if len(values) < MANY_TEXTS or not np.isfinite(values).all() or (values % 1).any():
        return
    steps = np.diff(values)
    why = ""
    if (steps > 0).all() and len({*steps[:FIRST_ORDERED].tolist()}) > 1:
        why = "rises from each row to the next, as numbers of rows do"
    elif values.min() >= _LONG and values.max() < _LONGEST:
        digits = np.floor(np.log10(values))
        if (digits == digits[0]).all() and len(np.unique(values)) == len(values):
            why = f"has another number of {int(digits[0]) + 1} digits in each row, as codes are"
    if why:
        source.notes.append(
            f"Column {quoted(name)} {why}, and is learned from as a quantity; if it only names "
            f"rows, write --drop {quoted(name)}."
        )


def _note_telling(
    source: TableFile,
    name: str,
    kind: str,
    cells: pd.Series,
    target: NDArray[Any],
    task: Task,
) -> None:
    """Point out a column that tells the target nearly or wholly, and may have been made of it."""
    there = cells.notna().to_numpy()
    known, y = cells[there], target[there]
    if there.sum() * 2 < len(there) or len(y) < 3:
        return
    why = ""
    if kind == "numeric":
        x = known.to_numpy(np.float64)
        why = _in_line(x, y) if task == "regression" else _in_ranges(x, y)
    elif task == "classification":
        different = known.nunique()
        pairs = len(set(zip(known, y.tolist(), strict=True)))
        if pairs == different <= len(known) / FEWEST_OF_TEXT and len(np.unique(y)) > 1:
            why = "tells the class of each row: none of its texts goes with two classes"
    if why:
        source.notes.append(
            f"Column {quoted(name)} {why}. If it is not known before the target is, leave it out: "
            f"--drop {quoted(name)}."
        )


def _in_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The sentence about numbers that go with a quantity in a straight line, or in its order as a
    logarithm does."""
    r = _correlation(x, y)
    if abs(r) > NEARLY:
        return f"has a correlation of {r:.5f} with the target"
    for rows in _some_then_all(x):
        r = _correlation(_ranks(x[rows]), _ranks(y[rows]))
        if abs(r) <= NEARLY:
            return ""
    return f"puts the rows in the target's order (a rank correlation of {r:.5f})"


def _in_ranges(x: NDArray[np.float64], y: NDArray[np.intp]) -> str:
    """The sentence about numbers with a range for each class, where no two ranges meet."""
    for rows in _some_then_all(x):
        order = np.argsort(x[rows], kind="stable")
        numbers, classes = x[rows][order], y[rows][order]
        changes = np.flatnonzero(np.diff(classes))
        alone = len(changes) == len(np.unique(classes)) - 1
        if not alone or (numbers[changes] == numbers[changes + 1]).any():
            return ""
    one = len(changes) == 0
    return "" if one else "tells the class of each row: the classes' ranges do not overlap"


def _some_then_all(x: NDArray[np.float64]) -> tuple[slice, slice]:
    """To put all rows in order takes long: those of some show whether it is worth it."""
    return slice(None, None, len(x) // FIRST_ORDERED + 1), slice(None)


def _ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    import pandas as pd

    return np.asarray(pd.Series(x).rank(), np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's, of numbers of any size; 0 where one of both is constant."""
    if not np.ptp(x) or not np.ptp(y):
        return 0.0
    a, b = ((v - v.mean()) / np.abs(v - v.mean()).max() for v in (x, y))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def note_alike(source: TableFile, name: str, cells: pd.Series) -> None:
    """Point out texts of a column that differ in spaces or capitals only."""
    alike: dict[str, list[str]] = {}
    for text in cells.dropna().unique():
        alike.setdefault(" ".join(text.casefold().split()), []).append(text)
    groups = [listed(texts, 4) for texts in alike.values() if len(texts) > 1]
    if groups:
        more = f"; and {len(groups) - 3} more" if len(groups) > 3 else ""
        source.notes.append(
            f"Column {quoted(name)} has texts that differ in spaces or capitals only, and count as "
            f"different: {'; '.join(groups[:3])}{more}."
        )
