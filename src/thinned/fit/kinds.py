"""What a column holds: numbers, texts, yes-or-no or dates, in one form each."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import quoted
from thinned.fit.source import TableFile, text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LARGEST", "LARGEST_TARGET", "Column", "Kind", "as_kind", "check_values", "kind_of"]

Kind = Literal["numeric", "text", "bool"]

# Squares of larger numbers, summed over a column, leave the range of binary64. A quantity that is
# predicted is squared twice: in the loss, and in the variance of the losses.
LARGEST, LARGEST_TARGET = 1e100, 1e70


@dataclass(frozen=True)
class Column:
    """One column that the network sees."""

    name: str
    kind: Kind


def kind_of(source: TableFile, name: str) -> tuple[Kind | Literal["date"], pd.Series]:
    """What a column holds, and its cells: float64, or objects with None where one is missing."""
    import pandas as pd

    cells = source.frame[name]
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(cells.dtype.categories.dtype)
    kind = cells.dtype.kind
    if pd.api.types.is_bool_dtype(cells.dtype) and kind != "O":
        return "bool", _texts(cells)
    if pd.api.types.is_numeric_dtype(cells.dtype) and kind != "c":
        return "numeric", _floats(source, name, cells)
    if kind in "Mm":
        return "date", cells
    known = cells.dropna()
    if known.map(lambda cell: isinstance(cell, str)).all():
        return "text" if len(known) else "numeric", _texts(cells)
    if known.map(lambda cell: isinstance(cell, (bool, np.bool_))).all():
        return "bool", _texts(cells)
    if known.map(lambda cell: isinstance(cell, (numbers.Real, Decimal))).all():
        return "numeric", _floats(source, name, cells)
    if known.map(lambda cell: isinstance(cell, date)).all():
        return "date", cells
    odd = known[~known.map(lambda cell: isinstance(cell, (str, numbers.Real)))]
    odd = odd if len(odd) else known
    raise source.error(
        f"column {quoted(name)}, {source.row(int(odd.index[0]))}: cannot read a cell of type "
        f"{type(odd.iloc[0]).__name__} beside the others; cells must be numbers, texts or "
        f"booleans. --drop {quoted(name)} leaves the column out."
    )


def _floats(source: TableFile, name: str, cells: pd.Series) -> pd.Series:
    try:
        return cells.astype("float64")
    except OverflowError:  # an integer of more than 308 digits
        large = cells.map(lambda cell: isinstance(cell, int) and abs(cell) > LARGEST)
        row = int(np.flatnonzero(large)[0])
        raise source.error(
            f"column {quoted(name)}, {source.row(row)} holds an integer too large to work with."
        ) from None


def _texts(cells: pd.Series) -> pd.Series:
    import pandas as pd

    out = cells.astype(object)
    known = out.notna()
    texts = [text_of(cell) if there else None for cell, there in zip(out, known, strict=True)]
    return pd.Series(texts, index=cells.index, dtype=object)


def as_kind(source: TableFile, column: Column) -> pd.Series:
    """A column of new data in the kind it had when the model was fitted."""
    import pandas as pd

    cells = source.frame[column.name]
    known = cells.dropna()
    if not len(known):
        empty = np.nan if column.kind == "numeric" else None
        return pd.Series([empty] * len(cells), dtype=float if column.kind == "numeric" else object)
    kind, values = kind_of(source, column.name)
    if column.kind == "numeric":
        if kind == "date":
            raise source.error(f"column {quoted(column.name)} was numeric and now holds dates.")
        if kind != "numeric":
            parsed = pd.to_numeric(known.astype(object), errors="coerce")
            wrong = known[parsed.isna()] if kind == "text" else known
            if not len(wrong):
                return cast("pd.Series", parsed.reindex(cells.index).astype(float))
            raise source.error(
                f"column {quoted(column.name)} was numeric when the model was fitted; "
                f"{source.row(int(wrong.index[0]))} holds {quoted(wrong.iloc[0])}."
            )
        check_values(source, column.name, values.to_numpy(np.float64))
        return values
    texts = _texts(cells)
    if column.kind == "bool":
        said = texts.map(lambda cell: _truth(cell) if isinstance(cell, str) else None)
        wrong = texts[texts.notna() & said.isna()]
        if len(wrong):
            raise source.error(
                f"column {quoted(column.name)} was true or false when the model was fitted; "
                f"{source.row(int(wrong.index[0]))} holds {quoted(wrong.iloc[0])}."
            )
        return said.astype(object).where(said.notna(), None)
    return texts


def _truth(text: str) -> str | None:
    return {"true": "True", "1": "True", "1.0": "True"}.get(
        text.lower(), {"false": "False", "0": "False", "0.0": "False"}.get(text.lower())
    )


def check_values(
    source: TableFile, name: str, values: NDArray[np.float64], largest: float = LARGEST
) -> None:
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(np.abs(values) > largest)
    if wrong.size:
        what = "an infinite number" if np.isinf(values[wrong[0]]) else f"{values[wrong[0]]:g}"
        why = "" if np.isinf(values[wrong[0]]) else ", too large a number to work with"
        raise source.error(f"column {quoted(name)}, {source.row(int(wrong[0]))} holds {what}{why}.")
