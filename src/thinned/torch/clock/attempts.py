"""Attempts: a forward that fails gives the calls that it made back to their clocks.

So a forward that is tried again, after an interrupt or with memory freed, draws the masks of the
first try. A call stays counted where another thread has made a later one of the same site.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["attempted", "here"]


class CountsCalls(Protocol):
    """The part of a clock that is used here."""

    def give_back(self, index: int, epoch: int, call: int) -> None: ...


class _Forwards:
    """Of one thread: how many forwards run, one within the other, and the calls that they made.

    calls : the clock, the site's index, the epoch and the call's number.
    """

    __slots__ = ("calls", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self.calls: list[tuple[CountsCalls, int, int, int]] = []

    def give_back(self, before: int) -> None:
        """All calls but those made before."""
        for clock, index, epoch, call in reversed(self.calls[before:]):
            clock.give_back(index, epoch, call)
        del self.calls[before:]


class _Here(threading.local):
    def __init__(self) -> None:
        self.forwards = _Forwards()


here = _Here()


def attempted(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """forward(*args, **kwargs), whose calls are given back if it fails."""
    forwards = here.forwards
    before = len(forwards.calls)
    forwards.depth += 1
    try:
        return forward(*args, **kwargs)
    except BaseException:
        forwards.give_back(before)
        raise
    finally:
        forwards.depth -= 1
        if not forwards.depth:
            forwards.calls.clear()
