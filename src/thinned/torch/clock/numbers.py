"""Clocks by number: how a compiled program, which holds nothing but numbers, names one."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

__all__ = ["clock_by_number", "number_of_new"]

_next = itertools.count()
_clocks: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def number_of_new(clock: Any) -> int:
    """The number of a clock that is made now. No other clock of the process ever has it."""
    number = next(_next)
    _clocks[number] = clock
    return number


def clock_by_number(number: int) -> Any:
    """The clock (thinned.torch.Clock); None once its model is gone."""
    return _clocks.get(number)
