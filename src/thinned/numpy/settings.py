"""The checks of the numbers that a layer, an optimizer or an estimator is set with."""

from __future__ import annotations

import math
import numbers
from typing import Any

from thinned.checks import message

__all__ = ["choice", "number"]


def number(
    who: str,
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> float:
    """Return `value` as a float in [low, high), or (low, high) with open_low; NaN is refused.

    A bool, a string and None are TypeErrors; a number outside of the interval is a ValueError.
    """
    interval = f"{'(' if open_low else '['}{low:g}, {high:g})"
    requirement = f"a number in {interval}"
    real: Any = value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(who, name, requirement, f"{value!r} ({type(value).__name__})"))
    if not (low <= real < high) or (open_low and real == low):  # written so that NaN fails
        raise ValueError(message(who, name, requirement, value))
    return float(real)


def choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the named choices; ValueError otherwise."""
    if isinstance(value, str) and value in choices:
        return value
    requirement = " or ".join(repr(name) for name in choices)
    raise ValueError(message(who, name, requirement, repr(value)))
