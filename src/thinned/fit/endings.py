"""What stands below and between the rows of a table and is none: remarks, sums, headers again."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thinned.errors import listed, quoted
from thinned.fit.beginnings import is_number, lines_of
from thinned.fit.numerals import plainly, taken_apart
from thinned.fit.sums import is_statistic

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "below",
    "emptied",
    "line_of_units",
    "note_on_units",
    "with_even_header",
    "without_last_line",
    "without_repeated_header",
    "without_rest",
]

# Lines, and characters, at the end that are looked at; rows that are looked at for their kind.
_LINES, _CHARACTERS, _ROWS = 30, 100_000, 200
# Lines of a header, below the first one, that say more of the columns.
_MOST_OF_UNITS = 3
# The share of numbers in a column of them with marks for what is missing.
_MOSTLY = 0.8
# How a remark begins, and words of which it has more than a cell that ended too soon.
_REMARK = re.compile(
    r"(?i)[#*\u00a9(\u2020\u2021]|(source|note|notes|footnote|quelle|hinweis|anmerkung|stand|fuente|"
    r"nota|fonte|bron|last updated?|updated|exported|generated|created|downloaded|copyright|end of"
    r")\b"
)
_WORDS = 4


def below(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many of the last rows, the last of a table's, are no part of it.

    rows : cells, those of an empty line none. width : the number of columns.

    They are remarks, in one cell and behind an empty line or as remarks begin, rows without a
    value, and rows that are called the sum, the mean or another statistic of the others.
    """
    if width < 2:
        return 0
    found, called = _below(rows, width, False)
    # A name such as Max or N says little alone: beside another one it is a statistic.
    return _below(rows, width, True)[0] if len(called) == 1 else found


def _below(rows: Sequence[Sequence[str]], width: int, surely: bool) -> tuple[int, list[str]]:
    """How many of the last rows are no part of the table, and what statistics they are called.

    surely : whether only sums and means count, which are nothing else."""
    found, called = 0, list[str]()
    for back, cells in enumerate(reversed(rows), 1):
        known = [cell.strip() for cell in cells if cell.strip()]
        if known and len(cells) < width:  # what separates cells can be a part of a remark
            known = [" ".join(known)]
        rest = found == back - 1  # whether all below this one is no part of it
        word = _statistic(known, rows[: len(rows) - back], surely)
        called += [word] if word else []
        if not cells or (not known and rest) or word:
            found = back
        elif len(known) == 1 and not is_number(known[0]):
            remark = _REMARK.match(known[0]) or len(known[0].split()) >= _WORDS
            found = back if remark and rest else found
        else:
            break
    return (found, called) if found < len(rows) else (0, [])


def _statistic(known: Sequence[str], above: Sequence[Sequence[str]], surely: bool) -> str:
    """What statistic a row is called, alone among these; or an empty text."""
    words = [cell for cell in known if is_statistic(cell, surely)]
    texts = [cell for cell in known if not any(taken_apart([cell]))]
    if len(words) != 1 or len(texts) > 1 or not words[0][0].isalpha():
        return ""
    return "" if any(words[0] in map(str.strip, cells) for cells in above) else words[0]


def without_rest(text: str, separator: str) -> tuple[str, list[str]]:
    """The text without what stands below its table, and a note on it."""
    first = lines_of(text[:_CHARACTERS])
    place = next((n for n, line in enumerate(first) if line.strip()), 0)
    if len(text) <= _CHARACTERS:  # the header itself is no row
        lines = first[place + 1 :][-_LINES:]
    else:
        lines = lines_of(text[-_CHARACTERS:])[1:][-_LINES:]
    try:
        rows = [next(csv.reader([line.rstrip("\r\n")], delimiter=separator), []) for line in lines]
        (names,) = csv.reader([first[place].rstrip("\r\n")], delimiter=separator)
    except (csv.Error, ValueError):  # a cell of several lines: it is read, and said, as a whole
        return text, []
    last = below(rows, len(names))
    left = [cell.strip() for row in rows[len(rows) - last :] for cell in row if cell.strip()]
    cut = lines[len(lines) - last :]
    # What ends a cell of several lines is no remark.
    if not last or not any(rows[len(rows) - last :]) or any(line.count('"') % 2 for line in cut):
        return text, []
    said = "lines are" if last > 1 else "line is"
    which = f": {listed([cell for cell in left if not is_number(cell)], 3)}" if left else ""
    note = f"The last {f'{last} ' if last > 1 else ''}{said} no part of the table{which}."
    return text[: len(text) - sum(map(len, cut))], [note]


def with_even_header(text: str, separator: str) -> str:
    """The text with a header as wide as each row, where it is one name short.

    R writes names of rows without a name above them, others a separator at the end of each row.
    """
    lines = [line.rstrip("\r\n") for line in lines_of(text[:_CHARACTERS]) if line.strip()][:_LINES]
    try:
        header, *rows = (next(csv.reader([line], delimiter=separator)) for line in lines)
    except (csv.Error, ValueError, StopIteration):
        return text
    if len(rows) < 2 or any(len(row) != len(header) + 1 for row in rows) or len(header) < 2:
        return text
    place = text.index(lines[0])
    if all(not row[-1].strip() for row in rows):
        end = place + len(lines[0])
        return text[:end] + separator + text[end:]
    names = [row[0] for row in rows]
    if len({*names}) < len(names) or any(map(_is_fraction, names)):
        return text
    return text[:place] + separator + text[place:]


def _is_fraction(cell: str) -> bool:
    return is_number(cell) and not cell.strip().isdigit()


def without_repeated_header(text: str) -> tuple[str, list[str]]:
    """The text with the lines emptied that are its header again, and a note."""
    header = next((line for line in text[:_CHARACTERS].split("\n") if line.strip()), "")
    again = text.count(f"\n{header}\n", text.find(header) + len(header)) if header.strip() else 0
    if not again:
        return text, []
    place = text.find(header) + len(header)
    rest = text[place:].replace(f"\n{header}\n", "\n\n")
    lines = f"{again} lines are" if again > 1 else "One line is"
    return text[:place] + rest, [f"{lines} the header again, and no part of the table."]


# How wide each column is, and of what type, as databases of the United States write it: 5s 15s 20d.
_FORMAT, _FEW_FORMATS = re.compile(r"[0-9]{1,3}[a-z]"), 2


def line_of_units(frame: pd.DataFrame) -> list[str]:
    """What the first row says where it is no row but a second line of the header, with units; else
    nothing.

    It has a word, or nothing, above all numbers, and words above two columns of them, or nothing
    else. So may one or two more lines below it, which are looked at in their turn.
    """
    first, second = (
        [str(cell).strip() for cell in frame.iloc[at].dropna()] if at < len(frame) else []
        for at in (0, 1)
    )
    formats = len(first) > _FEW_FORMATS and all(map(_FORMAT.fullmatch, first))
    if formats and not all(map(_FORMAT.fullmatch, second)):
        return first
    found = (_units(frame, depth) for depth in range(1, _MOST_OF_UNITS + 1))
    return next(filter(None, found), [])


def _units(frame: pd.DataFrame, depth: int) -> list[str]:
    """What the first row says where the first `depth` rows are lines of the header."""
    units, others = [], []
    for place, name in enumerate(frame.columns):
        cells = frame.iloc[:, place]
        first = cells.iloc[0]
        there = first == first and first is not None  # NaN is not itself
        if cells.dtype.kind in "iufb":
            if there:
                return []
            continue
        texts = [plainly(str(cell)) for cell in cells.iloc[depth:_ROWS].dropna()]
        numbers = sum(map(bool, taken_apart(texts)))
        # A mark for what is missing may stand among them, which a unit is not.
        numeric = bool(texts) and numbers >= _MOSTLY * len(texts)
        numeric &= numbers == len(texts) or plainly(str(first)) not in texts
        between = [str(cell) for cell in cells.iloc[1:depth].dropna()]
        if numeric and any(taken_apart(between)):
            return []
        if numeric and there:
            if taken_apart([str(first)])[0]:
                return []
            units.append(str(first).strip())
        elif there:
            others.append(name)
    return units if len(frame) > depth + 1 and (len(units) > 1 or (units and not others)) else []


def emptied(text: str, line: int) -> str:
    """The text with nothing in a line, numbered from 1."""
    starts = np.cumsum([0, *map(len, lines_of(text[:_CHARACTERS]))])
    start, end = int(starts[line - 1]), int(starts[line])
    return text[:start] + "\n" + text[end:]


def note_on_units(line: int, units: Sequence[str]) -> str:
    """The sentence on a line with units."""
    return f"Line {line} says more of the columns, as {quoted(units[0])}, and is no row."


def without_last_line(text: str) -> str:
    """The text without its last line that is not empty."""
    return text[: text.rstrip("\r\n").rfind("\n") + 1]
