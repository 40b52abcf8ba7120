"""A planted fault is caught: the right row passes a check, and the wrong one fails it."""

import dataclasses

import pytest

from . import checks_law as law, checks_values as values, trying
from .trying import outputs, row_named


def _arguments(check, kind):
    assert check in (*law.LAW, *law.ENDS, *values.VALUES)
    return () if check in law.LAW else (kind,)


def a_patch_is_caught(fault, name, check, kind, monkeypatch):
    """`fault(monkeypatch)` breaks something that the row of this name draws with."""
    row, rest = row_named(name), _arguments(check, kind)
    outputs.cache_clear()
    with kind.in_use():
        check(row, *rest)
    outputs.cache_clear()
    fault(monkeypatch)
    _fails(check, row, rest, kind)


def another_function_is_caught(function, name, check, kind, monkeypatch):
    """`function` takes the place of the row's own."""
    right, rest = row_named(name), _arguments(check, kind)
    wrong = dataclasses.replace(right, function=function)
    outputs.cache_clear()
    with kind.in_use():
        check(right, *rest)
    outputs.cache_clear()
    monkeypatch.setattr(trying, "row_named", lambda _: wrong)
    _fails(check, wrong, rest, kind)


def _fails(check, row, rest, kind):
    try:
        with kind.in_use(), pytest.raises(AssertionError):
            check(row, *rest)
    finally:
        outputs.cache_clear()
