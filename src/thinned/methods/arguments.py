"""Checks that several methods share: an array beside x, a number, a word out of a few, a value."""

from __future__ import annotations

import math
import numbers
from typing import Any

from thinned import checks
from thinned.backends import Backend, backend_of
from thinned.checks import message

__all__ = [
    "MOST_AXES",
    "anywhere",
    "number",
    "one_of",
    "positive",
    "require_alike",
    "require_axes",
    "require_unit_axis",
]

# No library has arrays of more: what an axis may be, whatever the array.
MOST_AXES = 64


def require_alike(who: str, name: str, array: Any, beside: str, x: Any) -> None:
    """TypeError unless `array` is one, and of the library of x, which is called `beside`."""
    if backend_of(who, array, name) is not backend_of(who, x, beside):
        got, wanted = type(array).__name__, type(x).__name__
        raise TypeError(message(who, name, f"an array of {beside}'s library ({wanted})", got))


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


def positive(who: str, name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    return number(who, name, value, 0.0, above=True)


def require_axes(who: str, shared_axes: Any, **_: Any) -> None:
    """An error unless these are axes of some array."""
    checks.axes(who, shared_axes, MOST_AXES)


def require_unit_axis(who: str, name: str, axis: Any, axes: int = MOST_AXES) -> int:
    """An axis of an array of so many, counted from 0; not the first, along which samples lie."""
    found = checks.integer(who, name, axis, -axes, axes) % axes
    if found == 0:
        requirement = "another axis than 0, along which the samples lie"
        raise ValueError(message(who, name, requirement, axis))
    return found


def one_of(who: str, name: str, value: Any, words: tuple[str, ...]) -> str:
    """`value` if it is one of `words`."""
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(repr(word) for word in words[:-1]) + f" or {words[-1]!r}"
        raise ValueError(message(who, name, listed, repr(value)))
    return value


def anywhere(backend: Backend, *arrays: Any, condition: Any) -> bool:
    """Whether condition(*arrays) holds for an element, as far as its values can be read now.

    False while a compiler reads or records the program, under torch.func.vmap and on the meta
    device: there is nothing to read. On an accelerator the answer waits for the arrays.
    """
    if backend.staged() or any(backend.traced(array) for array in arrays):
        return False
    found = backend.namespace.any(condition(*arrays))
    try:
        return bool(found)
    except RuntimeError:  # PyTorch says so only when it is asked
        return False
