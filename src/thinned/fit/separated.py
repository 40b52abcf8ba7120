"""Separated texts (CSV) as data frames, with everything that is wrong about them said by line."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from thinned.errors import InputError, quoted
from thinned.fit.decoding import decoded
from thinned.fit.source import TableFile, parsed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_names", "separated"]

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def separated(
    name: str, raw: bytes, digest: str, as_text: frozenset[str], missing: tuple[str, ...]
) -> TableFile:
    """Read text with a header and commas, semicolons, tabs or vertical bars between columns.

    as_text : columns whose cells are taken as they stand.
    missing : texts that count as missing besides those that pandas knows.
    """
    import pandas as pd

    text, notes = decoded(name, raw)
    separator = _separator(text)
    header, rows = _structure(name, text, separator)
    if len(header) == 1:
        _check_spaces(name, text)
    # The first name is empty where pandas.DataFrame.to_csv wrote an index.
    numbered = header[0] == ""
    source = TableFile(
        name,
        pd.DataFrame(),
        digest,
        text=text,
        separator=separator,
        header=tuple(header),
        missing=missing,
        notes=notes,
    )
    check_names(source, header[1:] if numbered else header)
    if separator != ",":
        source.notes.append(f"The columns of {name} are separated by {SEPARATORS[separator]}.")
    frame = parsed(text, separator, source.header, as_text, missing)
    if len(frame) != rows:
        raise source.error(f"it cannot be read as a CSV: {rows} rows, of which {len(frame)} parse.")
    source.frame = _without_row_numbers(source, frame) if numbered else frame
    _check_first_row(source)
    return source


def _separator(text: str) -> str:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    outside = "".join(first.split('"')[::2])  # what stands between quotes separates nothing
    return max(SEPARATORS, key=outside.count)  # the first of equals: a comma


def _structure(name: str, text: str, separator: str) -> tuple[list[str], int]:
    """The header and the number of rows of a CSV whose every row has the header's length."""
    header: list[str] = []
    if '"' not in text and (rows := _even_rows(text, separator)) is not None:
        first = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
        header = [field.strip() for field in first.split(separator)]
        _check_header(name, header)
        return header, rows
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
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
    _check_header(name, header)
    return header, rows


def _even_rows(text: str, separator: str) -> int | None:
    """The rows below the header of a text without quotes, if each has as many fields as it; else
    None. As a reader of CSV finds them, in a tenth of the time."""
    raw = np.frombuffer(text.encode("utf-8"), np.uint8)
    returns = np.flatnonzero(raw == ord("\r"))
    if returns.size and not (raw[np.minimum(returns + 1, raw.size - 1)] == ord("\n")).all():
        return None  # a carriage return alone ends a line too
    ends = np.flatnonzero(raw == ord("\n"))
    if not ends.size or ends[-1] != raw.size - 1:
        ends = np.append(ends, raw.size)
    starts = np.concatenate(([0], ends[:-1] + 1))
    empty = (ends - starts) == 0
    empty |= ((ends - starts) == 1) & (raw[np.minimum(starts, raw.size - 1)] == ord("\r"))
    separators = np.flatnonzero(raw == ord(separator))
    fields = np.diff(np.searchsorted(separators, np.append(starts, raw.size)))[~empty]
    return None if (fields != fields[0]).any() else len(fields) - 1


def _check_spaces(name: str, text: str) -> None:
    """Refuse a table of one column that spaces cut into the same number of fields in every row."""
    lines = [line.split() for line in text.split("\n", 21)[:20] if line.strip()]
    if len(lines) > 1 and len({*map(len, lines)}) == 1 and len(lines[0]) > 1:
        raise InputError(
            f"{name}: spaces seem to separate {len(lines[0])} columns; save the table with commas, "
            "semicolons, tabs or vertical bars between them."
        )


def _check_header(name: str, header: list[str]) -> None:
    if all(_is_number(field) for field in header):
        raise InputError(
            f"{name}: the first line holds numbers only; a header that names the columns is needed."
        )


def _check_first_row(source: TableFile) -> None:
    """Refuse a first line of cells: some of its texts stand in their columns again, and the others
    are numbers."""
    frame = source.frame
    texts = [name for name in frame.columns if not _is_number(name)]
    equal = {name: frame[name] == name for name in texts if frame[name].dtype.kind not in "iuf"}
    again = [name for name, rows in equal.items() if rows.any()]
    if not again or (len(again) < len(texts) == len(frame.columns)):
        return
    whole = np.logical_and.reduce([equal[name] for name in again])
    if len(again) == len(frame.columns) and all((equal[name] == whole).all() for name in again):
        return  # the header once more, which its columns refuse
    raise source.error(
        f"the first line seems to hold cells, not names: {quoted(again[0])} stands in its column "
        "again; a header that names the columns is needed."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_names(source: TableFile, names: list[str]) -> None:
    """Every column has a name of its own."""
    seen = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise source.error(f"column {number} has no name in the header.")
        if name in seen:
            raise source.error(f"two columns are called {quoted(name)}.")
        seen.add(name)


def _without_row_numbers(source: TableFile, frame: pd.DataFrame) -> pd.DataFrame:
    first = frame.iloc[:, 0]
    if first.dtype.kind == "f" or not first.is_unique or first.isna().any():
        raise source.error("column 1 has no name in the header.")
    what = "numbers" if first.dtype.kind == "i" else "names"
    source.notes.append(f"The first column has no name and holds row {what}: left out.")
    return frame.iloc[:, 1:]
