"""The sentences about a column whose cells do not agree, with the options that decide."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thinned.errors import InputError, listed, quoted
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MANY_VALUES",
    "STRAY_WORDS",
    "are_few",
    "count",
    "differing",
    "option",
    "row_of",
    "stray",
]

# A column of numbers with so few other words in it is a column of numbers with mistakes in it: so
# few of its cells, or up to half of them where there are many different numbers.
STRAY_WORDS, STRAY_SHARE, STRAY_HALF, MANY_VALUES = 3, 0.1, 0.5, 10
# Among so many different numbers there can be more words: each who filled in a form has his own.
MANY_WORDS = 12


def are_few(cells: pd.Series, good: Collection[str], words: Collection[str]) -> bool:
    """Whether these words are mistakes, or marks for what is missing, beside the good texts."""
    many = len(good) >= MANY_VALUES
    if len(words) > (MANY_WORDS if many else STRAY_WORDS):
        return False
    share = float(cells.isin(list(words)).mean())
    marks_only = not any(c.isalnum() for word in words for c in word)
    if many and (marks_only or len(words) == 1):
        return True
    return share <= STRAY_SHARE or (share <= STRAY_HALF and (marks_only or many))


def stray(source: TableFile, name: str, what: str, words: Sequence[str]) -> InputError:
    """The error of a column of numbers, or of dates, that holds some words too."""
    first, *others = words
    more = f", and in others {listed(others)}" if others else ""
    told = ",".join(word for word in words if "," not in word)  # which separates them there
    # An option that is cut short would name other words.
    missing = f"--missing {quoted(told)} or " if told and quoted(told) == f'"{told}"' else ""
    return source.error(
        f"column {quoted(name)} holds {what} except in {row_of(source, name, first)}, "
        f"where it holds {quoted(first)}{more}; leave cells without a value empty, or write "
        f"{missing}{option(name, 'text')}."
    )


def differing(
    source: TableFile, name: str, one: str, other: str, why: str, *kinds: str
) -> InputError:
    """The error of a column whose cells are written in several ways. kinds : each takes one."""
    options = " or ".join(option(name, kind) for kind in kinds)
    places = [f"{quoted(text)} in {row_of(source, name, text)}" for text in (one, other)]
    return source.error(
        f"column {quoted(name)} holds {' and '.join(places)}: {why}; write all in one way, or "
        f"{options} to take the rarer ones for missing, or {option(name, 'text')}."
    )


def row_of(source: TableFile, name: str, text: str) -> str:
    """The first row whose cell is this text."""
    cells = source.frame[name]
    if cells.dtype.kind == "f":
        cells = source.spelled(name)
    return source.row(int(np.flatnonzero((cells == text).to_numpy(bool, na_value=False))[0]))


def count(n: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def option(name: str, kind: str) -> str:
    """--type for a column."""
    return f"--type {quoted(f'{name}={kind}')}"
