"""How a file of separated texts begins: what separates its columns, and where its header is."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from thinned.errors import InputError, listed, quoted
from thinned.fit.numerals import taken_apart
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AROUND",
    "SEPARATORS",
    "beginning",
    "check_is_header",
    "check_marks",
    "is_number",
    "is_spaced",
    "lines_of",
]

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# What is around a column's name and no part of it, shown or not.
AROUND = " \t\ufeff\u200b\u00a0"
# Marks that separate columns in files that are not read.
_OTHER_MARKS = {
    "~": "tildes",
    "^": "carets",
    ":": "colons",
    "!": "exclamation marks",
    "\x01": "\\x01",
}
# Lines that are looked at, and lines before a header at the most.
_LINES, _CHARACTERS, _MOST_BEFORE = 40, 200_000, 20
# So many names with several spaces between them are no words of one name.
_FEW_PLACES = 2
# Rows that show which columns hold numbers; those right below a header may say more of it.
_LAST = 5
_DECIMAL = re.compile(r"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|-[0-9]+")
# This many names that are ascending numbers are wavelengths or the like, and no row.
_SCALE = 6
# Numbers that name columns for the years that are in them.
YEARS = 1000, 2200


def beginning(name: str, text: str) -> tuple[str, str, list[str]]:
    """The text with what stands above its header emptied, the separator, and notes.

    Lines keep their numbers.
    """
    lines = _first_lines(text)
    rows = {mark: _rows(lines, mark) for mark in SEPARATORS}
    even = {mark: len(found[0]) for mark, found in rows.items() if _are_even(found)}
    best = max(even, key=lambda mark: even[mark], default="")  # the first of equals: a comma
    if even.get(best, 0) > 1:
        return text, best, []
    above_of = {mark: above for mark, found in rows.items() if (above := _above(found))}
    if above_of:
        # The widest table: a comma in a cell may be a decimal mark.
        mark = max(above_of, key=lambda mark: len(rows[mark][-1]))
        line = [n for n, one in enumerate(lines) if one.strip()][above_of[mark]]
        rest = text[sum(map(len, lines[:line])) :]
        many = f"first {line} lines are" if line > 1 else "first line is"
        note = f"The {many} no part of the table; line {line + 1} of {name} names its columns."
        return "\n" * line + rest, mark, [note]
    first = next((line for line in lines if line.strip()), "")
    outside = "".join(first.split('"')[::2])  # what stands between quotes separates nothing
    return text, max(SEPARATORS, key=outside.count), []


def _first_lines(text: str) -> list[str]:
    """Whole lines from the start, with what ends them."""
    lines = lines_of(text[:_CHARACTERS])
    if len(text) > _CHARACTERS and len(lines) > 1:
        lines.pop()
    return lines[:_LINES]


def first_line(text: str) -> str:
    """The first line that is not empty, without what ends it, and without a copy of the others."""
    found = re.search(r"[^\r\n]+", text)
    return found[0] if found else ""


def lines_of(text: str) -> list[str]:
    """The lines of a text, with what ends them: line ends alone, and no other sign in a cell."""
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$", text)


def _rows(lines: list[str], mark: str) -> list[list[str]]:
    """The fields of each line that is not empty."""
    whole = [line.rstrip("\r\n") for line in lines if line.strip()]
    spaced = any(f"{mark} " in line for line in whole[:1])
    try:
        return list(csv.reader(whole, delimiter=mark, skipinitialspace=spaced))
    except csv.Error:  # reading the whole file reports it with its line
        return []


def _are_even(rows: list[list[str]]) -> bool:
    if not rows or len(rows[0]) < 2 or len({*map(len, rows)}) > 1:
        return False
    # A title with as many separators behind it as the table has is no header.
    return not _above(rows)


def _above(rows: list[list[str]]) -> int:
    """How many lines stand above the header of a table; 0 where it is the first, or none is sure.

    They are titles and remarks: with fewer fields than the table has, and it goes on to the end
    with as many in each line as in its header, which has texts only. A line with another number of
    fields and no fewer cells is one too where numbers in the rows show which line is the header.
    """
    if len(rows) < 3:
        return 0
    width, doubtful = len(rows[-1]), False
    for place, fields in enumerate(rows[:_MOST_BEFORE]):
        filled = sum(bool(field.strip()) for field in fields)
        if len(fields) == width and filled >= max(width - 1, 2):
            even = width > 1 and all(len(below) == width for below in rows[place:])
            names = even and _are_names(fields, rows[place + 1 :])
            return place if names and (not doubtful or _has_numbers(rows[place + 1 :])) else 0
        remark = bool(fields) and fields[0].lstrip().startswith(("#", "%", "//"))
        if not remark and filled > max(1, width - 2):
            if len(fields) == width:
                return 0
            doubtful = True
    return 0


def _are_names(fields: list[str], below: list[list[str]]) -> bool:
    """Whether all of these name columns; one that ends each line with its mark has no name."""
    empty = not fields[-1].strip() and not any(row[-1].strip() for row in below)
    names = fields[:-1] if empty else fields
    return all(field.strip() and not is_number(field) for field in names)


def _has_numbers(rows: list[list[str]]) -> bool:
    """Whether a number stands in each of the last rows, in the same column."""
    last = rows[-_LAST:]
    return len(last) > 1 and any(all(taken_apart(cells)) for cells in zip(*last, strict=True))


def is_spaced(text: str, separator: str) -> bool:
    """Whether a space follows each separator of the header."""
    first = next((line for line in _first_lines(text) if line.strip()), "")
    _, *others = "".join(first.split('"')[::2]).split(separator)
    return separator != "\t" and bool(others) and all(part.startswith(" ") for part in others)


def check_marks(name: str, text: str) -> None:
    """Refuse a table of one column that other marks cut into the same number of fields in every
    row, or whose names stand at places of their own."""
    lines = [re.sub('"[^"]*"', "x", one) for one in _first_lines(text)[:20] if one.strip()]
    called, widths = "spaces", [len(line.split()) for line in lines]
    for mark, what in _OTHER_MARKS.items():
        if lines and lines[0].count(mark):
            called, widths = what, [line.count(mark) + 1 for line in lines]
    spread = re.split(r"\s{2,}", lines[0].strip()) if lines and called == "spaces" else []
    # R writes names of rows without a name above them.
    same = len({*widths}) == 1 or {*widths[1:]} == {widths[0] + 1}
    even = len(lines) > 1 and same and widths[0] > 1
    if even or len(spread) > _FEW_PLACES:
        many = f"{widths[0]} " if even else ""
        raise InputError(
            f"{name}: {called} seem to separate {many}columns; save the table with commas, "
            "semicolons, tabs or vertical bars between them."
        )


def check_is_header(source: TableFile, frame: pd.DataFrame) -> None:
    """Refuse a first line that is a row: a number with a decimal mark above numbers, or numbers
    beside a text that its column has too."""
    import pandas as pd

    _check_is_no_row(source, frame)
    numbers = [name for name in source.header if is_number(name)]
    scale = len(numbers) >= _SCALE and all(float(a) < float(b) for a, b in pairwise(numbers))
    if not numbers or scale:
        return
    for name in source.header:
        cells = frame[name]
        above = pd.api.types.is_numeric_dtype(cells.dtype)
        found = _DECIMAL.fullmatch(name) if above else name and (cells.head(1000) == name).any()
        if found:
            raise source.error(
                f"the first line holds {quoted(name)}, as a row would; a header that names the "
                "columns is needed."
            )
    values = [float(name) for name in numbers]
    rising = len(values) > 1 and all(a < b for a, b in pairwise(values))
    if not rising and not all(YEARS[0] <= value <= YEARS[1] for value in values):
        what = "A number is the name of a column" if len(values) == 1 else "Numbers are names"
        source.notes.append(
            f"{what}: {listed(numbers)}. If the first line is none that names columns, write one "
            "above it."
        )


def _check_is_no_row(source: TableFile, frame: pd.DataFrame) -> None:
    """Refuse a first line of which two texts or more, and no fewer than half, are cells of their
    own columns too, as those of a row of classes are."""
    texts = [name for name in source.header if name and frame[name].dtype.kind not in "biuf"]
    found = [name for name in texts if (frame[name].head(1000) == name).any()]
    if len(found) > 1 and 2 * len(found) >= len(texts):
        raise source.error(
            f"the first line holds {listed(found[:3])}, which stand in rows below too; a header "
            "that names the columns is needed."
        )


def is_number(text: str) -> bool:
    """Whether this is a number to Python, but for the underscores that its programs may have."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
