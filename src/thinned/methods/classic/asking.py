"""Checks that several classics share: an array beside x, a number, a word out of a few."""

from __future__ import annotations

import math
import numbers
from typing import Any

from thinned.backends import backend_of
from thinned.checks import message
from thinned.methods.draws import Draws

__all__ = ["beside", "number", "one_of"]


def beside(draws: Draws, name: str, array: Any, shape: tuple[int, ...]) -> Any:
    """An array that stands beside x, of this shape and x's library, in the type of x's
    arithmetic."""
    if backend_of(draws.who, array, name) is not draws.backend:
        got, wanted = type(array).__name__, type(draws.x).__name__
        raise TypeError(message(draws.who, name, f"an array of x's library ({wanted})", got))
    if tuple(array.shape) != shape:
        raise ValueError(message(draws.who, name, f"of shape {shape}", tuple(array.shape)))
    xp = draws.xp
    return xp.astype(array, xp.float64 if draws.x.dtype == xp.float64 else xp.float32)


def number(who: str, name: str, value: Any, low: float = -math.inf, above: bool = False) -> float:
    """`value` as a finite float that is at least `low`; above it, where `above` is so."""
    requirement = "a finite number"
    if low > -math.inf:
        requirement += f" above {low:g}" if above else f" of at least {low:g}"
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(message(who, name, requirement, f"{value!r} ({type(value).__name__})"))
    found = float(value)
    if not math.isfinite(found) or found < low or (above and found == low):
        raise ValueError(message(who, name, requirement, f"{found:g}"))
    return found


def one_of(who: str, name: str, value: Any, words: tuple[str, ...]) -> str:
    """`value` if it is one of `words`."""
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(repr(word) for word in words[:-1]) + f" or {words[-1]!r}"
        raise ValueError(message(who, name, listed, repr(value)))
    return value
