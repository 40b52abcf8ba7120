"""Lengths of time as people write them, in seconds: 26:05:30, 1 day 02:03:04, 5h 30m, PT1H30M."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LENGTH", "SENTENCE", "are_lengths", "seconds_of"]

# The name of this way of reading, as it is saved in a model.
LENGTH = "26:05:30"
SENTENCE = "Lengths of time were read, in seconds,"

_N = r"[0-9]+(?:\.[0-9]+)?"
# As pandas and spreadsheets write them; of two numbers the second is the seconds.
_COLONS = (
    r"[-+]?(?:(?P<d>[0-9]+)\s*d(?:ays?)?,?\s*)?\+?(?:(?P<h>[0-9]+):(?=.*:))?"
    r"(?P<m>[0-9]+):(?P<s>[0-5][0-9](?:\.[0-9]+)?)"
)
_WORDS = (
    rf"[-+]?(?:(?P<d>{_N})\s*d(?:ays?)?[,\s]*)?(?:(?P<h>{_N})\s*h(?:(?:ou)?rs?)?[,\s]*)?"
    rf"(?:(?P<m>{_N})\s*m(?:in(?:ute)?s?)?\.?[,\s]*)?(?:(?P<s>{_N})\s*s(?:ec(?:ond)?s?)?\.?)?"
)
_ISO = rf"[-+]?P(?:(?P<d>{_N})D)?(?:T(?:(?P<h>{_N})H)?(?:(?P<m>{_N})M)?(?:(?P<s>{_N})S)?)?"
_PATTERNS = tuple(re.compile(one, re.IGNORECASE) for one in (_COLONS, _WORDS, _ISO))
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_CLOCK = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?")


def seconds_of(cells: pd.Series) -> NDArray[np.float64]:
    """Seconds that cells stand for, texts or lengths by their type; NaN where one is none."""
    import pandas as pd

    if cells.dtype.kind == "m":
        return np.asarray(cells.dt.total_seconds(), np.float64)
    codes, texts = pd.factorize(cells)
    known = np.array([*map(_seconds, texts), np.nan])  # the last is for the code -1, a missing one
    found: NDArray[np.float64] = known[codes]
    return found


def are_lengths(texts: pd.Series) -> bool:
    """Whether all of these are lengths of time, some with two parts or more: 12 h is a number with
    a unit. Times of day, as 12:05 and no later than 23:59, are none."""
    if not len(texts) or not all(map(_parts, texts[:50])):
        return False
    parts = [_parts(text) for text in texts.unique()]
    if not all(parts) or not any(len(one) > 1 for one in parts):
        return False
    return not all(_CLOCK.fullmatch(text.strip()) for text in texts.unique())


def _seconds(text: Any) -> float:
    parts = _parts(text)
    if not parts:
        return float("nan")
    size = sum(_UNITS[unit] * part for unit, part in parts.items())
    return -size if text.strip().startswith("-") else size


def _parts(text: Any) -> dict[str, float]:
    """What a text names of days, hours, minutes and seconds; nothing where it is no length."""
    for pattern in _PATTERNS:
        found = pattern.fullmatch(text.strip()) if isinstance(text, str) else None
        if found:
            return {unit: float(found[unit]) for unit in _UNITS if found[unit] is not None}
    return {}
