"""Tables that a program holds: data frames of any library, arrays, columns by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message
from thinned.errors import InputError, quoted
from thinned.fit.files import typed_table
from thinned.fit.source import TableFile, text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NAME", "as_frame", "categories", "column_of", "table_of", "with_column"]

# What a table without a file is called.
NAME = "frame"
_TABLE = "a data frame, a dict of columns, an array of shape (rows, columns), or what names a file"


def table_of(
    who: str, data: Any, missing: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> TableFile:
    """The table that `data` is. `data` itself is never changed.

    Parameters
    ----------
    who : str. The function to name in errors.
    data : pandas DataFrame; another library's with the Arrow interface, as polars'; a dict of
        columns; or an array of shape (rows, columns).
    missing : texts that count as missing besides those that are missing by their type.
    names : of an array's columns. Default: x0, x1, ...

    Raises
    ------
    TypeError for anything else. InputError if it has no rows, or two columns of one name.
    """
    frame = as_frame(who, data, names)
    source = typed_table(NAME, frame, None, missing)
    if not len(frame):
        raise source.error("the table has no rows.")
    return source


def as_frame(who: str, data: Any, names: tuple[str, ...] = ()) -> pd.DataFrame:
    """The pandas DataFrame of `table_of`'s data, a new one, its rows numbered from 0."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        frame = data.copy(deep=False)
    elif isinstance(data, Mapping):
        frame = _columns(who, data)
    elif isinstance(data, np.ndarray):
        frame = _array(who, data, names)
    elif hasattr(data, "__arrow_c_stream__") and not isinstance(data, pd.Series):
        frame = _arrow(who, data)
    else:
        raise TypeError(message(who, "data", _TABLE, type(data).__name__))
    if not frame.shape[1]:
        raise InputError(f"{who}: data must have a column, but got none.")
    frame = frame.reset_index(drop=True)
    for name in list(frame.columns):
        place = frame.columns.get_loc(name)
        if isinstance(place, int):  # else two columns have this name, which is refused later
            frame.isetitem(place, cast(Any, _plain(frame[name])))
    return frame


def _columns(who: str, data: Mapping[Any, Any]) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.DataFrame(dict(data))
    except ValueError as reason:
        raise InputError(
            f"{who}: data must have columns of one length, but got a dict of which pandas says: "
            f"{reason}."
        ) from None


def _array(who: str, data: NDArray[Any], names: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    if data.dtype.names is not None and data.ndim == 1:  # a structured array
        return pd.DataFrame.from_records(np.asarray(data))
    if data.ndim != 2:
        raise InputError(f"{who}: data must be of shape (rows, columns), but got {data.shape}.")
    columns = [f"x{i}" for i in range(data.shape[1])]
    if names and len(names) == data.shape[1]:
        columns = list(names)
    elif not set(names) <= set(columns):  # else columns of the array were left out in fitting
        raise InputError(
            f"{who}: data must have the model's {len(names)} columns in their order where they "
            f"have no names, but got {data.shape[1]}."
        )
    return pd.DataFrame(np.asarray(data), columns=columns).infer_objects()


def _arrow(who: str, data: Any) -> pd.DataFrame:
    import pyarrow

    try:
        frame: pd.DataFrame = pyarrow.table(data).to_pandas()
    except (pyarrow.ArrowException, TypeError, ValueError) as reason:
        raise InputError(
            f"{who}: data must be a table that Arrow can read, but got {type(data).__name__}: "
            f"{reason}."
        ) from None
    return frame


def categories(data: Any) -> tuple[str, ...]:
    """The columns that a data frame itself declares to be categories, whatever these are."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        kinds = {text_of(name): kind for name, kind in data.dtypes.items()}
        return tuple(n for n, kind in kinds.items() if isinstance(kind, pd.CategoricalDtype))
    schema = getattr(data, "schema", None)  # polars says it by the names of its types
    if isinstance(schema, Mapping):
        return tuple(n for n, kind in schema.items() if str(kind).startswith(("Categ", "Enum")))
    return ()


def _plain(cells: pd.Series) -> pd.Series:
    """Cells of a type of pandas' own as the numbers, texts and dates that they are."""
    import pandas as pd

    dtype, kind = cells.dtype, pd.api.types
    if isinstance(dtype, pd.CategoricalDtype):
        names = dtype.categories.dtype
        if kind.is_numeric_dtype(names) and not kind.is_bool_dtype(names):
            return cells.astype("float64" if cells.isna().any() else names)
        if not (kind.is_string_dtype(names) or kind.is_bool_dtype(names)):
            cells = cells.cat.rename_categories(list(map(str, dtype.categories)))
        return _objects(cells)
    if isinstance(dtype, pd.PeriodDtype):
        return cast("pd.Series", cells.dt.start_time)
    if isinstance(dtype, pd.IntervalDtype):
        return _objects(cells.map(str, na_action="ignore"))
    if isinstance(dtype, pd.SparseDtype):
        return pd.Series(cells.to_numpy(), index=cells.index)
    if kind.is_extension_array_dtype(dtype) and not isinstance(dtype, pd.DatetimeTZDtype):
        if kind.is_float_dtype(dtype) or kind.is_integer_dtype(dtype):
            if cells.isna().any() or kind.is_float_dtype(dtype):
                return pd.Series(cells.to_numpy(np.float64, na_value=np.nan), index=cells.index)
            return pd.Series(cells.to_numpy(np.int64), index=cells.index)
        return _objects(cells)
    return cells.astype("float32") if dtype == np.float16 else cells


def _objects(cells: pd.Series) -> pd.Series:
    """Python's own objects, None where one is missing."""
    out = cells.astype(object)
    return out.where(out.notna(), None)


def column_of(who: str, name: str, values: Any, rows: int) -> pd.Series:
    """One value for each row, beside a table: an array, a Series of any library, a list.

    Raises
    ------
    TypeError, ValueError if it is not of shape (rows,).
    """
    import pandas as pd

    if isinstance(values, pd.Series):
        cells = values.reset_index(drop=True)
    elif hasattr(values, "to_numpy"):  # polars, pyarrow
        cells = pd.Series(np.asarray(values.to_numpy()))
    elif isinstance(values, (list, tuple, np.ndarray)):
        array = np.asarray(values) if not isinstance(values, np.ndarray) else values
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise ValueError(message(who, name, f"of shape ({rows},)", array.shape))
        cells = pd.Series(list(values) if array.dtype.kind == "O" else array)
    else:
        raise TypeError(message(who, name, "one value for each row", type(values).__name__))
    if len(cells) != rows:
        raise ValueError(message(who, name, f"of {rows} values, one for each row", len(cells)))
    return _plain(cells)


def with_column(
    who: str, data: Any, what: str, values: Any, *, named: bool = True
) -> tuple[pd.DataFrame, str]:
    """A table with one value more for each row, and the name of that column: the values' own, or
    what they are.

    what : the argument that they are given for, such as "target".
    named : bool. Refuse values that have the name of a column of data, which may be that column.
    """
    frame = as_frame(who, data)
    cells = column_of(who, what, values, len(frame))
    there = set(map(text_of, frame.columns))
    name = text_of(cells.name) if cells.name not in (None, "") else what
    if name in there and cells.name is not None and named:
        raise InputError(
            f"{who}: {what} must have a name that no column of data has, but got {quoted(name)}; "
            f"pass {what}={name!r}, or drop the column from data."
        )
    if name in there:
        name = next(f"{what} {i}" for i in range(2, len(there) + 3) if f"{what} {i}" not in there)
    frame[name] = cells
    return frame, name
