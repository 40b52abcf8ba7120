"""Rows that hold the sums of others, or their means and other statistics, and are no rows."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.doubt import count
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["adds_up", "is_statistic", "is_sum", "note_on_sums", "note_sums"]

# Rows that a row of sums has above it: of fewer the last is their sum by chance, as of 0, 1, 2, 3.
_FEWEST_ABOVE = 4
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
# What may be a name too: Max, N.
_STATISTIC = re.compile(
    rf"(?i){_TOTAL}|{_MEAN}|std|sd|s\.d\.|st\.? ?dev\.?|std\.? ?dev(iation)?\.?|standard deviation|"
    r"standardabweichung|stabw\.?|se|sem|s\.e\.|standard error|n|count|anzahl|min(imum)?\.?|"
    r"max(imum)?\.?|median|mediane?|mediana|var(iance)?|varianz|cv ?%?|rsd ?%?|range"
)
_SUM_OF = re.compile(rf"(?i){_TOTAL}\s+(?:of |for |von |de )?(?P<what>.+)|(?P<of>.+?)\s+{_TOTAL}")
# Different sums that a column has, or as many as it has sums.
_DIFFERENT = 3
# Rows that a group with a row of sums has at the most, and rows of tables that are looked at for
# what they are called: such tables are made to be read by people.
_GROUP, _ROWS = 1000, 100_000


def is_sum(text: str) -> bool:
    """Whether a text is what sums are called, and hardly anything else."""
    return _TOTALS.fullmatch(text.strip()) is not None


def is_statistic(text: str, surely: bool) -> bool:
    """Whether a text is what sums, means and other statistics are called. surely : sums and means
    only, which are called nothing else."""
    return (_SUM if surely else _STATISTIC).fullmatch(text) is not None


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


def note_sums(source: TableFile, targets: Collection[str], made: Collection[str] = ()) -> None:
    """Point out rows among others that hold the sums of those above or below them, as their numbers
    say; else those that are called so. made : columns that dates became."""
    found, columns, where = _sums_between(source.frame.drop(columns=list(made)))
    if found:
        shown = ", ".join(source.row(place) for place in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        one = len(found) == 1
        holds, them = ("holds", "it") if one else ("hold", "them")
        count_as = "it counts as a row" if one else "they count as rows"
        source.notes.append(
            f"{shown[0].upper()}{shown[1:]}{more} {holds} the sums of the rows {where} {them} in "
            f"{listed(columns, 3)}: take {them} out of the table, or {count_as}."
        )
    elif len(source.frame) <= _ROWS:
        _note_named(source, targets)


def _note_named(source: TableFile, targets: Collection[str]) -> None:
    """Point out texts that are what sums are called: Subtotal, and Total North beside North."""
    texts = {
        name: counts
        for name in source.frame.columns
        if source.frame[name].dtype.kind not in "biufMm"
        and len(counts := source.frame[name].value_counts())
    }
    known = {str(text).strip().casefold() for counts in texts.values() for text in counts.index}
    for name, counts in texts.items():
        sums = [text for text in counts.index if isinstance(text, str) and _is_sum_of(text, known)]
        if name not in targets and sums and len(sums) < len(counts):
            rows = int(counts[sums].sum())
            source.notes.append(
                f"Column {quoted(name)} holds {listed(sums, 3)} in {count(rows, 'row')}, which "
                "seem to be sums of others: take these rows out if they are."
            )


def _is_sum_of(text: str, known: Collection[str]) -> bool:
    """Whether a text is what sums are called, or the sum of what one of the known texts names."""
    found = _SUM_OF.fullmatch(" ".join(text.split()))  # many spaces would take it very long
    what = (found["what"] or found["of"]).strip().casefold() if found else ""
    return is_sum(text) or what in known


def _sums_between(frame: pd.DataFrame) -> tuple[list[int], list[str], str]:
    """The places of rows that hold the sums of the rows above them up to the next such row, or
    below them; the columns in which they do; and which of both.

    They are found where groups with such rows make up the whole table: in two columns alike, or in
    one with three of them. So many do not add up by accident, but where the same numbers come again
    and again: the levels 1, 2, 3 of an experiment are no sums.
    """
    for where, turned in (("above", frame), ("below", frame.iloc[::-1])):
        found: dict[tuple[int, ...], list[str]] = {}
        for place, kind in enumerate(turned.dtypes):
            if kind.kind in "iuf":
                values = turned.iloc[:, place].to_numpy(np.float64)
                rows = _group_sums(values)
                if rows and len(np.unique(values[list(rows)])) >= min(len(rows), _DIFFERENT):
                    found.setdefault(rows, []).append(str(turned.columns[place]))
        for rows, columns in found.items():
            if len(columns) > 1 or len(rows) > 2:
                last = len(frame) - 1
                places = list(rows) if where == "above" else sorted(last - row for row in rows)
                return places, columns, where
    return [], [], ""


def _group_sums(values: NDArray[np.float64]) -> tuple[int, ...]:
    """The places of numbers that are the sums of those before them, back to the last such number,
    or of such sums; none where they do not end the column too.

    A sum adds up two numbers or more that are not 0; no group is longer than `_GROUP`.
    """
    there = np.isfinite(values)
    values = np.where(there, values, 0.0)
    found: list[int] = []
    start = many = 0  # of the group; and how many sums a greater one adds up
    total = size_of_total = 0.0
    while start < len(values):
        if many > 1 and abs(total - values[start]) <= 1e-9 * size_of_total:
            found.append(start)
            start, many, total, size_of_total = start + 1, 0, 0.0, 0.0
            continue
        part = values[start : start + _GROUP]
        before = np.concatenate(([0.0], np.cumsum(part)[:-1]))
        size = np.concatenate(([0.0], np.cumsum(np.abs(part))[:-1]))
        terms = np.concatenate(([0], np.cumsum(part != 0.0)[:-1]))
        near = 1e-9 * size
        sums = (np.abs(before - part) <= near) & (terms > 1) & (np.abs(part) > near)
        if not sums.any():
            return ()
        found.append(start + int(np.argmax(sums)))
        start, many = found[-1] + 1, many + 1
        total, size_of_total = total + values[found[-1]], size_of_total + abs(values[found[-1]])
    return tuple(found)
