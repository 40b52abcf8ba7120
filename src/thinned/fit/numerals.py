"""Numbers as people write them: signs, groups of digits, decimal marks, currencies and units.

A cell is taken apart into its sign, what stands before and after the digits, and the digits with
the marks between them. A column of such cells then has one of the styles of `STYLES`, or none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAMILIES",
    "STYLES",
    "Numeral",
    "Style",
    "are_decimals",
    "as_families",
    "family_of",
    "in_company",
    "is_mark",
    "is_money",
    "plainly",
    "styles_of",
    "taken_apart",
]

_FRACTIONS = "1/2 1/4 3/4 1/3 2/3 1/8 3/8 5/8 7/8"
# What stands for a space, an apostrophe or a minus in tables from Excel, R, SAP and the web.
_PLAIN = str.maketrans(
    dict.fromkeys("\u00a0\u2002\u2007\u2008\u2009\u200a\u202f\u2060", " ")
    | dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
    | {"\u066b": ".", "\u066c": ",", "\uff0e": ".", "\uff0c": ",", "\u2033": '"', "\u201d": '"'}
    | {"\u2044": "/", "\u066a": "%", "\uffe5": "¥", "\uff04": "$", "\uffe1": "£", "\uffe6": "₩"}
    # Units that are one sign in tables from East Asia.
    | {
        "㎡": "m²",
        "㎢": "km²",
        "㎥": "m³",
        "㎝": "cm",
        "㎜": "mm",
        "㎞": "km",
        "㎏": "kg",
        "㎎": "mg",
    }
    | {sign: f" {text}" for sign, text in zip("½¼¾⅓⅔⅛⅜⅝⅞", _FRACTIONS.split(), strict=True)}
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
_MARKS = "[<>]=?|[\u2264\u2265\u2248\u00b1~#\u2116%']|ca\\.|approx\\."
# Tens that a number is multiplied by: 1.5x10^5, raised or not, and 1.5d+05 as Fortran writes it.
_RAISED = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-"
)
_TENS = re.compile(
    r"\s?[x\u00d7*\u00b7]\s?10\s?(?:(?:\^|\*\*)\s?([-+]?[0-9]{1,3})|([-+][0-9]{1,3})"
    r"|([\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]{1,4}))$|[dD]([-+][0-9]{2,3})$"
)
# What refers to a footnote.
_NOTES = r"\*{1,4}|[\u2020\u2021\u00a7]{1,2}|\[[\w ]{1,8}\]|\([a-z]\)"
# Signs above and below letters, as Hebrew, Arabic, Indian and Thai words have them.
_ON_LETTERS = (
    r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e4e"
)
# No cents: 12,- in Germany and the north, 12.- in Switzerland. It is no minus behind the number.
_NO_CENTS = re.compile(r"(?<=[0-9])([.,])(?:-{1,2}|\u2014)(?![0-9])")
# After it any short word counts, if it is the same one in the whole column.
_CELL = re.compile(
    r"(?P<sign>[-+]?)\s*"
    rf"(?P<before>[A-Z]{{0,3}}[{_SIGNS}]|(?:{_CODES})(?![A-Za-z])|{_MARKS})?\s*(?P<inner>[-+]?)\s*"
    r"(?P<digits>[0-9](?:[0-9.,' ]*[0-9.,])?|[.,][0-9]+)(?P<exponent>[eE][-+]?[0-9]{1,3})?\s*"
    rf"(?P<after>[^\W\d_][\w{_ON_LETTERS}%°²³/·*^]{{0,11}}\.?(?:\s?[{_SIGNS}])?"
    rf"|[%‰°\"{_SIGNS}][\w/²³]{{0,11}}|(?:(?:out )?of|von|sur|de|di|su) [0-9]{{1,4}}"
    rf"|\+|'|/\s?(?:[0-9]{{1,4}}|[^\W\d_]{{1,11}})|\([^()0-9]{{1,12}}\)|{_NOTES})?(?P<trailing>-?)"
)
# All digits are between the brackets: 5.2(3) is 5.2, and uncertain by 3 in its last digit.
_IN_BRACKETS = re.compile(r"([^()0-9]*)\((?=[^()]*[0-9])([^()]+)\)(?!\s*[0-9.,])([^()]*)")


class Numeral(NamedTuple):
    """A cell taken apart. `digits` may have marks between them, `exponent` is as in 1e5.

    factor : what the number is multiplied by, as in 1.5K.
    """

    negative: bool
    before: str
    after: str
    digits: str
    exponent: str
    factor: float = 1.0


class Family(NamedTuple):
    """What can stand after the numbers of one column, and what each of it multiplies them by.

    said : how a note names them. notes : marks that refer to a footnote belong to it too. enough :
    how many of its members a column must show, to be sure; where it has a currency, one is enough.
    many : how many different numbers it must have: fewer are names, as 1st, 2nd and 3rd.
    """

    said: str
    factors: Mapping[str, float]
    enough: int = 2
    notes: bool = False
    many: int = 1

    def factor(self, after: str) -> float | None:
        """By what it multiplies; None where it does not belong here."""
        if self.notes and re.fullmatch(_NOTES, after):
            return 1.0
        return self.factors.get(after)

    def holds(self, afters: Collection[str], money: bool) -> bool:
        """Whether all of these are members, and enough of them to be no units of their own."""
        factors = [self.factor(after) for after in afters]
        telling = sum(after != "" for after in afters)
        return None not in factors and telling >= (1 if money else self.enough)


_THOUSANDS = dict.fromkeys(("k", "K", "Tsd", "Tsd.", "tsd", "tys", "tys.", "thousand"), 1e3)
_MILLIONS = dict.fromkeys(
    ("m", "M", "mn", "Mn", "mln", "mln.", "Mio", "Mio.", "mio", "MM", "million"), 1e6
)
_BILLIONS = dict.fromkeys(
    ("B", "b", "bn", "Bn", "Mrd", "Mrd.", "mld", "mld.", "bln", "billion"), 1e9
)
_INDIAN = dict.fromkeys(("Lakh", "lakh", "Lac", "lac", "Lacs", "lacs"), 1e5)
_INDIAN |= dict.fromkeys(("Crore", "crore", "Cr", "cr", "Cr.", "cr."), 1e7)
_TEN_THOUSAND, _HUNDRED_MILLION = ("万", "萬", "만"), ("亿", "億", "억")
_CHINESE = {
    f"{sign}{of}": factor
    for signs, factor in ((_TEN_THOUSAND, 1e4), (_HUNDRED_MILLION, 1e8))
    for sign in signs
    for of in ("", "元", "円", "원")
}
_VIETNAMESE = {"nghìn": 1e3, "ngàn": 1e3, "triệu": 1e6, "tỷ": 1e9, "tỉ": 1e9}
_RUSSIAN = {"тыс.": 1e3, "тыс": 1e3, "млн": 1e6, "млн.": 1e6, "млрд": 1e9, "млрд.": 1e9}
# A name is what is saved in a model as what stands after a number.
FAMILIES = {
    "*|[1]": Family("marks of footnotes left away", {"": 1.0}, 1, notes=True),
    "K|M|B": Family(
        "K, M, B and the like multiplied out",
        {"": 1.0} | _THOUSANDS | _MILLIONS | _BILLIONS | {"T": 1e12, "tn": 1e12},
    ),
    "lakh|crore": Family("lakh and crore multiplied out", {"": 1.0} | _INDIAN),
    "万|亿": Family("万 and 亿 multiplied out", {"": 1.0} | _CHINESE),
    "triệu|tỷ": Family("nghìn, triệu and tỷ multiplied out", {"": 1.0} | _VIETNAMESE),
    "тыс|млн": Family("тыс., млн and млрд multiplied out", {"": 1.0} | _RUSSIAN),
    "KB|MB": Family("in bytes", {"B": 1.0, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}),
    "g|kg": Family("in grams", {"mg": 1e-3, "g": 1.0, "kg": 1e3, "t": 1e6}),
    "m|km": Family("in metres", {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}),
    "st|nd|rd|th": Family(
        "st, nd, rd and th left away", {"st": 1.0, "nd": 1.0, "rd": 1.0, "th": 1.0}, many=10
    ),
}


def family_of(company: Collection[tuple[str, str]]) -> str | None:
    """The family to which all that stands after the numbers of a column belongs; None where there
    is none, or what stands before them differs."""
    before = {before for before, _ in company}
    if len(before) > 1:
        return None
    afters = {after for _, after in company}
    money = all(map(is_money, before))
    return next((name for name, one in FAMILIES.items() if one.holds(afters, money)), None)


def is_money(before: str, after: str = "") -> bool:
    """Whether a currency stands before a number, or after it."""
    behind = after[:1] in set(_SIGNS) or re.fullmatch(_CODES, after) is not None
    return bool(before and not is_mark(before)) or behind


def in_company(numeral: Numeral | None, before: str, after: str) -> Numeral | None:
    """A numeral that has this around it, multiplied where a family says so; else None.

    after : what stands after it, or a key of `FAMILIES`.
    """
    if numeral is None or numeral.before != before:
        return None
    if after not in FAMILIES:
        return numeral if numeral.after == after else None
    factor = FAMILIES[after].factor(numeral.after)
    return None if factor is None else numeral._replace(factor=factor)


def are_decimals(numbers: NDArray[np.float64]) -> bool:
    """Whether one of these is too large, too small or has too many digits for a grouped integer
    that was read 1000 times too small."""
    known = numbers[np.isfinite(numbers)]
    fractions = known[known != np.round(known)]
    thousands = fractions * 1000
    near = (np.abs(thousands - np.round(thousands)) < 1e-6) & (np.abs(fractions) >= 1)
    return not near.all() or bool((np.abs(known) >= 1000).any())


def is_mark(before: str) -> bool:
    """Whether what stands before a number is no currency but a sign, as in <5 or ~5."""
    return re.fullmatch(_MARKS, before) is not None


def plainly(cell: str) -> str:
    """A cell with one kind of space, apostrophe and minus, and none of the spaces around it."""
    return cell.translate(_PLAIN).strip()


def taken_apart(cells: Iterable[str]) -> list[Numeral | None]:
    """For each cell what it consists of, None where it is not a number with its company."""
    return [_apart(plainly(cell)) for cell in cells]


def _with_tens(cell: str) -> str:
    """A cell with 1.5x10^5 and the like as 1.5e5."""
    found = _TENS.search(cell)
    if found is None or not cell[: found.start()][-1:].isdigit():
        return cell
    tens = next(filter(None, found.groups())).translate(_RAISED)
    return f"{cell[: found.start()]}e{tens}"


def _apart(cell: str) -> Numeral | None:
    if "10" in cell or "d" in cell or "D" in cell:
        cell = _with_tens(cell)
    cell = _NO_CENTS.sub(r"\g<1>00", cell)
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
        if numeral.factor != 1.0:  # 300.1K is 300100, and not a little more
            size = float(f"{size * numeral.factor:.15g}")
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


def styles_of(numerals: list[Numeral]) -> list[str]:
    """The styles that all of these fit."""
    return [name for name, style in STYLES.items() if all(map(style.fits, numerals))]


def as_families(numerals: list[Numeral]) -> list[Numeral]:
    """Numerals with the name of a family in place of what stands after them, where all of it
    belongs to one."""
    company = {(one.before, one.after) for one in numerals}
    family = family_of(company) if len(company) > 1 else None
    if family is None or len({one.digits for one in numerals}) < FAMILIES[family].many:
        return numerals
    (before,) = {one.before for one in numerals}
    found = (in_company(one, before, family) for one in numerals)
    return [one._replace(after=family) for one in found if one]
