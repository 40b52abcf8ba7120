"""Dates and times as people write them, and the columns of numbers that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMS",
    "WHOLE",
    "Form",
    "are_whole_dates",
    "days_of",
    "part_names",
    "parts",
    "two_digit_years",
]

# English, German, French, Spanish, Italian, Portuguese and Dutch; accents are left away.
_MONTHS = (
    "jan january januar janvier janv enero ene gennaio gen janeiro januari",
    "feb february februar fevrier fevr febrero febbraio fevereiro fev februari",
    "mar march marz mars marzo marco maart mrt mrz",
    "apr april avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei",
    "jun june juni juin junio giugno giu junho",
    "jul july juli juillet juil julio luglio lug julho",
    "aug august aout agosto ago augustus",
    "sep sept september septembre septiembre settembre set setembro",
    "oct october oktober okt octobre octubre ottobre ott outubro out",
    "nov november novembre noviembre novembro",
    "dec december dezember dez decembre diciembre dic dicembre dezembro",
)
_CLOCK = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:[.,][0-9]{1,9})?))?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_TIME = rf"(?:(?:[Tt]|,?\s+){_CLOCK})?"
_ZONE = r"\s*(?P<zone>[Zz]|UTC|GMT|[-+][0-9]{2}:?[0-9]{2})"
_YEAR, _MONTH, _DAY = "(?P<year>[0-9]{4})", "(?P<month>[0-9]{1,2})", "(?P<day>[0-9]{1,2})"
_NAME = r"(?P<name>[^\W\d_]{3,10})\.?"
_WEEKDAY = r"(?:[^\W\d_]{2,10}\.?,?\s+)?"
_ZONED = rf"(?:(?:[Tt]|,?\s+){_CLOCK}(?:{_ZONE})?)?"
_PLAUSIBLE = "(?P<year>[12][0-9]{3})"


@dataclass(frozen=True)
class Form:
    """How a date or a time of day is written.

    sentence : how a note on it begins. clock : a time of day, without a date. cycles : what goes
    round in what such a column becomes.
    """

    sentence: str
    pattern: str
    clock: bool = False
    cycles: tuple[str, ...] = ("month", "weekday", "hour")

    def days(self, texts: pd.Series) -> NDArray[np.float64]:
        """Days since 1970-01-01 (UTC where there is a zone), or of a clock the part of a day since
        midnight; NaN where a text has not this form, or is no date, as 30 February."""
        found = texts.str.strip().str.extract(f"^(?:{self.pattern})$")
        time, valid = _time(found)
        if self.clock:
            return np.where(valid & found["hour"].notna().to_numpy(), time, np.nan)
        month = _month_number(found) if "name" in found else _numbers(found, "month")
        if "quarter" in found:
            month = 3 * _numbers(found, "quarter") - 2
        year, day = _numbers(found, "year"), _numbers(found, "day", 1.0)
        if "week" in found:
            return _week(year, _numbers(found, "week"), _numbers(found, "weekday", 1.0))
        there = np.isfinite(year) & np.isfinite(month)
        valid &= there & (month >= 1) & (month <= 12) & (day >= 1)
        months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        dates = months.astype("datetime64[D]") + (np.where(valid, day, 1) - 1).astype("m8[D]")
        valid &= dates.astype("datetime64[M]") == months  # no 30 February
        return np.where(valid, dates.astype(np.int64) + time, np.nan)


def _numbers(found: pd.DataFrame, part: str, missing: float = np.nan) -> NDArray[np.float64]:
    if part not in found:
        return np.full(len(found), missing)
    texts = found[part].str.replace(",", ".", regex=False)
    return np.asarray(texts.astype("float64").fillna(missing), dtype=np.float64)


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
    names = found["name"].str.normalize("NFKD").str.replace("[\u0300-\u036f]", "", regex=True)
    names = names.str.lower()
    known = {name: i for i, names in enumerate(_MONTHS, 1) for name in names.split()}
    return np.asarray(names.map(known), dtype=np.float64)


def _time(found: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The part of a day since midnight in UTC, and whether there is such a time."""
    if "hour" not in found:
        return np.zeros(len(found)), np.full(len(found), True)
    hour, minute, second = (_numbers(found, part, 0.0) for part in ("hour", "minute", "second"))
    half = found["half"].str.lower()
    named = half.notna().to_numpy()
    valid = (minute < 60) & (second < 60) & np.where(named, (hour >= 1) & (hour <= 12), hour < 24)
    hour = np.where(named, hour % 12 + 12 * (half == "p").to_numpy(bool, na_value=False), hour)
    minutes = hour * 60 + minute
    if "zone" in found:
        shift = found["zone"].str.extract(r"(?P<sign>[-+])(?P<hour>..):?(?P<minute>..)")
        off = _numbers(shift, "hour", 0.0) * 60 + _numbers(shift, "minute", 0.0)
        minutes = minutes - np.where(
            (shift["sign"] == "-").to_numpy(bool, na_value=False), -off, off
        )
    return (minutes * 60 + second) / 86400, valid


# In the order in which they are tried. A name is what is saved in a model.
_ISO = rf"{_YEAR}(?P<mark>[-/.]){_MONTH}(?:(?P=mark){_DAY}"
FORMS = {
    "2023-03-25": Form("Dates (year, month, day)", rf"{_ISO}{_TIME})?"),
    "2023-03-25T10:00Z": Form("Dates (year, month, day) with a zone", rf"{_ISO}{_TIME}{_ZONE})"),
    "25.03.2023": Form("Dates (day, month, year)", rf"{_DAY}\.\s?{_MONTH}\.\s?{_YEAR}{_TIME}"),
    "25/03/2023": Form(
        "Dates (day, month, year)", rf"{_DAY}(?P<mark>[/-]){_MONTH}(?P=mark){_YEAR}{_TIME}"
    ),
    "03/25/2023": Form(
        "Dates (month, day, year)", rf"{_MONTH}(?P<mark>[/-]){_DAY}(?P=mark){_YEAR}{_TIME}"
    ),
    "25 Mar 2023": Form(
        "Dates (day, month, year)",
        rf"{_WEEKDAY}{_DAY}(?:st|nd|rd|th)?[\s./-]*(?:de |of )?{_NAME}[\s,./-]*(?:de )?{_YEAR}"
        rf"{_ZONED}",
    ),
    "Mar 25, 2023": Form(
        "Dates (month, day, year)",
        rf"{_WEEKDAY}{_NAME}[\s-]*{_DAY}(?:st|nd|rd|th)?[\s,-]+{_YEAR}{_ZONED}",
    ),
    "20230325": Form(
        "Dates (year, month, day)",
        r"(?P<year>(?:19|20)[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})",
    ),
    "Mar 2023": Form("Months", rf"{_NAME}[\s,./-]*{_PLAUSIBLE}", cycles=("month",)),
    "03/2023": Form("Months", rf"{_MONTH}/{_PLAUSIBLE}", cycles=("month",)),
    "2023-Q1": Form("Quarters", rf"{_PLAUSIBLE}[\s-]?[Qq](?P<quarter>[1-4])", cycles=("month",)),
    "Q1 2023": Form("Quarters", rf"[Qq](?P<quarter>[1-4])[\s/-]?{_PLAUSIBLE}", cycles=("month",)),
    "2023-W12": Form(
        "Weeks", rf"{_PLAUSIBLE}-?W(?P<week>[0-9]{{2}})(?:-(?P<weekday>[1-7]))?", cycles=("month",)
    ),
    "14:05": Form("Times of day", _CLOCK, clock=True, cycles=("hour",)),
}
# Dates that a file may hold as whole numbers.
WHOLE = "20230325"
# What all cells of a column fit whose years have two digits: which century is not ours to say.
_TWO_DIGITS = (
    r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2}(?:\s.*)?"
    r"|(?:[0-9]{1,2}[\s-])?(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[\s-]'?[0-9]{2}"
)


def two_digit_years(texts: pd.Series) -> bool:
    """Whether these are dates whose years have two digits."""
    return bool(texts.str.fullmatch(_TWO_DIGITS).all())


def are_whole_dates(cells: pd.Series) -> bool:
    """Whether a column of numbers holds dates as 20230325: all of them there in the calendar."""
    if cells.dtype.kind not in "iuf":
        return False
    if not (cells.min() >= 19000101 and cells.max() < 21000000):  # at once for nearly all columns
        return False
    known = cells.dropna().unique()
    if len(known) < 2 or (known != np.round(known)).any():
        return False
    import pandas as pd

    texts = pd.Series(known.astype(np.int64).astype(str), dtype=object)
    return bool(np.isfinite(FORMS[WHOLE].days(texts)).all())


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


def part_names(name: str, form: Form) -> tuple[str, ...]:
    """The columns that a column of dates, or of times of day, can become."""
    pairs = [f"{name}: {cycle} ({wave})" for cycle in form.cycles for wave in ("sine", "cosine")]
    return tuple(pairs if form.clock else [f"{name}: days", f"{name}: year", *pairs])


def parts(name: str, days: NDArray[np.float64], form: Form) -> dict[str, NDArray[np.float64]]:
    """The columns of `part_names`. days : since 1970-01-01, or the part of a day; NaN if missing.

    Days and years are numbers. Months, weekdays and hours go round: each becomes a point on a
    circle, its sine and cosine. So December is beside January, Sunday beside Monday.
    """
    there = np.isfinite(days)
    known = np.where(there, days, 0.0)
    whole = np.floor(known)
    dates: Any = whole.astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    turns = {
        "month": months % 12 / 12,
        "weekday": (whole + 3) % 7 / 7,  # 1970-01-01 was a Thursday; 0 is Monday
        "hour": known - whole,
    }
    out = {} if form.clock else {f"{name}: days": known, f"{name}: year": 1970.0 + months // 12}
    for cycle in form.cycles:
        angle = 2 * np.pi * turns[cycle]
        out |= {
            f"{name}: {cycle} (sine)": np.sin(angle),
            f"{name}: {cycle} (cosine)": np.cos(angle),
        }
    return {part: np.where(there, values, np.nan) for part, values in out.items()}
