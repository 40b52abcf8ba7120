"""Tables in files that are not separated texts: each format by how it begins or is called."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from thinned.errors import InputError, listed, quoted
from thinned.fit.sheets import excel
from thinned.fit.source import text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_readable", "of_one_kind", "parquet", "table_of", "unpacked"]

PARQUET_MAGIC, ZIP_MAGIC = b"PAR1", b"PK\x03\x04"
# What is known and not read, by how it begins or what it is called, and what to save it as.
NOT_READ: tuple[tuple[str, tuple[bytes, ...], tuple[str, ...]], ...] = (
    # By how it begins alone: many programs call separated text so.
    ("an Excel file of the old kind (.xls)", (b"\xd0\xcf\x11\xe0", b"\t\x08", b"\t\x04\x06"), ()),
    ("a SAS file", (b"HEADER RECORD*******LIB",), (".sas7bdat", ".xpt")),
    ("an SPSS file", (b"$FL2", b"$FL3"), (".sav", ".zsav", ".por")),
    ("an R data file", (b"RDX2\n", b"RDX3\n", b"RDA2\n", b"RDA3\n"), (".rds", ".rdata", ".rda")),
    ("an HDF5 file", (b"\x89HDF\r\n",), (".h5", ".hdf5", ".hdf")),
    ("a SQLite database", (b"SQLite format 3\0",), (".sqlite", ".db")),
    ("a NumPy file", (b"\x93NUMPY",), (".npy", ".npz")),
    ("an ORC file", (b"ORC",), (".orc",)),
    ("an Avro file", (b"Obj\x01",), (".avro",)),
    ("a pickle, which could run code", (b"\x80\x04\x95", b"\x80\x05\x95"), (".pkl", ".pickle")),
    ("a PDF file", (b"%PDF",), (".pdf",)),
    ("a tar archive", (), (".tar",)),
)


def check_readable(name: str, raw: bytes) -> None:
    """Raise InputError, with the format's name, for a file in a format that is not read."""
    suffix = PurePath(name).suffix.lower()
    for what, starts, suffixes in NOT_READ:
        if raw.startswith(starts) or suffix in suffixes:
            raise InputError(
                f"{name}: this is {what}, which is not read; save the table as CSV or Parquet"
                f"{', or as .xlsx' if suffix == '.xls' else ''}."
            )


# ------------------------------------------------------------------------------------- packed files


def unpacked(name: str, raw: bytes) -> tuple[str, bytes]:
    """The name and the bytes inside a file of gzip, bzip2, xz, or zip with one member; a file that
    is not packed as it is."""
    for start, suffix, opened in (
        (b"\x1f\x8b", ".gz", gzip.decompress),
        (b"BZh", ".bz2", bz2.decompress),
        (b"\xfd7zXZ\0", ".xz", lzma.decompress),
    ):
        if raw.startswith(start):
            inside = _opened(name, raw, opened)
            return name.removesuffix(suffix), inside
    if raw.startswith(ZIP_MAGIC):
        return _member(name, raw)
    return name, raw


# What lies beside a table in an archive and is none.
_TEXTS = re.compile(r"(?i)(\.(txt|md|pdf|rst|html?|docx?)|(^|/)(readme|licen[cs]e)[^/]*)$")


def _is_hidden(member: str) -> bool:
    """Whether a file in an archive is one that a system left there."""
    parts = PurePath(member).parts
    return any(p.startswith((".", "__MACOSX")) for p in parts) or parts[-1] == "Thumbs.db"


def _opened(name: str, raw: bytes, opened: Callable[[bytes], bytes]) -> bytes:
    try:
        return opened(raw)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        raise InputError(f"{name}: a damaged compressed file.") from None


def _member(name: str, raw: bytes) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            there = [one for one in packed.namelist() if not one.endswith("/")]
            if "[Content_Types].xml" in there:
                return name, raw  # an Excel file, see `table_of`
            if "mimetype" in there and "opendocument" in packed.read("mimetype").decode("latin-1"):
                raise InputError(
                    f"{name}: this is an OpenDocument file, which is not read; save the table as "
                    "CSV or .xlsx."
                )
            members = [one for one in there if not _is_hidden(one)]
            tables = [one for one in members if not _TEXTS.search(one)]
            members = tables if len(tables) == 1 else members
            if len(members) != 1:
                raise InputError(
                    f"{name}: a zip file must hold one table, this one holds "
                    f"{len(members)} files{': ' * bool(members)}{listed(members, 3)}."
                )
            return PurePath(members[0]).name, packed.read(members[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, zlib.error):
        # RuntimeError: a password is needed.
        raise InputError(f"{name}: a damaged or locked zip file.") from None


# ----------------------------------------------------------------------------------- typed formats


def table_of(name: str, raw: bytes) -> tuple[pd.DataFrame, list[str]] | None:
    """The table of a file that says itself of what type its columns are, and notes; None where it
    has no such format."""
    suffix = PurePath(name).suffix.lower()
    if raw.startswith(PARQUET_MAGIC) or suffix in (".parquet", ".pq"):
        return parquet(name, io.BytesIO(raw)), []
    if raw.startswith((b"ARROW1", b"FEA1")) or suffix in (".feather", ".arrow"):
        return _feather(name, raw), []
    if raw.startswith(ZIP_MAGIC):
        return excel(name, raw)
    if raw.startswith(b"<stata_dta>") or suffix == ".dta":
        return _stata(name, raw), []
    if suffix in (".jsonl", ".ndjson") or _is_json_lines(raw):
        return _json_lines(name, raw), []
    return None


def parquet(name: str, place: io.BytesIO | Path) -> pd.DataFrame:
    """The table of a Parquet file, or of a folder of them."""
    import pyarrow
    import pyarrow.parquet

    what = "folder of Parquet files" if isinstance(place, Path) else "Parquet file"
    try:
        table = pyarrow.parquet.read_table(place)
        table.validate(full=True)  # texts that are not UTF-8 are found here, and nowhere before
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        raise InputError(f"{name}: not a readable {what}.") from None
    return _arrow_frame(name, table)


def _feather(name: str, raw: bytes) -> pd.DataFrame:
    import pyarrow
    import pyarrow.feather

    try:
        table = pyarrow.feather.read_table(pyarrow.BufferReader(raw))
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        raise InputError(f"{name}: not a readable Feather file.") from None
    return _arrow_frame(name, table)


def _arrow_frame(name: str, table: Any) -> pd.DataFrame:
    # Without pandas' own remarks the index is not made anew; where it was stored it is a column.
    kept = [c for c in table.column_names if not c.startswith("__index_level_")]
    if len(set(kept)) < len(kept):
        double = next(c for c in kept if kept.count(c) > 1)
        raise InputError(f"{name}: two columns are called {quoted(double)}.")
    frame: pd.DataFrame = table.select(kept).to_pandas(ignore_metadata=True)
    return frame


def _stata(name: str, raw: bytes) -> pd.DataFrame:
    import struct

    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats of time that stay numbers
            frame = pd.read_stata(io.BytesIO(raw))
    except (ValueError, struct.error, KeyError, IndexError, OSError):
        raise InputError(f"{name}: not a readable Stata file.") from None
    return frame


def _is_json_lines(raw: bytes) -> bool:
    lines = raw[:100_000].split(b"\n")[:2]
    return len(lines) == 2 and all(
        line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}") for line in lines
    )


def _json_lines(name: str, raw: bytes) -> pd.DataFrame:
    import pandas as pd

    records = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise InputError(f"{name}: line {number} is no JSON.") from None
        if not isinstance(record, dict):
            raise InputError(f"{name}: line {number} is no JSON object, as a row must be.")
        records.append(record)
    if not records:
        raise InputError(f"{name}: the file is empty.")
    return pd.json_normalize(records)  # what a record has in an object becomes columns: "a.b"


def of_one_kind(frame: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """The table with texts in place of numbers in columns that have both, and these columns."""
    both = set()
    for name in frame.columns:
        cells = frame[name]
        if cells.dtype != object:
            continue
        types = {type(cell) for cell in cells.dropna()}
        if str in types and types <= {str, int, float, datetime, date}:
            frame[name] = cells.map(text_of, na_action="ignore")
            both.add(name)
    return frame, frozenset(both)
