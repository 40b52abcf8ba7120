"""What is pointed out of columns and rows that are learned from, and left as they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.date_numbers import is_called_a_date
from thinned.fit.doubt import count, option
from thinned.fit.months import MONTHS
from thinned.fit.source import TableFile
from thinned.fit.target import Goal, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "alike",
    "note_alike",
    "note_calendar",
    "note_classes",
    "note_copies",
    "note_far_date",
    "note_no_values",
    "note_row_names",
    "note_telling",
    "note_texts",
    "numbers_in",
]

# Of fewer rows little can be told. Numbers from here on are no years and no lengths of time.
FEW_ROWS, _LEAST_DATE = 50, 10_000
# Dates before or after these years are seldom of the Gregorian calendar.
OLD, FAR = 1500, 2400
# Whole numbers with so many digits each are codes more often than counts.
_LONG, _LONGEST = 1e8, 1e19
# Numbers that stand for no value in many tables, where they are far from all others.
_NO_VALUES = frozenset(
    sign * number for number in (9, 99, 999, 9999, 99999, 999999) for sign in (1, -1)
)
_NO_VALUES |= {-1}
# From this correlation on a column looks as if it were computed from the quantity.
NEARLY = 0.999
# This many rows, or fewer, are put in order before all are.
FIRST_ORDERED = 1000
# Rows that a text must have on average for its class to be no accident.
FEWEST_OF_TEXT = 5

# Names of columns whose numbers are codes more often than quantities.
_CODES = re.compile(
    r"(?i:(.*[_ .-])?(zip|zip[_ ]?code|postal[_ ]?code|post[_ ]?code|plz|fips|naics|isbn|ean|"
    r"version|id|ids|uid|pid|nr|key)([_ .-]?(no|nr|number))?|.*(?<!en)(?<!de)codes?[0-9]?)"
    r"|.*[a-z](I[dD]|Key)"
)
# Texts that may say that there is no class.
_NO_CLASS = re.compile(
    r"(?i)[^\w\s]*|n\.?[ad]\.?|unknown|unspecified|not (known|available|given|specified|reported)|"
    r"missing|unbekannt|k\. ?a\.|keine angabe|inconnu|desconocido|sconosciuto"
)
# Cyrillic and Greek letters that look like Latin ones, and signs that are not to be seen.
_LOOKS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0410\u0412\u0415\u041a\u041c\u041d\u041e"
    "\u0420\u0421\u0422\u0425\u0406\u0408\u0405\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f"
    "\u03a1\u03a4\u03a5\u03a7\u03bf\u03bd",
    "aeopcyxijsABEKMHOPCTXIJSABEZHIKMNOPTYXov",
    "\u200b\u200c\u200d\u2060\ufeff\u00ad",
)
_DAY = re.compile(r"[0-9]{1,2}[-. ]{1,2}([^\W\d_]{3,12})\.?|([^\W\d_]{3,12})\.?[-. ][0-9]{1,2}")
# What stands between several texts in a cell.
_MARKS = ";|,/"
# A column with at least this many different texts shows its form; fewer can each be a class.
_MANY_OF_FORM, _MANY_JOINED = 12, 8
# A share of texts that have the same form; of rows that are equal to others.
SAME_FORM, COPIES_SHARE = 0.8, 0.01


def note_no_values(source: TableFile, name: str, values: NDArray[np.float64]) -> None:
    """Point out a number that may stand for no value: -999 where all others are from 0 to 50."""
    known = values[np.isfinite(values)]
    for extreme in (float(known.min()), float(known.max())):
        if extreme not in _NO_VALUES:
            continue
        others = known[known != extreme]
        rows = len(known) - len(others)
        if rows < 2 or len(others) < 2 or len(np.unique(others)) < 3:
            continue
        why = ""
        if np.abs(others - extreme).min() > max(float(np.ptp(others)), 1.0):
            why = "far from all other numbers"
        elif extreme < 0 <= others.min() and (extreme < -1 or others.min() > 0):
            why = "the only number below 0"
        if why:
            source.notes.append(
                f"Column {quoted(name)} holds {extreme:g} in {count(rows, 'row')}, {why}: if it "
                f'says that there is none, write --missing "{extreme:g}".'
            )


def note_row_names(source: TableFile, name: str, values: NDArray[np.float64]) -> None:
    """Point out numbers that may name something: their column is called so; they rise from row to
    row, or are long and have the same number of digits."""
    whole = not (values[:FIRST_ORDERED] % 1).any() and not (values % 1).any()
    if len(values) < FEW_ROWS or not whole or not np.isfinite(values).all():
        _note_codes(source, name, values)
        return
    steps = np.diff(values)
    why = ""
    if (steps > 0).all() and len({*steps[:FIRST_ORDERED].tolist()}) > 1:
        why = "rises from each row to the next, as numbers of rows do"
    elif values.min() >= _LONG and values.max() < _LONGEST:
        digits = np.floor(np.log10(values))
        if (digits == digits[0]).all() and len(np.unique(values)) == len(values):
            why = f"has another number of {int(digits[0]) + 1} digits in each row, as codes are"
    if why:
        source.notes.append(
            f"Column {quoted(name)} {why}, and is learned from as a quantity; if it only names "
            f"rows, write --drop {quoted(name)}."
        )
    else:
        _note_codes(source, name, values)


def _note_codes(source: TableFile, name: str, values: NDArray[np.float64]) -> None:
    """Point out a column of numbers whose name says codes, or dates, and that is neither."""
    known = values[np.isfinite(values)]
    said = f"Column {quoted(name)} "
    if any(said in note for note in source.notes) or len(np.unique(known[:FIRST_ORDERED])) < 3:
        return
    if _CODES.fullmatch(name):
        source.notes.append(
            f"{said}is called as codes are, and is learned from as a quantity; if its numbers are "
            f"names, write {option(name, 'text')}, or --drop {quoted(name)}."
        )
    elif is_called_a_date(name) and not (known % 1).any() and known.min() >= _LEAST_DATE:
        source.notes.append(
            f"{said}is called as dates are, and its numbers are in no form of dates that is known "
            f"here, as {known[0]:.0f}: learned from as a quantity. Write dates as 2023-03-25, or "
            f"--drop {quoted(name)}."
        )


def note_far_date(source: TableFile, column: str, days: NDArray[np.float64]) -> None:
    """Point out a date that may stand for none: 9999-12-31 where all others are of some years."""
    known = days[np.isfinite(days)]
    for extreme in {float(known.min()), float(known.max())}:
        others = known[known != extreme]
        rows = len(known) - len(others)
        if rows < 2 or len(others) < 2 or len(np.unique(others)) < 3:
            continue
        if np.abs(others - extreme).min() > max(2 * float(np.ptp(others)), 365.0):
            date = np.datetime64(int(extreme), "D")
            source.notes.append(
                f"Column {quoted(column)} holds {date} in {count(rows, 'row')}, far from all other "
                "dates: if it says that there is none, name its cell by --missing."
            )


def note_calendar(source: TableFile, column: str, days: NDArray[np.float64]) -> None:
    """Point out dates that are of another calendar, as their years show: 2566 is 2023 in Thailand,
    1402 in Iran, and 1445 in Arabia."""
    known = days[np.isfinite(days)]
    ends = np.array([known.min(), known.max()]).astype("datetime64[D]").astype("datetime64[Y]")
    low, high = (int(year) for year in ends.astype(np.int64) + 1970)
    if low > FAR or high < OLD:
        source.notes.append(
            f"Column {quoted(column)} holds dates of the years {low} to {high}. If they are of "
            "another calendar (Buddhist, Persian, Islamic), their months and weekdays are not "
            "those that were read: convert them."
        )


def note_texts(source: TableFile, name: str, cells: pd.Series) -> None:
    """Point out texts with several numbers or texts in a cell."""
    texts = cells.value_counts().index.to_series()
    _note_days(source, name, texts)
    _note_blocks(source, name, cells)
    what, use = numbers_in(texts) if len(texts) > _MANY_OF_FORM else ("", "")
    if not what and len(texts) >= _MANY_JOINED:
        what, use = _several_texts(texts), "a column for each could be used"
    if what:
        source.notes.append(
            f"Column {quoted(name)} has {what}; each cell counts as one text, and {use}."
        )


def _note_blocks(source: TableFile, name: str, cells: pd.Series) -> None:
    """Point out texts that stand in the first of several rows, as in cells that were merged."""
    known = cells.dropna()
    alone = cells.notna().iloc[0] and 1 < len(known) <= len(cells) / 2
    if alone and (known.to_numpy()[1:] != known.to_numpy()[:-1]).all():
        source.notes.append(
            f"Column {quoted(name)} has a value in {len(known):,} of {len(cells):,} rows, each "
            "time another one than before: if it holds for the rows below too, write it there."
        )


def _note_days(source: TableFile, name: str, texts: pd.Series) -> None:
    """Point out days without a year, and those that a spreadsheet has made of names: 1-Mar."""
    days = [text for text in texts if _is_day(text)]
    if len(days) == len(texts) > 1:
        source.notes.append(
            f"Column {quoted(name)} holds days without a year, as {quoted(days[0])}, which count "
            "as texts; with a year they would be read as dates."
        )
    elif days and 2 * len(days) <= len(texts):
        source.notes.append(
            f"Column {quoted(name)} holds {listed(days)} among other texts: a spreadsheet makes "
            "such days of names like MARCH1 or DEC2."
        )


def _is_day(text: str) -> bool:
    """Whether a text is a day and a month's name, and no more."""
    found = _DAY.fullmatch(text.strip())
    return found is not None and (found[1] or found[2]).lower() in MONTHS


def numbers_in(texts: pd.Series) -> tuple[str, str]:
    """What texts of one form with numbers in each are, and how to use them; or empty strings."""
    forms = texts.str.strip().str.replace(r"[0-9]+(?:\.[0-9]+)?", "9", regex=True)
    form = str(forms.mode().iloc[0])
    first = re.match("[^A-Za-z]*9", form)  # else it is a number behind a name, as in P17
    if (forms == form).mean() < SAME_FORM or not (first or re.search("9[^A-Za-z0-9]+9", form)):
        return "", ""
    shown = quoted(texts[forms == form].iloc[0])
    if form.count("9") == 1:
        return f"a number in each cell, as {shown}", "the number alone could be used"
    return f"several numbers in each cell, as {shown}", "a column for each could be used"


def _several_texts(texts: pd.Series) -> str:
    """What cells are that are made of few texts with a mark between them, or an empty string."""
    for mark in _MARKS:
        joined = texts[texts.str.contains(mark, regex=False)]
        if len(joined) * 5 < len(texts):
            continue
        parts = {part.strip() for text in texts for part in text.split(mark)} - {""}
        if 1 < len(parts) * 2 <= len(texts):
            return f"several texts in a cell, as {quoted(joined.iloc[0])}, {len(parts)} in all"
    return ""


def note_classes(source: TableFile, goal: Goal) -> None:
    """Point out a class that may say that there is none."""
    found = [one for one in goal.classes if isinstance(one, str) and _NO_CLASS.fullmatch(one)]
    if found and len(found) < len(goal.classes):
        source.notes.append(
            f"The target {quoted(goal.name)} has the class {quoted(found[0])}, which may say that "
            f"there is none; then write --missing {quoted(found[0])}."
        )


def note_copies(source: TableFile, features: pd.DataFrame, goals: Sequence[Goal]) -> None:
    """Point out rows that are equal to others: what is judged on was then trained on too.

    Where a quantity tells nearly all rows apart, rows that are equal in all columns are copies, and
    no accident. Columns are looked at one by one, and only the rows that are equal so far.
    """
    import pandas as pd

    n = len(features)
    columns = [features[name] for name in features] + [pd.Series(goal.target) for goal in goals]
    # Which leave the fewest rows, first.
    columns.sort(key=lambda c: (c.dtype.kind != "f", -c.head(FIRST_ORDERED).nunique()))
    left = _with_equals(columns[0])
    numbers = np.zeros(len(left), np.int64)
    for cells in columns:
        if not len(left):
            return
        codes = pd.factorize(cells.iloc[left], use_na_sentinel=False)[0].astype(np.int64)
        numbers = np.unique(numbers * (codes.max() + 1) + codes, return_inverse=True)[1]
        again = np.bincount(numbers)[numbers] > 1
        left, numbers = left[again], numbers[again]
    copies = len(left) - len(np.unique(numbers))
    if n < FEW_ROWS or copies < COPIES_SHARE * n:
        return
    if any(cells.dtype.kind == "f" and 2 * cells.nunique() > n - copies for cells in columns):
        source.notes.append(
            f"{count(copies, 'row')} of {n:,} are equal to others in all columns: a network is "
            "then judged on rows that it was trained on. Take copies out, or keep them together "
            "by --groups."
        )


def _with_equals(cells: pd.Series) -> NDArray[np.intp]:
    """The positions of cells that are equal to others; of texts, all positions.

    Numbers are put in order for it: codes for all of them would take six times their memory.
    """
    if cells.dtype.kind != "f":
        return np.arange(len(cells))
    order = np.argsort(cells.to_numpy(np.float64))
    values = cells.to_numpy(np.float64)[order]
    same = (values[1:] == values[:-1]) | np.isnan(values[:-1])  # of which none is before a number
    again = np.zeros(len(values), bool)
    again[1:] |= same
    again[:-1] |= same
    return np.sort(order[again])


def note_telling(
    source: TableFile,
    name: str,
    kind: str,
    cells: pd.Series,
    goals: Sequence[Goal],
) -> None:
    """Point out a column that tells a target nearly or wholly, and may have been made of it."""
    there = cells.notna().to_numpy()
    whole = bool(there.all())
    known = cells if whole else cells[there]
    if there.sum() * 2 < len(there) or len(known) < 3:
        return
    for goal in goals:
        why = _tells(kind, known, goal.target if whole else goal.target[there], goal.task)
        if why:
            which = f" (of {quoted(goal.name)})" if len(goals) > 1 else ""
            source.notes.append(
                f"Column {quoted(name)} {why}{which}. If it is not known before the target is, "
                f"leave it out: --drop {quoted(name)}."
            )


def _tells(kind: str, known: pd.Series, y: NDArray[Any], task: Task) -> str:
    """How the known cells of a column tell the target, or an empty string."""
    if kind == "numeric":
        x = known.to_numpy(np.float64)
        return _in_line(x, y) if task == "regression" else _in_ranges(x, y)
    if task == "classification":
        different = known.nunique()
        pairs = len(set(zip(known, y.tolist(), strict=True)))
        if pairs == different <= len(known) / FEWEST_OF_TEXT and len(np.unique(y)) > 1:
            return "tells the class of each row: none of its texts goes with two classes"
    return ""


def _in_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The sentence about numbers that go with a quantity in a straight line, or in its order as a
    logarithm does."""
    r = _correlation(x, y)
    if abs(r) > NEARLY:
        return f"has a correlation of {r:.5f} with the target"
    for rows in _some_then_all(x):
        r = _correlation(_ranks(x[rows]), _ranks(y[rows]))
        if abs(r) <= NEARLY:
            return ""
    return f"puts the rows in the target's order (a rank correlation of {r:.5f})"


def _in_ranges(x: NDArray[np.float64], y: NDArray[np.intp]) -> str:
    """The sentence about numbers with a range for each class, where no two ranges meet."""
    for rows in _some_then_all(x):
        order = np.argsort(x[rows], kind="stable")
        numbers, classes = x[rows][order], y[rows][order]
        changes = np.flatnonzero(np.diff(classes))
        alone = len(changes) == len(np.unique(classes)) - 1
        if not alone or (numbers[changes] == numbers[changes + 1]).any():
            return ""
    one = len(changes) == 0
    return "" if one else "tells the class of each row: the classes' ranges do not overlap"


def _some_then_all(x: NDArray[np.float64]) -> tuple[slice, slice]:
    """To put all rows in order takes long: those of some show whether it is worth it."""
    return slice(None, None, len(x) // FIRST_ORDERED + 1), slice(None)


def _ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    import pandas as pd

    return np.asarray(pd.Series(x).rank(), np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's, of numbers of any size; 0 where one of both is constant."""
    if not np.ptp(x) or not np.ptp(y):
        return 0.0
    a, b = ((v - v.mean()) / np.abs(v - v.mean()).max() for v in (x, y))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def alike(text: str) -> str:
    """What texts have in common that differ in spaces, capitals or look-alike letters only."""
    plain = unicodedata.normalize("NFKC", text.translate(_LOOKS)).casefold().translate(_LOOKS)
    return " ".join(plain.split())


def note_alike(source: TableFile, name: str, cells: pd.Series) -> None:
    """Point out texts of a column that differ in spaces, capitals or letters of other scripts that
    look the same only."""
    found: dict[str, list[str]] = {}
    for text in cells.dropna().unique():
        found.setdefault(alike(text), []).append(text)
    groups = [_side_by_side(texts) for texts in found.values() if len(texts) > 1]
    if groups:
        more = f"; and {len(groups) - 3} more" if len(groups) > 3 else ""
        source.notes.append(
            f"Column {quoted(name)} has texts that differ in {_how(found)} only, and count as "
            f"different: {'; '.join(groups[:3])}{more}."
        )


def _side_by_side(texts: Sequence[str]) -> str:
    """Texts that look alike, with the number of a letter that looks like another one."""
    odd = {text: next((c for c in text if ord(c) in _LOOKS), "") for text in texts}
    if not any(odd.values()):
        return listed(texts, 4)
    shown = [
        f"{quoted(text)} (with U+{ord(c):04X})" if c else quoted(text) for text, c in odd.items()
    ]
    return ", ".join(shown[:4])


def _how(alike: Mapping[str, Sequence[str]]) -> str:
    """In what the texts of a group differ."""
    groups = [[unicodedata.normalize("NFC", one) for one in texts] for texts in alike.values()]
    if all(len(set(texts)) == 1 for texts in groups if len(texts) > 1):
        return "how letters with accents are stored"
    several = [texts for texts in alike.values() if len(texts) > 1]
    if any(len({text.translate(_LOOKS) for text in texts}) < len(texts) for texts in several):
        return "spaces, capitals or letters that look the same"
    return "spaces or capitals"
