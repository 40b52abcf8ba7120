"""Whether a gradient's memory may be written into: whether nobody else can ever read it.

Fresh memory for a gradient costs more than the dropout of it. The system hands out its pages one by
one, and they push others out of the cache. So dropout's backward pass writes into the gradient that
came in where it alone holds it, as PyTorch itself does where it adds gradients up.
"""

from __future__ import annotations

import sys
import threading
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

import torch
from torch import Tensor

__all__ = ["Holders", "holders", "nobody_else"]

Holders = tuple[int, ...]

_storage_count: Any = getattr(torch._C, "_storage_Use_Count", None)
_count: Any = getattr(Tensor, "_use_count", None)
_can_count = _storage_count is not None and _count is not None


def holders(objects: int, x: Tensor) -> Holders:
    """How many hold x, as Python and PyTorch count.

    The object itself, what PyTorch has behind it, and its memory: by that views, saved tensors,
    arrays and what hooks have kept all count. A view holds the tensor that it was made of, which
    may be held by others too.

    `objects` is getrefcount(x), asked where x came in: whether a call of a Python function holds
    its arguments twice depends on who else looks at the interpreter's frames.
    """
    if not _can_count:
        return ()
    memory = x.untyped_storage()
    # Memory of another maker may have holders that nobody counts: an array, a file, a process.
    ours = memory.resizable() and not memory.is_shared()
    held = (
        objects,
        getweakrefcount(x),
        _count(x),
        getrefcount(memory),
        _storage_count(memory._cdata),
        ours,
    )
    if not x._is_view():
        return held
    base = x._base
    return (*held, getrefcount(base), getweakrefcount(base), _count(base))


class _Asked(threading.local):
    """What is counted in a thread that makes a gradient which nobody else holds."""

    asking = False
    found: Holders = ()


_asked = _Asked()
_alone: dict[tuple[Any, int], frozenset[Holders]] = {}


# PyTorch calls backward passes like this, and a compiler that watches Python's frames makes a call
# hold what it passes on for longer. What was counted holds as long as calls are made as they were.
def _passed_on(context: Any, *arguments: Any) -> int:
    return _received(context, *arguments)


def _received(context: Any, argument: Any) -> int:
    return getrefcount(argument)


def nobody_else(counted: Holders, function: Any) -> bool:
    """Whether `holders` of a gradient, asked by the backward pass of `function`, says: only that.

    The pass itself counts, and how often depends on Python, on PyTorch and on the very line that
    asks. So the first time such a gradient is made, and counted by that line.
    """
    if _asked.asking:
        _asked.found = counted
        return False
    asks = function.backward, _passed_on(None, object())
    known = _alone.get(asks)
    return counted in (_learn(function, asks) if known is None else known)


def _learn(function: Any, asks: tuple[Any, int]) -> frozenset[Holders]:
    has_lock = getattr(sys, "_is_gil_enabled", None)
    if not _can_count or (has_lock is not None and not has_lock()):
        return _alone.setdefault(asks, frozenset())
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return frozenset()  # who looks on may hold what it sees now, and not the next time
    plain, view = _found(function, False), _found(function, True)
    if _passed_on(None, object()) != asks[1]:
        return frozenset()
    # Else somebody looks on whom Python does not know of.
    known = [held for held in (plain, view) if held[1:3] == (0, 1)]
    return _alone.setdefault(asks, frozenset(known))


def _found(function: Any, as_view: bool) -> Holders:
    _asked.asking, _asked.found = True, ()
    try:
        with torch.enable_grad():
            x = torch.ones(2, device="cpu", dtype=torch.float32, requires_grad=True)
            y = function.to_count(x)
            # A product with a number saves nothing, and makes its gradient anew.
            torch.mul(y.view(1, 2) if as_view else y, 2.0).sum().backward()
    finally:
        _asked.asking = False
    return _asked.found
