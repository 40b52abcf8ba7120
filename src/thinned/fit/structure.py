"""Columns that say how rows belong together, or how much they count: groups, times, weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from thinned.errors import quoted
from thinned.fit.dates import FORMS
from thinned.fit.kinds import LARGEST, kind_of
from thinned.fit.readings import Reading
from thinned.fit.source import TableFile

__all__ = ["group_numbers", "times_of", "weights_of"]


def group_numbers(source: TableFile, name: str) -> NDArray[np.intp]:
    """The number of each row's group, by the cells of a column as they stand.

    Raises
    ------
    InputError if a row has none.
    """
    import pandas as pd

    cells = source.frame[name]
    codes = pd.factorize(cells)[0]
    _check_all(source, name, codes < 0, "belongs to no group")
    return codes.astype(np.intp)


def times_of(source: TableFile, name: str, readings: Iterable[Reading]) -> NDArray[np.float64]:
    """What orders the rows: days of a column of dates, or its numbers. The table is read already.

    Raises
    ------
    InputError if the column holds something else, or a row has no time.
    """
    dated = next((one for one in readings if one.column == name and one.dated), None)
    column = dated.makes[0] if dated else name
    kind, cells = kind_of(source, column)
    if kind != "numeric" or (
        dated and FORMS[dated.form].clock
    ):  # times of day come again every day
        raise source.error(
            f"column {quoted(name)} holds neither dates nor numbers, so --time cannot put the rows "
            f"in its order."
        )
    times = cells.to_numpy(np.float64)
    _check_all(source, name, ~np.isfinite(times), "has no time")
    return times


def weights_of(source: TableFile, name: str) -> NDArray[np.float64]:
    """How much each row counts, by a column of numbers.

    Raises
    ------
    InputError if the column holds something else, or a row has no weight, or one below 0.
    """
    kind, cells = kind_of(source, name)
    if kind != "numeric":
        raise source.error(
            f"column {quoted(name)} holds no plain numbers, so --weights cannot weigh rows by it."
        )
    weights = cells.to_numpy(np.float64)
    _check_all(source, name, np.isnan(weights), "has no weight")
    wrong = np.flatnonzero(~((weights >= 0) & (weights < LARGEST)))
    if wrong.size:
        raise source.error(
            f"column {quoted(name)}, {source.row(int(wrong[0]))} holds {weights[wrong[0]]:g}; a "
            "weight must be 0 or more."
        )
    if not weights.any():
        raise source.error(f"column {quoted(name)} has a weight of 0 in every row.")
    return weights


def _check_all(source: TableFile, name: str, wrong: NDArray[np.bool_], what: str) -> None:
    rows = np.flatnonzero(wrong)
    if rows.size:
        raise source.error(
            f"column {quoted(name)} has no value in {source.row(int(rows[0]))}, which {what}."
        )
