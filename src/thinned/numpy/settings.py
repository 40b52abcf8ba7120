"""The checks of the numbers that a layer, an optimizer or an estimator is set with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thinned.backends.numpy import backend
from thinned.checks import message, real, written

__all__ = ["choice", "floats", "number"]


def floats(who: str, name: str, x: Any) -> Any:
    """An array of NumPy's that layers and losses compute with: floating, and plain."""
    if not isinstance(x, (np.ndarray, np.generic)):
        raise TypeError(message(who, name, "a numpy array", type(x).__name__))
    backend.require_floating(who, x, name)
    return backend.plain(x)


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
    found = real(who, name, value, requirement)
    if not (low <= found < high) or (open_low and found == low):  # written so that NaN fails
        raise ValueError(message(who, name, requirement, value))
    return found


def choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the named choices; ValueError otherwise."""
    if isinstance(value, str) and value in choices:
        return value
    requirement = " or ".join(written(name) for name in choices)
    raise ValueError(message(who, name, requirement, written(value)))
