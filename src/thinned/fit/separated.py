"""Separated texts (CSV) as data frames, with everything that is wrong about them said by line."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit.beginnings import (
    AROUND,
    SEPARATORS,
    beginning,
    check_is_header,
    check_marks,
    first_line,
    is_number,
    is_spaced,
)
from thinned.fit.endings import (
    emptied,
    line_of_units,
    note_on_units,
    with_even_header,
    without_last_line,
    without_repeated_header,
    without_rest,
)
from thinned.fit.quotes import with_double_quotes, without_formulas
from thinned.fit.source import TableFile, line_of, parsed
from thinned.fit.sums import adds_up, note_on_sums

if TYPE_CHECKING:
    import pandas as pd

# Characters that are counted together, which stay in the processor's cache.
PIECE = 2**18

__all__ = ["check_names", "separated", "without_row_numbers"]


def separated(
    name: str,
    text: str,
    notes: list[str],
    digest: str,
    as_text: frozenset[str],
    missing: tuple[str, ...],
) -> TableFile:
    """Read text with a header and commas, semicolons, tabs or vertical bars between columns.

    notes : on how it was decoded. as_text : columns whose cells are taken as they stand.
    missing : texts that count as missing besides those that pandas knows.
    """
    import pandas as pd

    text, separator, passed_over = beginning(name, text)
    text, unquoted = with_double_quotes(text, separator)
    text, formulas = without_formulas(text, separator)
    text, rest = without_rest(text, separator)
    text, again = without_repeated_header(with_even_header(text, separator))
    notes = [*notes, *passed_over, *unquoted, *formulas, *again, *rest]
    spaced = is_spaced(text, separator)
    header, rows = _structure(name, text, separator, spaced)
    if len(header) == 1:
        check_marks(name, text)
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
        spaced=spaced,
    )
    blank = _named(source)
    check_names(source, list(source.header[1:] if numbered else source.header))
    if separator != ",":
        source.notes.append(f"The columns of {name} are separated by {SEPARATORS[separator]}.")
    frame = parsed(text, separator, source.header, as_text, missing, spaced=spaced, count=rows)
    if len(frame) != rows:
        raise source.error(f"it cannot be read as a CSV: {rows} rows, of which {len(frame)} parse.")
    while len(frame) and (units := line_of_units(frame)):
        line = line_of(text, separator, 0, spaced)
        source.text = text = emptied(text, line)
        source.notes.append(note_on_units(line, units))
        frame = parsed(text, separator, source.header, as_text, missing, spaced=spaced)
    summing = adds_up(frame.iloc[::-1])
    if summing and rows:
        line = line_of(text, separator, 0, spaced)
        source.text = text = emptied(text, line)
        source.notes.append(note_on_sums(summing, f"Line {line}", "below"))
        frame = parsed(text, separator, source.header, as_text, missing, spaced=spaced)
    summing = adds_up(frame)
    if summing and '"' not in (shorter := without_last_line(text))[-1:] + text[len(shorter) :]:
        source.text = text = shorter
        source.notes.append(note_on_sums(summing))
        frame = parsed(text, separator, source.header, as_text, missing, spaced=spaced)
    check_is_header(source, frame)
    frame = _without_blank(source, frame, blank)
    source.frame = without_row_numbers(source, frame) if numbered else frame
    return source


def _named(source: TableFile) -> list[str]:
    """Name each unnamed column after the first; return the new names."""
    header, blank = list(source.header), []
    for place, name in enumerate(header):
        if place and not name:
            header[place] = f"\0{place + 1}"  # which no file holds
            blank.append(header[place])
    source.header = tuple(header)
    return blank


def _without_blank(source: TableFile, frame: pd.DataFrame, blank: list[str]) -> pd.DataFrame:
    """The table without its columns that have neither a name nor a value."""
    for name in blank:
        if frame[name].notna().any():
            row = source.row(int(np.flatnonzero(frame[name].notna())[0]))
            raise source.error(
                f"column {name[1:]} has no name in the header, and {row} has a value there; "
                "write a name."
            )
    if blank:
        many = f"{len(blank)} columns have" if len(blank) > 1 else "A column has"
        source.notes.append(f"{many} neither a name nor a value: left out.")
    return frame.drop(columns=blank)


def _structure(name: str, text: str, separator: str, spaced: bool) -> tuple[list[str], int]:
    """The header and the number of rows of a CSV whose every row has the header's length."""
    header: list[str] = []
    if '"' not in text and (rows := _even_rows(text, separator)) is not None:
        header = [field.strip(AROUND) for field in first_line(text).split(separator)]
        _check_header(name, header)
        return header, rows
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)
    rows, start = 0, 1
    try:
        for fields in reader:
            if fields and not header:
                header = [field.strip(AROUND) for field in fields]
            elif fields:
                rows += 1
                if len(fields) != len(header):
                    raise InputError(
                        f"{name}: line {start} has {_count(len(fields), 'field')} where the "
                        f"header has {len(header)}."
                    )
            start = reader.line_num + 1
    except csv.Error as reason:
        if separator not in first_line(text):
            check_marks(name, text)
        raise InputError(f"{name}: line {start} cannot be read as CSV ({reason}).") from None
    _check_header(name, header)
    return header, rows


def _even_rows(text: str, separator: str) -> int | None:
    """The rows below the header of a text without quotes, if each has as many fields as it; else
    None. As a reader of CSV finds them, in a tenth of the time."""
    fields = first_line(text).count(separator)
    row = (separator * fields + "\n").encode()
    others = bytes(set(range(256)) - {*row, ord("\r")})
    rows, at = 0, 0
    while at < len(text):
        end = text.find("\n", at + PIECE) + 1 or len(text)
        raw, at = text[at:end].encode("utf-8"), end
        # What is left of most tables without all that stands in cells.
        marks = raw.translate(None, others)
        n = marks.count(b"\n")
        if not fields or marks != row * n:
            found = _fields(raw, separator)
            if found is None or (found != fields).any():
                return None
            n = len(found)
        rows += n
    return rows - 1


def _fields(lines: bytes, separator: str) -> NDArray[np.intp] | None:
    """How many separators each line that is not empty has; None where a carriage return alone ends
    a line."""
    raw = np.frombuffer(lines, np.uint8)
    returns = np.flatnonzero(raw == ord("\r"))
    if returns.size and not (raw[np.minimum(returns + 1, raw.size - 1)] == ord("\n")).all():
        return None
    ends = np.flatnonzero(raw == ord("\n"))
    if not ends.size or ends[-1] != raw.size - 1:
        ends = np.append(ends, raw.size)
    starts = np.concatenate(([0], ends[:-1] + 1))
    empty = (ends - starts) == 0
    empty |= ((ends - starts) == 1) & (raw[np.minimum(starts, raw.size - 1)] == ord("\r"))
    separators = np.flatnonzero(raw == ord(separator))
    counts = np.diff(np.searchsorted(separators, np.append(starts, raw.size)))
    found: NDArray[np.intp] = counts[~empty]
    return found


def _check_header(name: str, header: list[str]) -> None:
    if all(is_number(field) for field in header):
        raise InputError(
            f"{name}: the first line holds numbers only; a header that names the columns is needed."
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def check_names(source: TableFile, names: list[str]) -> None:
    """Every column has a name of its own."""
    seen = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise source.error(f"column {number} has no name in the header.")
        if name in seen:
            raise source.error(f"two columns are called {quoted(name)}; give each its own name.")
        seen.add(name)


def without_row_numbers(source: TableFile, frame: pd.DataFrame) -> pd.DataFrame:
    """The table without its first column, which has no name, where that names or numbers rows; else
    with a name for it."""
    first = frame.iloc[:, 0]
    if not first.notna().any():
        source.notes.append("The first column has neither a name nor a value: left out.")
        return frame.iloc[:, 1:]
    if first.dtype.kind == "f" or not first.is_unique or first.isna().any():
        name = "column 1"
        if name in frame.columns:
            raise source.error(f"column 1 has no name in the header, and {quoted(name)} is taken.")
        source.notes.append(f"The first column has no name, and is called {quoted(name)} here.")
        source.header = (name, *source.header[1:])
        return frame.set_axis([name, *frame.columns[1:]], axis=1)
    what = "numbers" if first.dtype.kind == "i" else "names"
    source.notes.append(f"The first column has no name and holds row {what}: left out.")
    return frame.iloc[:, 1:]
