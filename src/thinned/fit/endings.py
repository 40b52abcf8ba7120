"""What stands below and between the rows of a table and is none: remarks, sums, headers again."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from thinned.errors import listed, quoted
from thinned.fit.beginnings import is_number, lines_of
from thinned.fit.numerals import plainly, taken_apart

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "adds_up",
    "below",
    "emptied",
    "is_sum",
    "line_of_units",
    "note_on_sums",
    "note_on_units",
    "with_even_header",
    "without_last_line",
    "without_repeated_header",
    "without_rest",
]

# Lines, and characters, at the end that are looked at; rows that are looked at for their kind.
_LINES, _CHARACTERS, _ROWS = 30, 100_000, 200
# Rows that a row of sums has above it: of fewer the last is their sum by chance, as of 0, 1, 2, 3.
_FEWEST_ABOVE = 4
# How a remark begins, and words of which it has more than a cell that ended too soon.
_REMARK = re.compile(
    r"(?i)[#*\u00a9(\u2020\u2021]|(source|note|notes|footnote|quelle|hinweis|anmerkung|stand|fuente|"
    r"nota|fonte|bron|last updated?|updated|exported|generated|created|downloaded|copyright|end of"
    r")\b"
)
_WORDS = 4
# What names the row that adds up the others, or is their mean.
_TOTAL = (
    r"(grand |sub|over)?(-?total|totals?|totale|totaal|suma|summe|gesamt(summe)?|insgesamt|"
    r"zusammen|somme|soma|razem|celkem|yhteens\u00e4|toplam|\u0438\u0442\u043e\u0433\u043e|"
    r"\u0432\u0441\u0435\u0433\u043e|\u5408\u8ba1|\u5408\u8a08|\u7dcf\u8a08)"
    r"( general| g\u00e9n\u00e9ral)?:?"
)
_MEAN = r"(sum|average|mean|mittelwert|durchschnitt|moyenne|promedio|media)( general)?:?"
_SUM = re.compile(rf"(?i){_TOTAL}|{_MEAN}")
_TOTALS = re.compile(rf"(?i){_TOTAL}")


def is_sum(text: str) -> bool:
    """Whether a text is what sums are called, and hardly anything else."""
    return _TOTALS.fullmatch(text.strip()) is not None


def below(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many of the last rows, the last of a table's, are no part of it.

    rows : cells, those of an empty line none. width : the number of columns.

    They are remarks, in one cell and behind an empty line or as remarks begin, rows without a
    value, and a row that is called the sum or the mean of the others.
    """
    if width < 2:
        return 0
    found = 0
    for back, cells in enumerate(reversed(rows), 1):
        known = [cell.strip() for cell in cells if cell.strip()]
        if known and len(cells) < width:  # what separates cells can be a part of a remark
            known = [" ".join(known)]
        rest = found == back - 1  # whether all below this one is no part of it
        if not cells or (not known and rest) or _is_sum(known, rows[: len(rows) - back]):
            found = back
        elif len(known) == 1 and not is_number(known[0]):
            remark = _REMARK.match(known[0]) or len(known[0].split()) >= _WORDS
            found = back if remark and rest else found
        else:
            break
    return found if found < len(rows) else 0


def _is_sum(known: Sequence[str], above: Sequence[Sequence[str]]) -> bool:
    """Whether a row is called a sum, alone among these."""
    words = [cell for cell in known if _SUM.fullmatch(cell)]
    texts = [cell for cell in known if not any(taken_apart([cell]))]
    if len(words) != 1 or len(texts) > 1:
        return False
    return not any(words[0] in map(str.strip, cells) for cells in above)


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


def line_of_units(frame: pd.DataFrame) -> list[str]:
    """What the first row says where it is no row but a second line of the header, with units; else
    nothing.

    It has a word, or nothing, above all numbers, and words above two columns of them, or nothing
    else.
    """
    units, others = [], []
    for place, name in enumerate(frame.columns):
        cells = frame.iloc[:, place]
        first = cells.iloc[0]
        there = first == first and first is not None  # NaN is not itself
        if cells.dtype.kind in "iufb":
            if there:
                return []
            continue
        texts = [plainly(str(cell)) for cell in cells.iloc[1:_ROWS].dropna()]
        numeric = bool(texts) and all(taken_apart(texts))
        if numeric and there:
            if taken_apart([str(first)])[0]:
                return []
            units.append(str(first).strip())
        elif there:
            others.append(name)
    return units if len(frame) > 2 and (len(units) > 1 or (units and not others)) else []


def emptied(text: str, line: int) -> str:
    """The text with nothing in a line, numbered from 1."""
    starts = np.cumsum([0, *map(len, lines_of(text[:_CHARACTERS]))])
    start, end = int(starts[line - 1]), int(starts[line])
    return text[:start] + "\n" + text[end:]


def note_on_units(line: int, units: Sequence[str]) -> str:
    """The sentence on a line with units."""
    return f"Line {line} says more of the columns, as {quoted(units[0])}, and is no row."


def adds_up(frame: pd.DataFrame) -> str:
    """What the last row is where it is none but holds the sums of those above it, or their means,
    in two columns or more and in each that has numbers; an empty text where it is a row.

    Means of whole numbers are found by chance: two columns must have decimals in theirs.
    """
    known, decimals = 0, 0
    kinds = {"sums", "means"}
    if len(frame) <= _FEWEST_ABOVE:
        return ""
    numbers = [place for place, kind in enumerate(frame.dtypes) if kind.kind in "iuf"]
    ends = {place: float(cast(Any, frame.iat[len(frame) - 1, place])) for place in numbers}
    written = {place: _decimals(last) for place, last in ends.items()}
    for place, last in ends.items():
        values = frame.iloc[:-1, place].to_numpy(np.float64)
        above = values[np.isfinite(values)]
        if not np.isfinite(last) or len(above) < _FEWEST_ABOVE or np.ptp(above) == 0.0:
            continue
        digits = written[place]
        # A mean that is rounded to 5.00 is read as 5: the others say to how many digits.
        to = digits or max(written.values())
        off = 0.5 * 10.0**-to if to else 0.0
        slack = 1e-9 * float(np.abs(above).sum())
        if abs(above.sum() - last) > slack:
            kinds.discard("sums")
        if abs(above.mean() - last) > max(off * 1.001, slack / len(above)):
            kinds.discard("means")
        if not kinds:
            return ""
        known, decimals = known + 1, decimals + (digits > 0)
    kind = min(kinds, key=["sums", "means"].index)
    return kind if min(known, decimals if kind == "means" else known) > 1 else ""


def _decimals(number: float) -> int:
    """Digits behind the decimal mark."""
    return len(repr(number).partition(".")[2]) if np.isfinite(number) and number % 1 else 0


def note_on_sums(kind: str, which: str = "The last row", where: str = "above") -> str:
    """The sentence on a row that is none."""
    return f"{which} holds the {kind} of the rows {where} it, and is no part of the table."


def without_last_line(text: str) -> str:
    """The text without its last line that is not empty."""
    return text[: text.rstrip("\r\n").rfind("\n") + 1]
