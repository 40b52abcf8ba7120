"""Checks of parameters, and the one form of message they speak.

Every message says who complains, about which parameter, what is required, what came, and, where
there is one, the remedy: ``dropout: p must be a float in [0, 1], got 50. Did you pass a
percentage?``
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "MOST_AXES",
    "axes",
    "flag",
    "function",
    "integer",
    "is_one_number",
    "items",
    "message",
    "one_of",
    "probability",
    "real",
    "shape",
    "shown",
    "written",
]

# NumPy's arrays have no more, and PyTorch's functions take no more.
MOST_AXES = 64
# Integers of more bits are described by their length: Python prints none of thousands of digits.
_LONG = 512


def message(who: str, what: str, requirement: str, got: object, remedy: str = "") -> str:
    """One clear sentence, and the remedy after it where there is one."""
    if type(got) is int and got.bit_length() > _LONG:
        got = f"an integer of {got.bit_length()} bits"
    sentence = f"{who}: {what} must be {requirement}, got {got}"
    return f"{sentence}. {remedy}" if remedy else f"{sentence}."


def probability(who: str, p: Any, name: str = "p") -> float:
    """Return `p` as a binary64 number in [0, 1], at the precision it arrived in.

    A Python or NumPy number or a zero-dimensional array passes; a string, a bool, None and an array
    with dimensions are TypeErrors, a NaN and everything outside [0, 1] ValueErrors.
    """
    if type(p) is not float:  # the common case needs no more checks
        p = _real(who, p, name)
    if not 0.0 <= p <= 1.0:  # written so that NaN fails
        remedy = "Did you pass a percentage?" if 1.0 < p <= 100.0 else ""
        short = f"{p:g}"
        got = short if float(short) == p else repr(float(p))  # 1.0000001 is not to be shown as 1
        raise ValueError(message(who, name, "a float in [0, 1]", got, remedy))
    return float(p)


def _real(who: str, p: Any, name: str) -> float:
    try:
        lengths = getattr(p, "shape", None)
        if lengths == () and hasattr(p, "item"):
            p = p.item()  # NumPy scalars and zero-dimensional arrays or tensors
    except (TypeError, RuntimeError) as error:  # on the meta device, nested, or traced by a library
        got = f"a {type(p).__name__} without a value that could be read"
        remedy = "Where a compiler traces it, the array must be one that it traces, too."
        raise TypeError(message(who, name, "a float in [0, 1]", got, remedy)) from error
    if lengths is not None and lengths != ():
        got = f"an array of shape {tuple(lengths)}"
        raise TypeError(message(who, name, "one number in [0, 1]", got))
    return real(who, name, p, "a float in [0, 1]")


def real(who: str, name: str, value: Any, requirement: str) -> float:
    """Return `value` as a float. A bool, a string, None and an array are TypeErrors, a number too
    large for a float is a ValueError."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(message(who, name, requirement, shown(value)))
    try:
        return float(value)
    except OverflowError:
        got = f"{'an integer' if isinstance(value, int) else 'a number'} too large for a float"
        raise ValueError(message(who, name, requirement, got)) from None


def shown(value: Any) -> str:
    """What came, and its type: for messages on a wrong type."""
    text, kind = written(value), type(value).__name__
    return text if text == kind else f"{text} ({kind})"


def written(value: Any) -> str:
    """What came, as it is typed. Of what has thousands of digits Python prints none."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to print"


def integer(who: str, name: str, value: Any, low: int, high: int, remedy: str = "") -> int:
    """Return `value` as an int in the half-open range [low, high). Bools and floats are refused."""
    requirement = f"an integer in [{low}, {high})"
    candidate: Any = None if isinstance(value, bool) else value
    try:
        number = operator.index(candidate)
    except TypeError:
        raise TypeError(message(who, name, requirement, shown(value), remedy)) from None
    if not low <= number < high:
        raise ValueError(message(who, name, requirement, number, remedy))
    return number


def flag(who: str, name: str, value: Any) -> bool:
    """Return `value` if it is True or False. Anything else (a p in the wrong place) is refused."""
    if value is True or value is False:
        return bool(value)
    if isinstance(value, np.bool_):
        return bool(value)
    remedy = ""
    if hasattr(value, "dtype"):  # an array, perhaps one without a value yet
        remedy = "It decides which program runs: give a bool of Python's, static under jit."
    raise TypeError(message(who, name, "True or False", shown(value), remedy))


def one_of(who: str, name: str, value: Any, words: tuple[str, ...]) -> str:
    """`value` if it is one of `words`."""
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(repr(word) for word in words[:-1]) + f" or {words[-1]!r}"
        raise ValueError(message(who, name, listed, written(value)))
    return value


def function(who: str, name: str, value: Any, of: str) -> Any:
    """`value` if it can be called; `of` says with what."""
    if not callable(value):
        raise TypeError(message(who, name, f"a function of {of}", type(value).__name__))
    return value


def is_one_number(value: Any) -> bool:
    """Whether `value` is an integer or has no axes: a number of some library."""
    try:
        return hasattr(value, "__index__") and getattr(value, "shape", ()) == ()
    except RuntimeError:  # PyTorch's nested tensors raise where their shape is read
        return False


def items(who: str, name: str, value: Any, requirement: str) -> tuple[Any, ...]:
    """What `value` holds. A TypeError for text and for what cannot be gone through."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(message(who, name, requirement, written(value)))
    try:
        return tuple(value)
    except (TypeError, RuntimeError) as error:  # an array without axes, a nested tensor
        got = f"a {type(value).__name__} that cannot be gone through"
        raise TypeError(message(who, name, requirement, got)) from error


def shape(who: str, value: Any, name: str = "shape") -> tuple[int, ...]:
    """Return `value` as a tuple of lengths; one integer stands for one axis."""
    if is_one_number(value):
        value = (value,)
    requirement = "an integer or a tuple of integers"
    axes_of_it = getattr(value, "ndim", 0) if hasattr(value, "dtype") else 0
    if axes_of_it > 1:  # the array itself, not its shape
        got = f"an array of {axes_of_it} axes"
        raise TypeError(message(who, name, requirement, got, "Pass x.shape."))
    value = items(who, name, value, requirement)
    lengths = tuple(integer(who, f"a length in {name}", n, 0, 2**63) for n in value)
    if len(lengths) > MOST_AXES:
        raise ValueError(message(who, name, f"of {MOST_AXES} axes at most", f"{len(lengths)} axes"))
    return lengths


def axes(who: str, value: Any, ndim: int, name: str = "shared_axes") -> tuple[int, ...]:
    """Return axes as sorted non-negative numbers; one integer stands for one axis.

    An axis outside [-ndim, ndim) and an axis named twice are ValueErrors.
    """
    if isinstance(value, tuple) and not value:
        return ()
    if is_one_number(value):
        value = (value,)
    value = items(who, name, value, "an axis or a tuple of axes")
    if ndim == 0 and value:
        raise ValueError(message(who, name, "empty for a zero-dimensional array", value))
    found = []
    for axis in value:
        number = integer(who, f"an axis in {name}", axis, -ndim, ndim)
        found.append(number % ndim)
    if len(set(found)) < len(found):
        raise ValueError(message(who, name, "free of repetitions", f"{value} for {ndim} axes"))
    return tuple(sorted(found))
