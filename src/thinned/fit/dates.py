"""Dates and times as people write them, and the columns of numbers that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thinned.fit.months import MONTHS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMS",
    "Counted",
    "Form",
    "are_unknown_months",
    "days_of",
    "in_another_calendar",
    "in_western_digits",
    "two_digit_years",
]

# Digits of other scripts, and what is not to be seen between them.
_WESTERN = str.maketrans(
    {chr(first + d): str(d) for first in (0xFF10, 0x660, 0x6F0, 0x966) for d in range(10)}
    | dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u061c\ufeff", "")
    | {"\uff0f": "/", "\uff0d": "-", "\uff0e": ".", "\uff1a": ":"}
)
_CLOCK = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:[.,][0-9]{1,9})?))?"
    r"(?:\s*(?:(?P<half>[AaPp])\.?\s?[Mm]\.?|Uhr))?"
)
# A word of German, French, Spanish or English may stand between a date and its time.
# There, an h may stand between hours and minutes.
_DATED_CLOCK = _CLOCK.replace(":", "[:h]", 1)
_TIME = rf"(?:(?:[Tt]|,?\s+(?:(?:-|um|[\u00e0\u00e1]s?|a las|at|kl\.?)\s+)?){_DATED_CLOCK})?"
# Hours that a named zone is before UTC. Names that stand for several zones are none.
_ZONES = {
    "Z": 0,
    "UTC": 0,
    "UT": 0,
    "GMT": 0,
    "WET": 0,
    "WEST": 1,
    "BST": 1,
    "CET": 1,
    "MEZ": 1,
    "CEST": 2,
    "MESZ": 2,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
    "JST": 9,
    "KST": 9,
    "AEST": 10,
    "AEDT": 11,
    "NZST": 12,
    "NZDT": 13,
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
}
_ZONE = (
    r"\s*(?P<zone>[Zz]|(?:UTC|GMT)[-+][0-9]{1,2}(?::?[0-9]{2})?"
    rf"|{'|'.join(list(_ZONES)[1:])}|[-+][0-9]{{2}}(?::?[0-9]{{2}})?)"
)
_YEAR, _MONTH, _DAY = "(?P<year>[0-9]{4})", "(?P<month>[0-9]{1,2})", "(?P<day>[0-9]{1,2})"
_NAME = r"(?P<name>[^\W\d_]{3,12})\.?"
_WEEKDAY = r"(?:[^\W\d_]{2,10}\.?,?\s+)?"
_ZONED = rf"(?:(?:[Tt]|,?\s+){_CLOCK}(?:{_ZONE})?)?"
_PLAUSIBLE = "(?P<year>[12][0-9]{3})"
_SHORT = "(?P<short>[0-9]{2})"
# Years with two digits are of this century up to 39 and of the last from 70; between, who knows.
_LAST_CENTURY = 40, 70


@dataclass(frozen=True)
class Form:
    """How a date or a time of day is written.

    sentence : how a note on it begins. clock : a time of day, without a date. cycles : what goes
    round in what such a column becomes; years alone have none. whole : a file may hold such dates
    as numbers. sure : no other form counts where all cells have this one, which is no accident.
    """

    sentence: str
    pattern: str
    clock: bool = False
    whole: bool = False
    cycles: tuple[str, ...] = ("month", "weekday", "hour")
    sure: bool = False

    def days(self, texts: pd.Series) -> NDArray[np.float64]:
        """Days since 1970-01-01 (UTC where there is a zone), or of a clock the part of a day since
        midnight; NaN where a text has not this form, or is no date, as 30 February."""
        found = in_western_digits(texts).str.strip().str.extract(f"^(?:{self.pattern})$")
        time, valid = _time(found)
        if self.clock:
            return np.where(valid & found["hour"].notna().to_numpy(), time, np.nan)
        month = _month_number(found) if "name" in found else _numbers(found, "month")
        if "half_year" in found:
            month = 6 * _numbers(found, "half_year") - 5
        if "quarter" in found:
            quarter = _numbers(found, "quarter")
            if "quarter2" in found:
                quarter = np.fmax(quarter, _numbers(found, "quarter2"))
            month = 3 * quarter - 2
        year, day = _numbers(found, "year"), _numbers(found, "day", 1.0)
        if "short" in found:
            year = _with_century(_numbers(found, "short"))
        if "week" in found:
            return _week(year, _numbers(found, "week"), _numbers(found, "weekday", 1.0))
        if "next" in found:  # 2012/13 and 2012/2013
            month = np.ones(len(found))
            following = _numbers(found, "next")
            valid &= (following == year + 1) | (following == (year + 1) % 100)
        there = np.isfinite(year) & np.isfinite(month)
        valid &= there & (month >= 1) & (month <= 12) & (day >= 1)
        months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        dates = months.astype("datetime64[D]") + (np.where(valid, day, 1) - 1).astype("m8[D]")
        valid &= dates.astype("datetime64[M]") == months  # no 30 February
        return np.where(valid, dates.astype(np.int64) + time, np.nan)


@dataclass(frozen=True)
class Counted(Form):
    """Numbers that count from a day on. each : of them in a day; since : that day's number."""

    each: float = 1.0
    since: int = 0

    def days(self, texts: pd.Series) -> NDArray[np.float64]:
        """Days since 1970-01-01; NaN where a text is no such number."""
        found = texts.str.strip().str.extract(f"^({self.pattern})$")[0]
        return np.asarray(found.astype("float64"), np.float64) / self.each + self.since


@dataclass(frozen=True)
class YearMonth(Counted):
    """Months that were read as numbers: 3.2023, or 2023.03. first : the month before the mark."""

    first: bool = True

    def days(self, texts: pd.Series) -> NDArray[np.float64]:
        """Days since 1970-01-01 of the months' first days; NaN where a text is none."""
        found = texts.str.strip().str.extract(f"^({self.pattern})$")[0]
        numbers = np.asarray(found.astype("float64"), np.float64)
        whole = np.floor(numbers)
        rest = np.round((numbers - whole) * (10_000 if self.first else 100))
        month, year = (whole, rest) if self.first else (rest, whole)
        valid = (month >= 1) & (month <= 12) & (year >= 1800) & (year < 2200)
        months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        days = months.astype("datetime64[D]").astype(np.int64)
        return np.where(valid, days, np.nan)


@dataclass(frozen=True)
class HoursMinutes(Counted):
    """Times of day as one number: 1405, 905, and 5 for five minutes past midnight."""

    def days(self, texts: pd.Series) -> NDArray[np.float64]:
        """The part of a day since midnight; NaN where a text is no such number."""
        found = texts.str.strip().str.extract(f"^({self.pattern})$")[0]
        numbers = np.asarray(found.astype("float64"), np.float64)
        hours, minutes = np.divmod(numbers, 100)
        valid = (minutes < 60) & (numbers <= 2400)
        return np.where(valid, (hours * 60 + minutes) / 1440, np.nan)


def _numbers(found: pd.DataFrame, part: str, missing: float = np.nan) -> NDArray[np.float64]:
    if part not in found:
        return np.full(len(found), missing)
    texts = found[part].str.replace(",", ".", regex=False)
    return np.asarray(texts.astype("float64").fillna(missing), dtype=np.float64)


def _with_century(years: NDArray[np.float64]) -> NDArray[np.float64]:
    """Years of two digits with their century; NaN where it is not sure."""
    low, high = _LAST_CENTURY
    unsure = (years >= low) & (years < high)
    return np.where(unsure, np.nan, years + np.where(years < low, 2000.0, 1900.0))


def _week(
    year: NDArray[np.float64], week: NDArray[np.float64], weekday: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The days of ISO weeks, which begin on Mondays; the first one has 4 January in it."""
    there = np.isfinite(year) & (week >= 1) & (week <= 53)
    fourth = np.where(there, year - 1970, 0).astype("datetime64[Y]").astype("datetime64[D]")
    days = fourth.astype(np.int64) + 3
    monday = days - (days + 3) % 7
    return np.where(there, monday + 7 * (week - 1) + weekday - 1, np.nan)


def _month_number(found: pd.DataFrame) -> NDArray[np.float64]:
    names = found["name"].str.lower().str.normalize("NFKD")
    names = names.str.replace("[\u0300-\u036f]", "", regex=True)
    # Letters without an accent that can be taken away.
    names = names.str.translate(str.maketrans("\u0131\u0142", "il"))
    return np.asarray(names.map(MONTHS), dtype=np.float64)


def _time(found: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The part of a day since midnight in UTC, and whether there is such a time."""
    if "hour" not in found:
        return np.zeros(len(found)), np.full(len(found), True)
    hour, minute, second = (_numbers(found, part, 0.0) for part in ("hour", "minute", "second"))
    half = found["half"].str.lower()
    named = half.notna().to_numpy()
    midnight = (hour == 24) & (minute == 0) & (second == 0)  # 24:00, a day's end
    valid = np.where(named, (hour >= 1) & (hour <= 12), (hour < 24) | midnight)
    valid &= (minute < 60) & (second < 60)
    hour = np.where(named, hour % 12 + 12 * (half == "p").to_numpy(bool, na_value=False), hour)
    minutes = hour * 60 + minute
    if "zone" in found:
        shift = found["zone"].str.extract(r"(?P<sign>[-+])(?P<hour>..?):?(?P<minute>..)?$")
        off = _numbers(shift, "hour", 0.0) * 60 + _numbers(shift, "minute", 0.0)
        west = (shift["sign"] == "-").to_numpy(bool, na_value=False)
        named_zone = np.asarray(found["zone"].map(_ZONES), np.float64)
        minutes = minutes - np.where(west, -off, off) - 60 * np.nan_to_num(named_zone)
    return (minutes * 60 + second) / 86400, valid


# In the order in which they are tried. A name is what is saved in a model.
_TWO = "(?P<day>[0-9]{2})", "(?P<month>[0-9]{2})"  # as no number of a version begins: 05.08.23
_ISO = rf"{_YEAR}(?P<mark>[-/.]){_MONTH}(?:(?P=mark){_DAY}"
FORMS = {
    "2023-03-25": Form("Dates (year, month, day)", rf"{_ISO}{_TIME})?"),
    "2023. 3. 25.": Form("Dates (year, month, day)", rf"{_YEAR}\.\s?{_MONTH}\.\s?{_DAY}\.?{_TIME}"),
    "2012/13": Form(
        "Seasons or financial years",
        r"(?:FY\s?)?(?P<year>(?:1[5-9]|2[01])[0-9]{2})\s?[-/\u2010-\u2014]\s?"
        r"(?P<next>[0-9]{2}|[0-9]{4})",
        cycles=(),
        sure=True,
    ),
    "2023-03-25T10:00Z": Form("Dates (year, month, day) with a zone", rf"{_ISO}{_TIME}{_ZONE})"),
    "25.03.2023": Form(
        "Dates (day, month, year)", rf"{_WEEKDAY}{_DAY}\.\s?{_MONTH}\.\s?{_YEAR}{_TIME}"
    ),
    "25/03/2023": Form(
        "Dates (day, month, year)",
        rf"{_WEEKDAY}{_DAY}(?P<mark>[/-]){_MONTH}(?P=mark){_YEAR}{_TIME}",
    ),
    "03/25/2023": Form(
        "Dates (month, day, year)",
        rf"{_WEEKDAY}{_MONTH}(?P<mark>[/-]){_DAY}(?P=mark){_YEAR}{_TIME}",
    ),
    "25 Mar 2023": Form(
        "Dates (day, month, year)",
        rf"{_WEEKDAY}{_DAY}(?:st|nd|rd|th)?[\s./-]*(?:de |of )?{_NAME}[\s,./-]*(?:de )?{_YEAR}"
        rf"(?:\s?(?:\u0433(?:\.|\u043e\u0434\u0430)|r\.))?{_ZONED}",
    ),
    "2023 Mar 25": Form(
        "Dates (year, month, day)", rf"{_YEAR}(?:\.?\s|-){_NAME}(?:\s|-){_DAY}\.?{_ZONED}"
    ),
    "Mar 25, 2023": Form(
        "Dates (month, day, year)",
        rf"{_WEEKDAY}{_NAME}[\s-]*{_DAY}(?:st|nd|rd|th)?[\s,-]+{_YEAR}{_ZONED}",
    ),
    "25.03.23": Form("Dates (day, month, year)", rf"{_TWO[0]}\.{_TWO[1]}\.{_SHORT}{_TIME}"),
    "25/03/23": Form("Dates (day, month, year)", rf"{_WEEKDAY}{_DAY}/{_MONTH}/{_SHORT}{_TIME}"),
    "03/25/23": Form("Dates (month, day, year)", rf"{_WEEKDAY}{_MONTH}/{_DAY}/{_SHORT}{_TIME}"),
    "25-Mar-23": Form(
        "Dates (day, month, year)", rf"{_WEEKDAY}{_DAY}[\s./-]{_NAME}[\s./-]'?{_SHORT}{_TIME}"
    ),
    "20230325": Form(
        "Dates (year, month, day)",
        r"(?P<year>(?:19|20)[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})",
        whole=True,
    ),
    "20230325101500": Form(
        "Dates (year, month, day)",
        r"(?P<year>(?:19|20)[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})[Tt]?"
        r"(?P<hour>[0-9]{2})(?:(?P<minute>[0-5][0-9])(?P<second>[0-9]{2})?)?(?P<half>(?!))?"
        rf"(?:{_ZONE})?",
        whole=True,
    ),
    "2023年3月25日": Form(
        "Dates (year, month, day)",
        rf"{_YEAR}[\u5e74\ub144]\s?{_MONTH}[\u6708\uc6d4]\s?(?:{_DAY}[\u65e5\uc77c])?{_TIME}",
    ),
    "25/Mar/2023:10:00": Form(
        "Dates (day, month, year)",
        rf"\[?{_DAY}/?{_NAME}/?{_YEAR}:{_CLOCK}(?:{_ZONE})?\]?",
    ),
    "Mar 25 10:00 2023": Form(
        "Dates (month, day, year)", rf"{_WEEKDAY}{_NAME}\s+{_DAY}\s+{_CLOCK}(?:{_ZONE})?\s+{_YEAR}"
    ),
    "Mar 2023": Form("Months", rf"{_NAME}[\s,./-]*{_PLAUSIBLE}", cycles=("month",)),
    "2023 Mar": Form("Months", rf"{_PLAUSIBLE}[\s,./-]*{_NAME}", cycles=("month",)),
    "03/2023": Form("Months", rf"{_MONTH}[/-]{_PLAUSIBLE}", cycles=("month",)),
    "2023M03": Form("Months", rf"{_PLAUSIBLE}(?:\s|-?[Mm]){_MONTH}", cycles=("month",)),
    "2023-H1": Form("Half-years", rf"{_PLAUSIBLE}[\s-]?[HS](?P<half_year>[12])", cycles=("month",)),
    "H1 2023": Form(
        "Half-years", rf"[HS](?P<half_year>[12])[\s/-]?{_PLAUSIBLE}", cycles=("month",)
    ),
    "2023-Q1": Form(
        "Quarters", rf"{_PLAUSIBLE}[\s:/-]?[QqTK](?P<quarter>[1-4])", cycles=("month",)
    ),
    "Q1 2023": Form(
        "Quarters",
        rf"(?:[QqT](?P<quarter>[1-4])|(?P<quarter2>[1-4])(?:[Qq]|\.\s?Quartal))[\s/-]?{_PLAUSIBLE}",
        cycles=("month",),
    ),
    "2023-W12": Form(
        "Weeks",
        rf"{_PLAUSIBLE}[\s/-]?(?:W|KW)\s?(?P<week>[0-9]{{1,2}})(?:-(?P<weekday>[1-7]))?",
        cycles=("month",),
    ),
    "W12/2023": Form(
        "Weeks", rf"(?:W|KW|Week)\s?(?P<week>[0-9]{{1,2}})[\s/-]{_PLAUSIBLE}", cycles=("month",)
    ),
    "202303": Form(
        "Months", r"(?P<year>(?:19|20)[0-9]{2})(?P<month>[0-9]{2})", whole=True, cycles=("month",)
    ),
    "14:05": Form("Times of day", rf"(?:kl\.?\s?)?{_CLOCK}", clock=True, cycles=("hour",)),
    "14.05 Uhr": Form(
        "Times of day",
        r"(?=kl|.*Uhr|.*h)(?:kl\.?\s?)?(?P<hour>[0-9]{1,2})[.h](?P<minute>[0-9]{2})(?:\s?Uhr)?"
        r"(?P<second>(?!))?(?P<half>(?!))?",
        clock=True,
        cycles=("hour",),
    ),
    "2 pm": Form(
        "Times of day",
        r"(?P<hour>[0-9]{1,2})\s?(?P<half>[AaPp])\.?\s?[Mm]\.?",
        clock=True,
        cycles=("hour",),
    ),
    # Only numbers are looked at for these, and where their column's name says so.
    "1679702400": Counted("Seconds since 1970", r"[0-9]+(?:[.][0-9]+)?", whole=True, each=86400.0),
    "1679702400000": Counted(
        "Milliseconds since 1970", r"[0-9]+(?:[.][0-9]+)?", whole=True, each=86400e3
    ),
    "45010": Counted(
        "Days as spreadsheets count them", r"[0-9]+(?:[.][0-9]+)?", whole=True, since=-25569
    ),
    "03.2023": YearMonth("Months", r"[0-9]{1,2}\.[0-9]+", whole=True, cycles=("month",)),
    "2023.03": YearMonth("Months", r"[0-9]{4}\.[0-9]+", whole=True, cycles=("month",), first=False),
    "1405": HoursMinutes(
        "Times of day, hours and minutes in one number,",
        r"[0-9]{1,4}(?:[.]0)?",
        clock=True,
        whole=True,
        cycles=("hour",),
    ),
}
# What all cells of a column fit whose years have two digits: which century is not ours to say.
_TWO_DIGITS = (
    r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2}(?:\s.*)?"
    r"|(?:[0-9]{1,2}[\s-])?(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[\s-]'?[0-9]{2}"
)


def in_western_digits(texts: pd.Series) -> pd.Series:
    """Texts with Arabic, Persian, Indian and wide digits as those of ASCII, and without the marks
    that say in which direction to read."""
    if texts.map(str.isascii, na_action="ignore").all():
        return texts
    return texts.str.translate(_WESTERN)


def in_another_calendar(texts: pd.Series) -> bool:
    """Whether these are dates of the years 1300 to 1499, as they are today in Iran and Arabia."""
    other = r"1[34][0-9]{2}([-/.])[0-9]{1,2}\1[0-9]{1,2}"
    return bool(in_western_digits(texts).str.strip().str.fullmatch(other).all())


def are_unknown_months(texts: pd.Series) -> bool:
    """Whether these are dates with names of months of which none is known here."""
    return bool(texts.str.fullmatch(r"[0-9]{1,2}\W+[^\W\d_]{3,}\W+[12][0-9]{3}\W*").all())


def two_digit_years(texts: pd.Series) -> bool:
    """Whether these are dates whose years have two digits."""
    return bool(texts.str.fullmatch(_TWO_DIGITS).all())


def days_of(cells: pd.Series) -> NDArray[np.float64] | None:
    """Days since 1970-01-01 (UTC) of cells that are dates by their type; None if they are not."""
    import datetime

    import pandas as pd

    if cells.dtype.kind != "M":
        if cells.dtype != object:
            return None
        known = cells.dropna()
        if not len(known) or not known.map(lambda one: isinstance(one, datetime.date)).all():
            return None
        cells = pd.to_datetime(cells.astype(object), utc=True)
    if getattr(cells.dtype, "tz", None) is not None:
        cells = cells.dt.tz_convert("UTC").dt.tz_localize(None)
    times = cells.to_numpy("datetime64[us]")
    days = times.astype(np.int64) / 86_400_000_000
    return np.where(np.isnat(times), np.nan, days)
