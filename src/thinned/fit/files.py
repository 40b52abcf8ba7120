"""CSV and Parquet files as data frames, with everything that is wrong about them said by place."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thinned.errors import InputError, listed, quoted
from thinned.printable import encodable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableFile", "read"]

PARQUET_MAGIC = b"PAR1"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# How a text file starts that is no table: most often a page saved in place of the data.
OTHER_TEXT = {
    "HTML or XML": r"<(!doctype|html|\?xml)",
    "JSON": r"\{\s*[\"}]|\[\s*[\[{\"\d]",
}
# A column of numbers with so few other words in it is a column of numbers with mistakes in it.
STRAY_WORDS, STRAY_SHARE = 3, 0.1


@dataclass
class TableFile:
    """A table as it was read, and where its rows stand in the file."""

    name: str
    frame: pd.DataFrame
    sha256: str | None = None
    notes: list[str] = field(default_factory=list)
    text: str | None = None
    separator: str = ","

    def row(self, position: int) -> str:
        """How a person finds the row at this position: its number, and its line in a CSV."""
        if self.text is None:
            return f"row {position + 1}"
        return f"row {position + 1} (line {_line_of(self.text, self.separator, position)})"

    def error(self, sentence: str) -> InputError:
        return InputError(f"{self.name}: {sentence}")


def read(path: Path, as_text: frozenset[str] = frozenset()) -> TableFile:
    """Read a CSV or Parquet file.

    Parameters
    ----------
    path : Path. A file that starts as Parquet does is Parquet; every other one is a CSV: UTF-8, a
        header, and commas, semicolons, tabs or vertical bars between the columns.
    as_text : set of str. Columns of a CSV whose cells are taken as they stand, "017" too.

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
        source = TableFile(name, _parquet(name, raw), digest)
        _check_names(source, list(source.frame.columns))
    else:
        source = _csv(name, _decoded(name, raw), digest, as_text)
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


def _decoded(name: str, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: this is UTF-16 text; save it as a CSV in UTF-8.")
    if b"\0" in raw:
        raise InputError(f"{name}: not a CSV file, it holds binary data.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as place:
        line = raw.count(b"\n", 0, place.start) + 1
        raise InputError(
            f"{name}: line {line} is not UTF-8 text; save the file as a CSV in UTF-8."
        ) from None
    if not text.strip():
        raise InputError(f"{name}: the file is empty.")
    for what, start in OTHER_TEXT.items():
        if re.match(start, text.lstrip()[:200], re.IGNORECASE):
            raise InputError(f"{name}: not a CSV file, it looks like {what}.")
    return text


def _csv(name: str, text: str, digest: str, as_text: frozenset[str]) -> TableFile:
    import pandas as pd

    separator = _separator(text)
    header, rows = _structure(name, text, separator)
    source = TableFile(name, pd.DataFrame(), digest, text=text, separator=separator)
    numbered = (
        header[0] == ""
    )  # what pandas.DataFrame.to_csv writes where index=False was forgotten
    names = ["", *header[1:]] if numbered else header
    _check_names(source, names[1:] if numbered else names)
    if separator != ",":
        source.notes.append(f"The columns of {name} are separated by {SEPARATORS[separator]}.")
    frame = _parsed(text, separator, names, as_text)
    if separator == ";" and (commas := _with_decimal_commas(frame, as_text)):
        frame = _parsed(text, separator, names, as_text, decimal=",")
        source.notes.append(f"Decimal commas were read as such ({listed(commas, 3)}).")
    if len(frame) != rows:
        raise source.error(f"it cannot be read as a CSV: {rows} rows, of which {len(frame)} parse.")
    if numbered:
        frame = _without_row_numbers(source, frame)
    source.frame = frame
    _check_stray_words(source, as_text)
    return source


def _separator(text: str) -> str:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    outside = "".join(first.split('"')[::2])  # what stands between quotes separates nothing
    return max(SEPARATORS, key=outside.count)  # the first of equals: a comma


def _structure(name: str, text: str, separator: str) -> tuple[list[str], int]:
    """The header and the number of rows of a CSV whose every row has the header's length."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    rows, start = 0, 1
    try:
        for fields in reader:
            if fields and not header:
                header = [field.strip() for field in fields]
            elif fields:
                rows += 1
                if len(fields) != len(header):
                    raise InputError(
                        f"{name}: line {start} has {_count(len(fields), 'field')} where the "
                        f"header has {len(header)}."
                    )
            start = reader.line_num + 1
    except csv.Error as reason:
        raise InputError(f"{name}: line {start} cannot be read as CSV ({reason}).") from None
    if all(_is_number(field) for field in header):
        raise InputError(
            f"{name}: the first line holds numbers only; a header that names the columns is needed."
        )
    return header, rows


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_names(source: TableFile, names: list[str]) -> None:
    seen = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise source.error(f"column {number} has no name in the header.")
        if name in seen:
            raise source.error(f"two columns are called {quoted(name)}.")
        seen.add(name)


def _parsed(
    text: str, separator: str, names: list[str], as_text: frozenset[str], decimal: str = "."
) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(
        io.StringIO(text, newline=""),
        sep=separator,
        header=0,
        names=names,
        index_col=False,
        dtype={name: str for name in as_text if name in names},
        decimal=decimal,
        low_memory=False,  # in chunks, one column could get two types
    )


def _with_decimal_commas(frame: pd.DataFrame, as_text: frozenset[str]) -> list[str]:
    """Text columns whose every cell is a number once its comma is a point."""
    found = []
    for name in frame.columns:
        cells = frame[name].dropna()
        if name in as_text or not len(cells) or not all(isinstance(cell, str) for cell in cells):
            continue
        if cells.str.fullmatch(r"\s*[-+]?\d+(,\d+)?\s*").all():
            found.append(name)
    return found


def _without_row_numbers(source: TableFile, frame: pd.DataFrame) -> pd.DataFrame:
    first = frame.iloc[:, 0]
    if first.dtype.kind != "i" or not first.is_unique:
        raise source.error("column 1 has no name in the header.")
    source.notes.append("The first column has no name and holds row numbers: left out.")
    return frame.iloc[:, 1:]


def _check_stray_words(source: TableFile, as_text: frozenset[str]) -> None:
    import pandas as pd

    for name in source.frame.columns:
        cells = source.frame[name].dropna()
        if name in as_text or not len(cells) or not all(isinstance(cell, str) for cell in cells):
            continue
        words = cells[pd.to_numeric(cells, errors="coerce").isna()]
        if len(words) and len(words) <= STRAY_SHARE * len(cells) and words.nunique() <= STRAY_WORDS:
            raise source.error(
                f"column {quoted(name)} holds numbers except in {source.row(int(words.index[0]))}, "
                f"where it holds {quoted(words.iloc[0])}; leave cells without a value empty."
            )


def _line_of(text: str, separator: str, position: int) -> int:
    """The line (from 1) on which the data row at this position starts."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    start, rows = 1, -1  # the header is row -1
    for fields in reader:
        if fields:
            if rows == position:
                break
            rows += 1
        start = reader.line_num + 1
    return start
