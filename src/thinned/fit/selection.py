"""Which columns are learned from: those that say nothing, or too much, are left out by name."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.dates import two_digit_years
from thinned.fit.kinds import Column, Kind, check_values, kind_of
from thinned.fit.source import TableFile
from thinned.fit.target import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["note_alike", "selected"]

# A text column with more different values than this, most of them in one row only, names its rows.
MANY_TEXTS, IDENTIFIER_SHARE = 50, 0.5
# From so many different values and such a rank correlation on, two columns have one order; to see
# it, so many rows are enough.
ORDERED, SAME_ORDER, ORDER_ROWS = 20, 0.999, 2000
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
    in_order: list[str] = []
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
        if kind == "text":
            note_alike(source, name, cells)
        if kind == "numeric" and task == "regression" and name not in made and name not in keep:
            in_order += [name] * _has_order(learned, target)
        kept.append(Column(name, cast(Kind, kind)))
        out[name] = cells
    for reason, those in left_out.items():
        what = "Column" if len(those) == 1 else "Columns"
        source.notes.append(f"{what} left out: {listed(those)} ({reason}).")
    if in_order:
        one = len(in_order) == 1
        source.notes.append(
            f"Column{'s' * (not one)} {listed(in_order, 3)} {'has' if one else 'have'} nearly the "
            f"order of the target, or its reverse. What was made of the target is to be left out: "
            f"--drop {quoted(in_order[0])}."
        )
    return tuple(kept), pd.DataFrame(out)


def _useless(kind: str, cells: pd.Series) -> str:
    """Why a column has nothing to learn from, or an empty string."""
    known = cells.dropna()
    different = known.nunique()
    if not len(known):
        return "no value in any row"
    if kind == "date":
        return "lengths of time; make numbers of them (days, seconds) to use it"
    if different == 1 and (kind == "numeric" or len(known) == len(cells)):
        return "the same value in every row"
    if kind == "text":
        if two_digit_years(known):
            return "dates whose years have two digits; write all four to use it"
        if different > MANY_TEXTS and different > IDENTIFIER_SHARE * len(known):
            return f"{different} different texts in {len(known)} rows, which name rows"
    return ""


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
    """Whether a column is 0, 1, 2, ... or 1, 2, 3, ... down the table, or has the name of such a
    one and a whole number of its own in each row."""
    if not np.isfinite(values).all():
        return False
    if values[0] in (0.0, 1.0) and (np.diff(values) == 1.0).all():
        return True
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


def _has_order(cells: pd.Series, target: NDArray[Any]) -> bool:
    """Whether a column has the target's order or its reverse, as its logarithm has."""
    x = cells.to_numpy(np.float64)
    there = np.flatnonzero(np.isfinite(x))
    if len(there) * 2 < len(x):
        return False
    some = there[:: -(-len(there) // ORDER_ROWS)]
    ranks = [np.unique(values[some], return_inverse=True)[1] for values in (x, target)]
    if min(int(rank.max()) for rank in ranks) < ORDERED:
        return False
    return bool(abs(np.corrcoef(ranks[0], ranks[1])[0, 1]) > SAME_ORDER)


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
