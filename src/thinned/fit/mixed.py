"""Columns of texts that are nearly numbers: refused by name, or pointed out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from thinned.errors import InputError, quoted
from thinned.fit.compounds import COMPOUNDS, mostly_compound
from thinned.fit.doubt import (
    MANY_VALUES,
    STRAY_WORDS,
    are_few,
    count,
    differing,
    option,
    stray,
)
from thinned.fit.numerals import STYLES, Numeral, as_families, is_mark, is_money, styles_of
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_strays", "is_nearly_compound"]

# Different cells for each thing that stands around numbers: of names each has its own.
_CELLS_OF_COMPANY = 4


def check_strays(
    source: TableFile,
    name: str,
    cells: pd.Series,
    texts: list[str],
    numerals: list[Numeral | None],
    is_target: bool,
) -> None:
    """Refuse a column that is numbers but for a few cells, or numbers written in several ways, and
    point out one that nearly is so. A target that nearly is so is refused too: it has no classes.
    """
    good = {t: one for t, one in zip(texts, numerals, strict=True) if one and styles_of([one])}
    words = [text for text in texts if text not in good]
    good = dict(zip(good, as_families(list(good.values())), strict=True))
    company = Counter((one.before, one.after) for one in cells.map(good.get) if one)
    if words:
        if len(company) == 1 and are_few(cells, good, words):
            raise stray(source, name, "numbers", words)
        _note_numbers(source, name, cells, good, company, is_target)
    elif len(company) == 1:
        raise _mixed(source, name, good, "the marks between digits differ")
    elif len(company) <= STRAY_WORDS and (
        len({one.digits for one in good.values()}) >= MANY_VALUES or _are_money(company)
    ):
        raise _mixed(source, name, good, "what stands around the numbers differs")
    else:
        _note_numbers(source, name, cells, good, company, is_target)


def is_nearly_compound(source: TableFile, name: str, cells: pd.Series, is_target: bool) -> bool:
    """Whether half of a column's texts, or more, are quantities in several units; then it is
    refused for a few other words, and pointed out else. A target that is so is refused."""
    texts = list(cells.unique())
    form = mostly_compound(texts)
    if form is None:
        return False
    way = COMPOUNDS[form]
    good = [text for text in texts if way.parts(text)]
    words = [text for text in texts if not way.parts(text)]
    if not words:
        return False
    what = way.sentence.split(" were ")[0].lower()
    if is_target or are_few(cells, good, words):
        raise stray(source, name, what, words)
    rows = int(cells.isin(good).sum())
    source.notes.append(
        f"Column {quoted(name)} was read as texts: it holds {what} in {count(rows, 'row')} and "
        f"others, as {quoted(words[0])}, in {len(cells) - rows:,}; write all in one way."
    )
    return True


def _note_numbers(
    source: TableFile,
    name: str,
    cells: pd.Series,
    good: Mapping[str, Numeral],
    company: Counter[tuple[str, str]],
    is_target: bool,
) -> None:
    """Point out a column of texts most of which are numbers: with the same company, or with some
    that comes again, as marks for what was estimated do. A target that is so is refused."""
    (most, rows), *_ = company.most_common(1)
    alike = {text for text, one in good.items() if (one.before, one.after) == most}
    mostly = len(alike) >= MANY_VALUES and 2 * rows >= len(cells)
    many = len({one.digits for one in good.values()}) >= MANY_VALUES
    marked = many and 2 * company.total() >= len(cells) and len(company) > 1
    marked &= len(company) * _CELLS_OF_COMPANY <= len(good)
    if is_target and (mostly or marked):
        words = [text for text in cells.unique() if text not in good]
        alone = len(company) == 1
        why = "what stands around the numbers differs"
        raise stray(source, name, "numbers", words) if alone else _mixed(source, name, good, why)
    if mostly:
        other = next(text for text in cells if text not in alike)
        source.notes.append(
            f"Column {quoted(name)} was read as texts: it holds numbers in {count(rows, 'row')} "
            f"and others, as {quoted(other)}, in {len(cells) - rows:,}; {option(name, 'number')} "
            "takes these for missing."
        )
    elif marked:
        first, second = (
            next(text for text, one in good.items() if (one.before, one.after) == around)
            for around, _ in company.most_common(2)
        )
        source.notes.append(
            f"Column {quoted(name)} was read as texts: its numbers have different things around "
            f"them, as {quoted(first)} and {quoted(second)}; the numbers alone could be used."
        )


def _are_money(company: Iterable[tuple[str, str]]) -> bool:
    return all(
        not is_mark(before) and (before or after in ("", "%") or is_money(before, after))
        for before, after in company
    )


def _mixed(source: TableFile, name: str, good: Mapping[str, Numeral], why: str) -> InputError:
    """The two cells that show how a column is mixed."""
    texts = list(good)
    first = texts[0]
    common = set(styles_of([good[first]]))
    for text in texts[1:]:
        one, same = good[text], common & set(styles_of([good[text]]))
        around = (one.before, one.after) == (good[first].before, good[first].after)
        if not same or not around:
            break
        common = same
    # The cell that says most of those before this one.
    other = max(texts[: texts.index(text)], key=lambda t: len(STYLES) - len(styles_of([good[t]])))
    most = Counter((one.before, one.after) for one in good.values()).most_common(1)[0][0]
    alike = [one for one in good.values() if (one.before, one.after) == most]
    either = {tuple(STYLES[style].values(alike)) for style in styles_of(alike)}
    kinds = ("number", "grouped") if len(either) > 1 else ("number",)
    return differing(source, name, other, text, why, *kinds)
