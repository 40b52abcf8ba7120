"""Quantities written in several units at once: 26:05:30, 4 yrs 8 mos, 47°12'30"N, 6'2", 19 1/2."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.date_numbers import CLOCK_NAME
from thinned.fit.doubt import MANY_VALUES
from thinned.fit.numerals import plainly

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPOUNDS", "LENGTH", "LENGTHS", "Compound", "compound_of", "mostly_compound"]

# The name of lengths of time that clocks show, as it is saved in a model.
LENGTH = "26:05:30"
# Texts that are looked at before all are, and that show whether most of them are such.
_FIRST, _SHOWN = 50, 400


@dataclass(frozen=True)
class Compound:
    """A way to write a quantity in units that follow each other.

    sentence : how a note on it begins. patterns : with a group for each unit, and `side` for a
    quarter of the compass. units : what each is worth in the one that is read. below : the largest
    count of a unit beside a larger one. needs : a unit that some cell of a column must have.
    """

    sentence: str
    patterns: tuple[str, ...]
    units: Mapping[str, float]
    below: Mapping[str, float]
    needs: str = ""

    def __post_init__(self) -> None:
        compiled = tuple(re.compile(one, re.IGNORECASE) for one in self.patterns)
        object.__setattr__(self, "_compiled", compiled)

    def values(self, cells: pd.Series) -> NDArray[np.float64]:
        """What cells stand for, texts or lengths by their type (seconds); NaN where one is none."""
        import pandas as pd

        if cells.dtype.kind == "m":
            return np.asarray(cells.dt.total_seconds(), np.float64)
        codes, texts = pd.factorize(cells)
        known = np.array([*map(self._value, texts), np.nan])  # the last: the code -1, a missing one
        found: NDArray[np.float64] = known[codes]
        return found

    def are(self, texts: pd.Series) -> bool:
        """Whether all of these are such quantities, and need more than one unit: 12 h is a number
        with a unit."""
        if not len(texts) or not all(map(self.parts, texts[:_FIRST])):
            return False
        parts = [self.parts(text) for text in texts.unique()]
        if not all(parts):
            return False
        units = {unit for one in parts for unit in one}
        return len(units) > 1 and (not self.needs or self.needs in units)

    def parts(self, text: Any) -> dict[str, float]:
        """What a text names of each unit; nothing where it is no such quantity."""
        if not isinstance(text, str):
            return {}
        plain = plainly(text)
        for pattern in vars(self)["_compiled"]:
            found = pattern.fullmatch(plain)
            if not found:
                continue
            groups = {k: v for k, v in found.groupdict().items() if v is not None}
            parts = {unit: float(groups[unit]) for unit in self.units if unit in groups}
            if len(parts) > 1 and any(parts.get(unit, 0) >= n for unit, n in self.below.items()):
                return {}
            if parts and "side" in groups:
                parts["side"] = -1.0 if groups["side"] in "SWsw" else 1.0
            return parts
        return {}

    def _value(self, text: Any) -> float:
        parts = self.parts(text)
        if not parts:
            return float("nan")
        side = parts.pop("side", 1.0)
        size = side * sum(self.units[unit] * part for unit, part in parts.items())
        return -size if plainly(text).startswith("-") else size


_N = r"[0-9]+(?:\.[0-9]+)?"
# As pandas and spreadsheets write them; of two numbers the second is the seconds.
_COLONS = (
    r"[-+]?(?:(?P<d>[0-9]+)\s*d(?:ays?)?,?\s*)?\+?(?:(?P<h>[0-9]+):(?=.*:))?"
    r"(?P<m>[0-9]+):(?P<s>[0-5][0-9](?:\.[0-9]+)?)"
)
# Below a minute, swimmers and runners have no colon: 58.31 beside 1:02.45.
_SECONDS = r"(?P<s>[0-5]?[0-9]\.[0-9]+)"
_WORDS = (
    rf"[-+]?(?:(?P<d>{_N})\s*(?:d(?:ays?)?|tage?n?|jours?)[,\s]*)?"
    rf"(?:(?P<h>{_N})\s*(?:h(?:(?:ou)?rs?|eures?|oras?)?|std\.?|stunden?)[,\s]*)?"
    rf"(?:(?P<m>{_N})\s*m(?:in(?:ute[ns]?|utos?|s)?)?\.?[,\s]*)?"
    rf"(?:(?P<s>{_N})\s*s(?:e[ck](?:onde?[ns]?|undos?|unden?|s)?)?\.?)?"
)
_ISO = rf"[-+]?P(?:(?P<d>{_N})D)?(?:T(?:(?P<h>{_N})H)?(?:(?P<m>{_N})M)?(?:(?P<s>{_N})S)?)?"
_AGES = (
    rf"(?:(?P<y>{_N})\s*y(?:ea)?(?:rs?)?\.?[,\s]*(?:and\s+)?)?"
    rf"(?:(?P<o>{_N})\s*mo(?:n(?:th)?)?s?\.?[,\s]*(?:and\s+)?)?"
    rf"(?:(?P<w>{_N})\s*w(?:ee)?ks?\.?[,\s]*(?:and\s+)?)?(?:(?P<d>{_N})\s*d(?:ays?)?\.?)?"
)
# Minutes and seconds behind degrees, a quarter of the compass on either side.
_ARC = rf"\s*(?:(?P<m>{_N})\s*'\s*)?(?:(?P<s>{_N})\s*(?:\"|''))?"
_DEGREES = rf"-?(?P<d>{_N})\s*[°º]{_ARC}\s*(?P<side>[NSEW])?"
_SIDED = r"(?P<d>[0-9]+\.[0-9]+)\s*(?P<side>[NSEW])"
_SIDE_FIRST = rf"(?P<side>[NSEW])\s*(?P<d>{_N})(?:\s*[°º]{_ARC})"
# The number below the line of a fraction, and the name of its unit.
_LINES = {f"o{n}": n for n in (2, 3, 4, 5, 6, 8, 16, 32, 64)}
_FRACTION = "|".join(rf"(?P<{unit}>[0-9]{{1,2}})\s*/\s*{n}(?![0-9])" for unit, n in _LINES.items())
_INCH = r"\s*(?:\"|''|in(?:ch(?:es)?)?\.?)"
_FEET = (
    r"-?(?P<f>[0-9]+)\s*(?:'|ft\.?|feet|foot)"
    rf"(?:[,\s]*(?P<i>{_N})(?!\s*/|[0-9]))?(?:[\s-]*(?:{_FRACTION}))?(?:{_INCH})?"
)
_INCHES = rf"(?P<i>{_N}){_INCH}"
_POUNDS = (
    rf"(?:(?P<t>{_N})\s*st(?:ones?)?\.?[,\s]*)?(?:(?P<p>{_N})\s*(?:lbs?|pounds?)\.?[,\s]*)?"
    rf"(?:(?P<z>{_N})\s*(?:oz|ounces?)\.?)?"
)
_MIXED = (
    rf"[-+]?(?:(?P<w>[0-9]+)(?:$|(?=\s*\")|(?:\s+|\s*-\s*)(?=[0-9])))?(?:{_FRACTION})?(?:\s*\")?"
)

# In the order in which they are tried. A name is what is saved in a model.
COMPOUNDS = {
    LENGTH: Compound(
        "Lengths of time were read, in seconds,",
        (_COLONS, _WORDS, _ISO, _SECONDS),
        {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0},
        {},
    ),
    "4 yrs 8 mos": Compound(
        "Lengths of time were read, in days,",
        (_AGES,),
        {"y": 365.25, "o": 365.25 / 12, "w": 7.0, "d": 1.0},
        {},
    ),
    "47°12'30\"N": Compound(
        "Degrees were read, south and west below 0,",
        (_DEGREES, _SIDED, _SIDE_FIRST),
        {"d": 1.0, "m": 1 / 60, "s": 1 / 3600},
        {"m": 60.0, "s": 60.0},
    ),
    "6'2\"": Compound(
        "Feet and inches were read, in inches,",
        (_FEET, _INCHES),
        {"f": 12.0, "i": 1.0} | {unit: 1 / n for unit, n in _LINES.items()},
        {"i": 12.0} | {unit: float(n) for unit, n in _LINES.items()},
        needs="f",
    ),
    "6 lb 5 oz": Compound(
        "Stones, pounds and ounces were read, in pounds,",
        (_POUNDS,),
        {"t": 14.0, "p": 1.0, "z": 1 / 16},
        {"z": 16.0},
    ),
    "19 1/2": Compound(
        "Fractions were read",
        (_MIXED,),
        {"w": 1.0} | {unit: 1 / n for unit, n in _LINES.items()},
        {unit: float(n) for unit, n in _LINES.items()},
        needs="w",  # else they could be days and months
    ),
}
# Those that are lengths of time.
LENGTHS = (LENGTH, "4 yrs 8 mos")
# Hours without a zero before them, all before ten, are lengths of time where so many differ.
_SHORT, _MANY_SHORT = re.compile(r"[0-9]:.*"), 20
_CLOCK = re.compile(
    r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?|24:00(?::00(?:\.0+)?)?"
)


def compound_of(texts: pd.Series, column: str = "") -> str | None:
    """The name of the way in which all of these are written, None where there is none.

    Times of day, as 12:05 and no later than 23:59, are no lengths; but 5:01 is one where many are
    so, all before ten o'clock. column : its name, which may say that they are times of day.
    """
    for name, way in COMPOUNDS.items():
        if way.are(texts):
            different = [text.strip() for text in texts.unique()]
            clock = all(map(_CLOCK.fullmatch, different))
            short = len(different) >= _MANY_SHORT and all(map(_SHORT.fullmatch, different))
            short &= CLOCK_NAME.fullmatch(column) is None or different[0].count(":") > 1
            return None if clock and not short else name
    return None


def mostly_compound(texts: Collection[str]) -> str | None:
    """The name of the way in which half of these different texts, or more, name several units."""
    first = [*islice(texts, _SHOWN)]  # as most columns show that they are none
    for name, way in COMPOUNDS.items():
        for some in (first, texts):
            found = sum(len(way.parts(text)) > 1 for text in some)
            if found < MANY_VALUES or 2 * found < len(some):
                break
        else:
            return name
    return None
