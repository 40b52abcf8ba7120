"""The form that a value read from a file must have: exact names, exact types, finite numbers.

A check takes a value and what it is called, and raises `FormError`. True is no number here, 1 is no
1.0, and a name that is not expected is as wrong as one that is missing.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from thinned.errors import quoted

__all__ = [
    "Check",
    "FormError",
    "distinct_texts",
    "each",
    "either",
    "labels",
    "number",
    "one_of",
    "perhaps",
    "positive",
    "received",
    "record",
    "share",
    "text",
    "truth",
    "whole",
]

# Tables hold numbers up to 1e100 (see `tables`); the root of a variance above 0 is above 1e-163.
# Between these ends nothing that is computed with them leaves the range of binary64.
LARGEST, SMALLEST = 1e120, 1e-180

Check = Callable[[Any, str], None]


class FormError(ValueError):
    """A value that has not the form that it must have."""


def received(value: object) -> str:
    """A value as a sentence can name it, however large it is and however deep."""
    return quoted(value) if isinstance(value, str) else reprlib.repr(value)


def _demand(holds: bool, what: str, form: str, value: object) -> None:
    if not holds:
        raise FormError(f"{what or 'it'} must be {form}, got {received(value)}")


def text(value: Any, what: str) -> None:
    _demand(type(value) is str, what, "a text", value)


def truth(value: Any, what: str) -> None:
    _demand(type(value) is bool, what, "true or false", value)


def number(value: Any, what: str) -> None:
    fits = type(value) is float and abs(value) <= LARGEST  # NaN is not
    _demand(fits, what, f"a number in [-{LARGEST:g}, {LARGEST:g}]", value)


def positive(value: Any, what: str) -> None:
    number(value, what)
    _demand(value >= SMALLEST, what, "above 0", value)


def share(value: Any, what: str) -> None:
    number(value, what)
    _demand(0.0 <= value < 1.0, what, "in [0, 1)", value)


def whole(low: int, high: int) -> Check:
    def check(value: Any, what: str) -> None:
        fits = type(value) is int and low <= value <= high
        _demand(fits, what, f"a whole number in [{low}, {high}]", value)

    return check


def one_of(*known: Any) -> Check:
    def check(value: Any, what: str) -> None:
        fits = any(type(value) is type(one) and value == one for one in known)
        _demand(fits, what, " or ".join(map(str, known)), value)

    return check


def each(check_one: Check) -> Check:
    def check(value: Any, what: str) -> None:
        _demand(type(value) is list, what, "a list", value)
        for i, one in enumerate(value):
            check_one(one, f"{what}[{i}]")

    return check


def perhaps(check_one: Check) -> Check:
    """The form of a value that may be null."""

    def check(value: Any, what: str) -> None:
        if value is not None:
            check_one(value, what)

    return check


def either(first: Check, second: Check) -> Check:
    """The form of a value that has one of two: a list has the second."""

    def check(value: Any, what: str) -> None:
        (second if type(value) is list else first)(value, what)

    return check


def distinct_texts(value: Any, what: str) -> None:
    each(text)(value, what)
    _demand(len(set(value)) == len(value), what, "texts that differ", value)


def labels(value: Any, what: str) -> None:
    """Texts, whole numbers or finite numbers: all of one kind, ascending."""
    _demand(type(value) is list, what, "a list", value)
    kinds = {type(label) for label in value}
    _demand(len(kinds) <= 1 and kinds <= {str, int, float}, what, "labels of one kind", value)
    if kinds == {float}:
        each(number)(value, what)
    ascending = all(a < b for a, b in pairwise(value))
    _demand(ascending, what, "labels in ascending order", value)


def record(**checks: Check) -> Check:
    def check(value: Any, what: str) -> None:
        _demand(type(value) is dict, what, "names with values", value)
        for name in checks:
            _demand(name in value, what, f"with {quoted(name)}", list(value))
        for name in value:
            _demand(name in checks, what, f"without {quoted(name)}", list(value))
        for name, check_one in checks.items():
            check_one(value[name], f"{what}.{name}" if what else name)

    return check
