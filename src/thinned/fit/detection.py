"""Finding out how the texts of each column are to be read: all its cells decide, and doubt asks."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from thinned.errors import quoted
from thinned.fit.compounds import COMPOUNDS, LENGTH, LENGTHS, compound_of
from thinned.fit.date_detection import declared_dates, form_of_dates, form_of_typed
from thinned.fit.dates import FORMS, days_of
from thinned.fit.doubt import MANY_VALUES, option, row_of
from thinned.fit.mixed import check_strays, is_nearly_compound
from thinned.fit.numerals import (
    STYLES,
    Numeral,
    are_decimals,
    as_families,
    is_money,
    styles_of,
    taken_apart,
)
from thinned.fit.readings import VERBATIM, Reading, notes_on
from thinned.fit.source import TableFile
from thinned.fit.target import FEWEST_IN_CLASS, MOST_NUMBERED_CLASSES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["found", "plainly_numbers"]

# Rows in which a decimal point shows itself, where a column has any.
LOOKED_AT = 1000
# Numbers from here on may be codes with an E in them.
LARGE = 1e9


@dataclass
class _Numbers:
    """A column all of whose texts are numbers with the same company, and the styles they fit."""

    name: str
    texts: list[str]
    numerals: list[Numeral]
    styles: list[str]

    def reading(self, style: str, lenient: bool = False) -> Reading:
        one = self.numerals[0]
        return Reading(self.name, style, one.before, one.after, lenient)

    @property
    def rival(self) -> str | None:
        """The first style under which the cells would be other numbers than under the first."""
        values = STYLES[self.styles[0]].values(self.numerals)
        for style in self.styles[1:]:
            if not np.array_equal(STYLES[style].values(self.numerals), values):
                return style
        return None

    def example(self, style: str) -> str:
        """The cell that shows the style best."""
        way = STYLES[style]
        pairs = zip(self.texts, self.numerals, strict=True)

        def shows(pair: tuple[str, Numeral]) -> tuple[bool, bool, bool]:
            one = pair[1]
            return way.shows_group(one), way.shows_decimal(one), one.negative

        return max(pairs, key=shows)[0]


@dataclass
class _Found:
    source: TableFile
    readings: dict[str, Reading] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    # Decimal marks that the file surely uses: what a doubtful mark is in other columns.
    decimals: set[str] = field(default_factory=set)
    doubtful: list[_Numbers] = field(default_factory=list)
    targets: Collection[str] = ()

    def take(self, numbers: _Numbers, style: str) -> None:
        way, read = STYLES[style], self.source.frame[numbers.name].dtype.kind == "f"
        if way.group or not read:  # else pandas has read it so
            self.readings[numbers.name] = numbers.reading(style)
            self.examples[numbers.name] = numbers.example(style)
        decimal = any(map(way.shows_decimal, numbers.numerals))
        group = any(map(way.shows_group, numbers.numerals))
        if numbers.name not in self.source.respelled and (decimal or (group and way.group in ",.")):
            self.decimals.add(way.decimal)


def found(
    source: TableFile,
    names: Iterable[str],
    kinds: Mapping[str, str] | None = None,
    targets: Collection[str] = (),
) -> tuple[Reading, ...]:
    """How the texts of these columns are read; a column of plain numbers or texts has no reading.

    Notes on what was found are left with the source.

    Parameters
    ----------
    source : TableFile.
    names : columns.
    kinds : what the user says a column is, by its name: see `KINDS`.
    targets : the columns that are predicted.

    Raises
    ------
    InputError where a column is mixed, or could be read in two ways.
    """
    kinds = kinds or {}
    names = list(names)
    state = _Found(source, targets=targets)
    for name in names:
        kind = kinds.get(name)
        if kind == "text":
            state.readings[name] = Reading(name, VERBATIM)
            continue
        _times_as_texts(source, name)
        if kind in (None, "date") and days_of(source.frame[name]) is not None:
            state.readings[name] = Reading(name, next(iter(FORMS)))
            state.examples[name] = str(source.frame[name].dropna().iloc[0])[:10]
            continue
        form = form_of_typed(source, name, kind) if kind in (None, "date") else None
        if form is not None:
            state.readings[name] = Reading(name, form)
            first = int(np.argmax(source.frame[name].notna().to_numpy()))
            state.examples[name] = str(source.spelled(name, first + 1).iloc[first]).strip()
            continue
        if kind is None and source.frame[name].dtype.kind == "m":
            state.readings[name] = Reading(name, LENGTH)
            continue
        cells = _cells(state, name, kind)
        if cells is None or not len(cells):
            _check_declared(source, name, kind)
            if kind is None:
                _note_codes(source, name)
            continue
        if kind in ("number", "grouped"):
            state.readings[name] = _declared(source, name, cells, kind)
        elif kind == "duration":
            state.readings[name] = _duration(source, name, cells)
        elif kind is not None:
            state.readings[name] = declared_dates(source, name, cells, kind)
        elif form := compound_of(cells, name) or form_of_dates(source, name, cells):
            state.readings[name] = Reading(name, form)
            # Of a quantity in several units the longest cell shows the most of them.
            shows = max(cells.iloc[:LOOKED_AT], key=len) if form in COMPOUNDS else cells.iloc[0]
            state.examples[name] = str(shows)
        elif not is_nearly_compound(source, name, cells, name in targets):
            _look_at(state, name, cells)
    for numbers in state.doubtful:
        _decide(state, numbers)
    source.notes += notes_on(state.readings.values(), state.examples)
    return tuple(state.readings[name] for name in names if name in state.readings)


def _times_as_texts(source: TableFile, name: str) -> None:
    """Times of day that are such by their type become texts, which have a form."""
    cells = source.frame[name]
    known = list(cells.dropna()) if cells.dtype == object else []
    if known and all(isinstance(cell, datetime.time) for cell in known):
        source.frame[name] = cells.map(str, na_action="ignore")


def _note_codes(source: TableFile, name: str) -> None:
    """Point out whole numbers some of which begin with a zero, as postal codes do, or all of which
    are written as 61E09, as codes can be."""
    kind = source.frame[name].dtype.kind
    if source.text is None or kind not in "iuf":
        return
    form, how = r"\s*0[0-9]+\s*", "some begin with 0"
    if kind == "f":
        if not source.frame[name].abs().max() >= LARGE:
            return
        form, how = r"\s*[0-9]+[eE][0-9]+\s*", "all have an exponent"
    first = source.spelled(name, LOOKED_AT).dropna()
    codes = first[first.str.fullmatch(form)]
    if len(codes) and (kind != "f" or len(codes) == len(first)):
        source.notes.append(
            f"Column {quoted(name)} was read as numbers, and {how}, as "
            f"{quoted(codes.iloc[0].strip())}; if they are codes, write {option(name, 'text')}."
        )


def plainly_numbers(source: TableFile, name: str) -> Reading | None:
    """The reading of a column of texts that are numbers without company, of which none can be
    doubted; else None."""
    state = _Found(source)
    cells = _cells(state, name, "number")
    texts = [] if cells is None else list(cells.unique())
    numerals = [one for one in taken_apart(texts) if one and not one.before + one.after]
    if not texts or len(numerals) < len(texts) or not (styles := styles_of(numerals)):
        return None
    numbers = _Numbers(name, texts, numerals, styles)
    return None if numbers.rival else numbers.reading(styles[0])


def _check_declared(source: TableFile, name: str, kind: str | None) -> None:
    """Refuse a kind for a column that has a type already, and another one."""
    import pandas as pd

    known = source.frame[name].dropna()
    is_bool = pd.api.types.is_bool_dtype(known.dtype) or all(
        isinstance(cell, bool) for cell in known
    )
    numbers = kind in (None, "number", "grouped")
    if len(known) and kind is not None and (is_bool or not numbers):
        what = "true or false" if is_bool else "numbers"
        raise source.error(
            f"column {quoted(name)} is no {kind}, as --type says it is; it holds {what}."
        )


def _cells(state: _Found, name: str, kind: str | None) -> pd.Series | None:
    """The texts of a column that is to be looked at, without those that are missing."""
    import pandas as pd

    source = state.source
    cells = source.frame[name]
    if pd.api.types.is_float_dtype(cells.dtype):
        if source.text is None or not _could_be_thousands(state, name, kind):
            return None
        return source.spelled(name)[cells.notna()]
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    if pd.api.types.is_numeric_dtype(cells.dtype) or cells.dtype.kind in "Mm":
        return None
    known = cells.dropna()
    texts = isinstance(cells.dtype, pd.StringDtype) or all(isinstance(cell, str) for cell in known)
    return known if texts else None


def _could_be_thousands(state: _Found, name: str, kind: str | None) -> bool:
    """Whether floats could be grouped integers that were read 1000 times too small."""
    source = state.source
    assert source.text is not None
    cells = source.frame[name]
    numbers = cells.to_numpy(np.float64, na_value=np.nan)
    if kind is None:
        # Most columns show what they are in their first rows.
        if are_decimals(numbers[:LOOKED_AT]) or are_decimals(numbers):
            state.decimals.add(".")
            return False
        first = [text for text in source.spelled(name, LOOKED_AT) if text is not None]
        if any(re.search(r"\.(?![0-9]{3}\D*$)", text) for text in first):
            state.decimals.add(".")
            return False
    known = numbers[np.isfinite(numbers)]
    return bool((known % 1 > 0).any()) or ".000" in source.text


# ---------------------------------------------------------------------------------- one column


def _look_at(state: _Found, name: str, cells: pd.Series) -> None:
    numbers = _at_once(name, cells)
    if numbers is None:
        numbers = _cell_by_cell(state, name, cells)
    if numbers is None:
        return
    if numbers.rival is None:
        state.take(numbers, numbers.styles[0])
    else:
        state.doubtful.append(numbers)


def _at_once(name: str, cells: pd.Series) -> _Numbers | None:
    """What `_cell_by_cell` finds of a long column of numbers without company, in a short time."""
    if len(cells) <= LOOKED_AT:
        return None
    marked = cells[cells.str.contains(r"[., ']", regex=True)][:LOOKED_AT]
    texts = list(dict.fromkeys([*cells[:LOOKED_AT], *marked]))
    numerals = [one for one in taken_apart(texts) if one and not one.before + one.after]
    if len(numerals) < len(texts):
        return None
    styles = (s for s in styles_of(numerals) if STYLES[s].at_once(cells) is not None)
    first = next(styles, None)
    if first is None:
        return None
    # Only one that takes the decimal mark for the end of a group could make other numbers of them.
    rivals = [s for s in styles_of(numerals) if STYLES[s].group == STYLES[first].decimal]
    others = [s for s in rivals if STYLES[s].at_once(cells) is not None]
    return _Numbers(name, texts, numerals, [first, *others])


def _cell_by_cell(state: _Found, name: str, cells: pd.Series) -> _Numbers | None:
    texts = list(cells.unique())
    numerals = taken_apart(texts)
    good = [one for one in numerals if one and styles_of([one])]
    if not good or (state.source.typed and _is_code(texts)):
        return None
    if name in state.targets and _are_classes(cells, texts, good):
        return None
    good = as_families(good)
    company = {(one.before, one.after) for one in good}
    styles = styles_of(good) if len(good) == len(texts) and len(company) == 1 else []
    if styles and name in state.source.respelled:
        # Numbers by their type have no groups: how the others are written, these alone show.
        marked = [one for one in good if not one.digits.isdigit()]
        both = zip(texts, good, strict=True)
        if marked and styles_of(marked) != styles:
            few = [(text, one) for text, one in both if one in marked or len(one.digits) <= 3]
            texts, good = ([*those] for those in zip(*few, strict=True))
            styles = styles_of(good)
    if not styles:
        check_strays(state.source, name, cells, texts, numerals, name in state.targets)
        return None
    return _Numbers(name, texts, good, styles)


def _are_classes(cells: pd.Series, texts: list[str], good: list[Numeral]) -> bool:
    """Whether these texts of the target are names of classes, such as 1A and 2A."""
    named = any(one.before + one.after for one in good)
    return named and len(texts) <= min(MOST_NUMBERED_CLASSES, len(cells) // FEWEST_IN_CLASS)


def _is_code(texts: list[str]) -> bool:
    """Digits that a typed file holds as texts, some of which begin with a zero: names."""
    return all(text.isdigit() for text in texts) and any(
        len(text) > 1 and text.startswith("0") for text in texts
    )


def _decide(state: _Found, numbers: _Numbers) -> None:
    """A mark before three digits is a decimal mark or ends a group: what do other columns say?"""
    mark, rival = STYLES[numbers.styles[0]].decimal, numbers.rival
    assert rival is not None
    source, sure = state.source, state.decimals
    beside = any(mark not in one.digits for one in numbers.numerals)
    beside |= numbers.name in source.respelled  # whose numbers by their type have no mark
    # Money has no third decimal. A comma behind a currency ends a group; what else does so there
    # differs between countries, and fuel has three decimals.
    before, after = numbers.numerals[0].before, numbers.numerals[0].after
    money = is_money(before, after)
    if sure == {mark} == {","} and _are_below_thousand(numbers):
        _ask(source, numbers, rival)
    if sure == {mark}:
        if mark == "." and beside:
            cell = numbers.example(numbers.styles[0])
            source.notes.append(
                f"Column {quoted(numbers.name)}: {quoted(cell)} has a decimal point, as numbers "
                f"in other columns have; {option(numbers.name, 'grouped')} reads thousands."
            )
        state.take(numbers, numbers.styles[0])
    elif mark not in sure if sure else beside or (money and before and mark == ","):
        state.take(numbers, rival)
    elif not sure and mark == "." and source.separator != ";" and not money:
        state.take(numbers, numbers.styles[0])
    else:
        _ask(source, numbers, rival)


def _are_below_thousand(numbers: _Numbers) -> bool:
    """Whether many numbers without a mark have three digits, and none has four: 1,221 beside 744
    may be a thousand, whatever the mark is elsewhere."""
    plain = {len(one.digits) for one in numbers.numerals if one.digits.isdigit()}
    many = sum(one.digits.isdigit() for one in numbers.numerals) >= MANY_VALUES
    return many and max(plain) == 3


def _ask(source: TableFile, numbers: _Numbers, rival: str) -> NoReturn:
    cell = numbers.example(rival)
    (numeral,) = [n for n in taken_apart([cell]) if n]
    small, large = (STYLES[s].value(numeral) for s in (numbers.styles[0], rival))
    row = row_of(source, numbers.name, cell)
    raise source.error(
        f"column {quoted(numbers.name)}, {row} holds {quoted(cell)}, which can be {small:g} or "
        f"{large:.12g}; write {option(numbers.name, 'number')} for the first, "
        f"{option(numbers.name, 'grouped')} for the second."
    )


def _declared(source: TableFile, name: str, cells: pd.Series, kind: str) -> Reading:
    """The reading of a column that the user says is a number: what most of its cells have."""
    counts = Counter(cells)
    weights: Counter[tuple[str, str, str]] = Counter()
    grouped: set[str] = set()
    numerals = dict(zip(counts, taken_apart(counts), strict=True))
    good = [text for text, one in numerals.items() if one and styles_of([one])]
    known = zip(good, as_families([one for t in good if (one := numerals[t])]), strict=True)
    for text, one in known:
        for style in styles_of([one]):
            weights[style, one.before, one.after] += counts[text]
            grouped |= {style} if STYLES[style].shows_group(one) else set()
    possible = [key for key in weights if kind == "number" or key[0] in grouped]
    if not possible:
        raise source.error(
            f"column {quoted(name)} is no {'number' if kind == 'number' else 'grouped number'}, as "
            f"--type says it is; {row_of(source, name, cells.iloc[0])} holds "
            f"{quoted(cells.iloc[0])}."
        )
    order = list(STYLES)
    best = max(possible, key=lambda key: (weights[key], -order.index(key[0])))
    return Reading(name, *best, lenient=True)


def _duration(source: TableFile, name: str, cells: pd.Series) -> Reading:
    """The reading of a column that the user says holds lengths of time."""
    fitting = {form: int(np.isfinite(COMPOUNDS[form].values(cells)).sum()) for form in LENGTHS}
    best = max(fitting, key=lambda form: fitting[form])
    if not fitting[best]:
        raise source.error(
            f"column {quoted(name)} is no duration, as --type says it is; "
            f"{row_of(source, name, cells.iloc[0])} holds {quoted(cells.iloc[0])}."
        )
    return Reading(name, best, lenient=True)
