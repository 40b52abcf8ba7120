"""CSV and Parquet files as data frames, with everything that is wrong about them said by place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from thinned.errors import InputError, quoted
from thinned.fit.separated import check_names, separated
from thinned.fit.source import TableFile
from thinned.printable import encodable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableFile", "read"]

PARQUET_MAGIC = b"PAR1"


def read(
    path: Path, as_text: frozenset[str] = frozenset(), missing: tuple[str, ...] = ()
) -> TableFile:
    """Read a CSV or Parquet file.

    Parameters
    ----------
    path : Path. A file that starts as Parquet does is Parquet; every other one is a CSV: UTF-8, a
        header, and commas, semicolons, tabs or vertical bars between the columns.
    as_text : set of str. Columns of a CSV whose cells are taken as they stand, "017" too.
    missing : texts that count as missing besides those that pandas knows.

    Raises
    ------
    InputError with one sentence that says what is wrong and where.
    """
    name = encodable(path.name)  # it is written into metrics.json
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder, not a file.") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror}).") from None
    digest = hashlib.sha256(raw).hexdigest()
    if raw.startswith(PARQUET_MAGIC) or path.suffix.lower() in (".parquet", ".pq"):
        frame = _without_marks(_parquet(name, raw), missing)
        source = TableFile(name, frame, digest, missing=missing, typed=True)
        check_names(source, list(source.frame.columns))
    else:
        source = separated(name, raw, digest, as_text, missing)
    if not len(source.frame):
        raise source.error("the table has a header but no rows.")
    return source


def _parquet(name: str, raw: bytes) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(raw))
        table.validate(full=True)  # texts that are not UTF-8 are found here, and nowhere before
        names = table.column_names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        raise InputError(f"{name}: not a readable Parquet file.") from None
    # Without pandas' own remarks the index is not made anew; where it was stored it is a column.
    kept = [c for c in names if not c.startswith("__index_level_")]
    if len(set(kept)) < len(kept):
        double = next(c for c in kept if kept.count(c) > 1)
        raise InputError(f"{name}: two columns are called {quoted(double)}.")
    frame: pd.DataFrame = table.select(kept).to_pandas(ignore_metadata=True)
    return frame


def _without_marks(frame: pd.DataFrame, missing: tuple[str, ...]) -> pd.DataFrame:
    """The table with None for texts, and for numbers of texts, that count as missing."""
    if not missing:
        return frame
    numbers = {float(mark) for mark in missing if _is_number(mark)}

    def is_mark(cell: object) -> bool:
        if isinstance(cell, str):
            return cell.strip() in missing
        return isinstance(cell, (int, float)) and not isinstance(cell, bool) and cell in numbers

    return frame.mask(frame.map(is_mark))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
