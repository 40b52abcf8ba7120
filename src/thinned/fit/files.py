"""Files of any format as data frames, with everything that is wrong about them said by place."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from thinned.errors import InputError
from thinned.fit.decoding import decoded
from thinned.fit.formats import check_readable, of_one_kind, parquet, table_of, unpacked
from thinned.fit.separated import check_names, separated, without_row_numbers
from thinned.fit.source import TableFile, text_of
from thinned.fit.sums import adds_up, note_on_sums
from thinned.printable import encodable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STANDARD_INPUT", "TableFile", "read", "typed_table"]

# The path that is no file's.
STANDARD_INPUT = Path("-")


def read(
    path: Path,
    as_text: frozenset[str] = frozenset(),
    missing: tuple[str, ...] = (),
    encoding: str | None = None,
) -> TableFile:
    """Read a table.

    Parameters
    ----------
    path : Path of a file, of a folder of Parquet files, or "-" for standard input. A file is known
        by how it begins, else by its name: Parquet, Feather, Excel (.xlsx), Stata, lines of JSON.
        Every other one is separated text: a header, and commas, semicolons, tabs or vertical bars
        between the columns, in UTF-8, UTF-16 or Windows-1252. Files of gzip, bzip2 and xz, and of
        zip with one member, are read by what is in them.
    as_text : set of str. Columns of separated text whose cells are taken as they stand, "017" too.
    missing : texts that count as missing besides those that pandas knows.
    encoding : of separated text; None finds it out.

    Raises
    ------
    InputError with one sentence that says what is wrong and where.
    """
    # It is written into metrics.json. Of "." and ".." the folder has a name that says more.
    name = encodable(path.resolve().name if path.name in ("", "..") else path.name)
    if path == STANDARD_INPUT:
        name, raw = "standard input", sys.stdin.buffer.read()
    elif path.is_dir():
        return _folder(path, name, missing)
    else:
        raw = _bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    inside, raw = unpacked(name, raw)
    check_readable(inside, raw)
    typed = table_of(inside, raw)
    if typed is None:
        text, notes = decoded(name, raw, encoding)
        del raw  # a large file is not held twice while it is parsed
        source = separated(name, text, notes, digest, as_text, missing)
    else:
        frame, notes = typed
        source = typed_table(name, frame, digest, missing)
        source.notes += notes
    if not len(source.frame):
        raise source.error("the table has a header but no rows.")
    return source


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror}).") from None


def _folder(path: Path, name: str, missing: tuple[str, ...]) -> TableFile:
    """The table whose parts are the Parquet files in a folder, as Spark and Dask write it."""
    digest = hashlib.sha256()
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(f"{path}: this is a folder without Parquet files, not a file.")
    for file in files:
        digest.update(_bytes(file))
    frame = parquet(name, path)
    source = typed_table(name, frame, digest.hexdigest(), missing)
    if not len(frame):
        raise source.error("the table has a header but no rows.")
    return source


def typed_table(
    name: str, frame: pd.DataFrame, digest: str | None, missing: tuple[str, ...]
) -> TableFile:
    """A table whose columns have types of their own, its columns' names as texts."""
    frame.columns = frame.columns.map(text_of)
    source = TableFile(name, frame, digest, missing=missing, typed=True)
    if digest is not None and frame.columns.is_unique and (summing := adds_up(frame)):
        source.frame = frame = frame.iloc[:-1]
        source.notes.append(note_on_sums(summing))
    if frame.shape[1] > 1 and frame.columns[0] == "":  # an index that pandas wrote
        source.frame = frame = without_row_numbers(source, frame)
    check_names(source, list(frame.columns))
    source.frame, source.respelled = of_one_kind(_without_marks(frame, missing))
    return source


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
