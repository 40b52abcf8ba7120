"""Numbers as people write them: signs, groups of digits, decimal marks, currencies and units.

A cell is taken apart into its sign, what stands before and after the digits, and the digits with
the marks between them. A column of such cells then has one of the styles of `STYLES`, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STYLES", "Numeral", "Style", "is_mark", "plainly", "taken_apart"]

# What stands for a space, an apostrophe or a minus in tables from Excel, R, SAP and the web.
_PLAIN = str.maketrans(
    dict.fromkeys("\u00a0\u2002\u2007\u2008\u2009\u200a\u202f\u2060", " ")
    | dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
    | {"\u066b": ".", "\u066c": ",", "\uff0e": ".", "\uff0c": ","}
    # Digits of other scripts: wide, Arabic, Persian, Devanagari.
    | {chr(first + d): str(d) for first in (0xFF10, 0x660, 0x6F0, 0x966) for d in range(10)}
    | dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\ufeff", "")  # nothing to see
)
_SIGNS = "$¢£¤¥֏؋৲৳૱௹฿៛₠₡₢₣₤₥₦₧₨₩₪₫€₭₮₯₰₱₲₳₴₵₸₹₺₻₼₽₾₿﷼"
# Before a number only what is surely a currency counts: "A12" is a name. (ISO 4217, and usage.)
_CODES = (
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KES|KRW|"
    "MAD|MXN|MYR|NGN|NOK|NZD|PEN|PHP|PKR|PLN|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR|"
    r"Rs\.?|Fr\.?|kr\.?"
)
# Signs beside currencies that may precede a number: about, number, and the ends of a range.
_MARKS = "[<>]=?|[\u2264\u2265\u2248~#\u2116]|ca\\.|approx\\."
# After it any short word counts, if it is the same one in the whole column.
_CELL = re.compile(
    r"(?P<sign>[-+]?)\s*"
    rf"(?P<before>[A-Z]{{0,3}}[{_SIGNS}]|(?:{_CODES})(?![A-Za-z])|{_MARKS})?\s*(?P<inner>[-+]?)\s*"
    r"(?P<digits>[0-9](?:[0-9.,' ]*[0-9.,])?|[.,][0-9]+)(?P<exponent>[eE][-+]?[0-9]{1,3})?\s*"
    rf"(?P<after>[^\W\d_][\w%°²³/·*^]{{0,11}}\.?|[%‰°\"{_SIGNS}][\w/²³]{{0,11}})?(?P<trailing>-?)"
)
_IN_BRACKETS = re.compile(r"([^()]*)\(([^()]+)\)([^()]*)")


class Numeral(NamedTuple):
    """A cell taken apart. `digits` may have marks between them, `exponent` is as in 1e5."""

    negative: bool
    before: str
    after: str
    digits: str
    exponent: str


def is_mark(before: str) -> bool:
    """Whether what stands before a number is no currency but a sign, as in <5 or ~5."""
    return re.fullmatch(_MARKS, before) is not None


def plainly(cell: str) -> str:
    """A cell with one kind of space, apostrophe and minus, and none of the spaces around it."""
    return cell.translate(_PLAIN).strip()


def taken_apart(cells: Iterable[str]) -> list[Numeral | None]:
    """For each cell what it consists of, None where it is not a number with its company."""
    return [_apart(plainly(cell)) for cell in cells]


def _apart(cell: str) -> Numeral | None:
    bracketed = _IN_BRACKETS.fullmatch(cell)  # an accountant's (12.50) is -12.50
    if bracketed:
        cell = "".join(bracketed.groups()).strip()
    found = _CELL.fullmatch(cell)
    if found is None:
        return None
    signs = found["sign"] + found["inner"] + found["trailing"]  # SAP writes 12.50-
    if len(signs) + bool(bracketed) > 1:
        return None
    after = found["after"] or ""
    if len(after) > 3 and after.endswith("s"):  # 1 year, 2 years
        after = after[:-1]
    return Numeral(
        bool(bracketed) or signs == "-",
        found["before"] or "",
        after,
        found["digits"],
        found["exponent"] or "",
    )


@dataclass(frozen=True)
class Style:
    """How numbers are written: the mark between groups of digits ("" for none), the decimal mark.

    indian : the groups before the last have two digits, as in 1,23,456.
    """

    sentence: str
    group: str
    decimal: str
    indian: bool = False

    def __post_init__(self) -> None:
        mark, point = re.escape(self.group), re.escape(self.decimal)
        if not self.group:
            whole = rf"[0-9]+(?:{point}[0-9]*)?|{point}[0-9]+"
        else:
            # Where a space or an apostrophe groups, four digits often stand without it.
            ungrouped = "[0-9]{1,3}" if self.group in ",." else "[0-9]+"
            grouped = rf"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+"
            if self.indian:
                grouped = rf"[1-9][0-9]?(?:{mark}[0-9]{{2}})*{mark}[0-9]{{3}}"
            whole = rf"(?:{grouped}|{ungrouped})(?:{point}[0-9]+)?"
        object.__setattr__(self, "_pattern", re.compile(whole))
        exponent = "" if self.group else "(?:[eE][-+]?[0-9]{1,3})?"
        object.__setattr__(self, "_alone", f"^[-+]?(?:{whole}){exponent}$")

    def fits(self, numeral: Numeral) -> bool:
        if numeral.exponent and self.group:
            return False
        pattern: re.Pattern[str] = vars(self)["_pattern"]
        return pattern.fullmatch(numeral.digits) is not None

    def value(self, numeral: Numeral) -> float:
        """What a numeral that fits is worth; infinite where it is beyond binary64."""
        digits = numeral.digits.replace(self.group, "") if self.group else numeral.digits
        size = float(digits.replace(self.decimal, ".") + numeral.exponent)
        return -size if numeral.negative else size

    def values(self, numerals: Iterable[Numeral]) -> NDArray[np.float64]:
        return np.array([self.value(one) for one in numerals], dtype=np.float64)

    def at_once(self, cells: pd.Series) -> NDArray[np.float64] | None:
        """The values of a whole column, NaN where a cell is missing, if each cell that is not is a
        number of this style alone; else None. As `value`, and a hundred times as fast."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = pa.array(cells, type=pa.large_string(), from_pandas=True)
        if not pc.all(pc.match_substring_regex(texts, vars(self)["_alone"])).as_py():
            return None
        if self.group:
            texts = pc.replace_substring(texts, self.group, "")
        texts = pc.replace_substring_regex(texts, r"^\+", "")
        numbers = pc.replace_substring(texts, self.decimal, ".").cast(pa.float64())
        found: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
        return found

    def shows_group(self, numeral: Numeral) -> bool:
        return bool(self.group) and self.group in numeral.digits

    def shows_decimal(self, numeral: Numeral) -> bool:
        return self.decimal in numeral.digits


# In the order in which they are tried. A name is what is saved in a model and typed for --type.
STYLES = {
    "1.5": Style("Numbers were read", "", "."),
    "1,5": Style("Decimal commas were read", "", ","),
    "1,234.5": Style("Commas were read as marks between groups of digits", ",", "."),
    "1.234,5": Style("Points were read as marks between groups of digits", ".", ","),
    "1 234.5": Style("Spaces were read as marks between groups of digits", " ", "."),
    "1 234,5": Style(
        "Spaces were read as marks between groups of digits and commas as decimal", " ", ","
    ),
    "1'234.5": Style("Apostrophes were read as marks between groups of digits", "'", "."),
    "1'234,5": Style(
        "Apostrophes were read as marks between groups of digits and commas as decimal", "'", ","
    ),
    "12,34,567.5": Style("Commas were read as marks between groups of two digits", ",", ".", True),
}
