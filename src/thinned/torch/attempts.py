"""Attempts: a forward that fails gives the calls that it made back to their clocks.

So a forward that is tried again, after an interrupt or with memory freed, draws the masks of the
first try. A call stays counted where another thread has made a later one of the same site.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinned.torch.clock import Clock

__all__ = ["Attempt", "note"]


class _Here(threading.local):
    """Of one thread: how many forwards run, one within the other, and the calls that they made.

    calls : the clock, the site's index, the epoch and the call's number.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.calls: list[tuple[Clock, int, int, int]] = []


_here = _Here()


def note(clock: Clock, index: int, epoch: int, call: int) -> None:
    """A call is made now, within the forwards that run in this thread."""
    if _here.depth:
        _here.calls.append((clock, index, epoch, call))


class Attempt:
    """A forward, while it runs."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = len(_here.calls)
        _here.depth += 1

    def __exit__(self, raised: Any, *_: Any) -> None:
        _here.depth -= 1
        if raised is not None:
            for clock, index, epoch, call in reversed(_here.calls[self._before :]):
                clock.give_back(index, epoch, call)
            del _here.calls[self._before :]
        if not _here.depth:
            _here.calls.clear()
