"""Whether what is drawn has values that Python may read: it has none in a program that is made of
what runs, nor for fake and meta tensors.

A draw's number that is read while a program is made would be a constant of it, and every run of the
program would draw the same mask. And what has no memory cannot be read, written or drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from thinned.backends.torch.internals import (
    FakeTensor,
    fake_mode,
    frames,
    modes,
    proxy_mode,
    tracing,
)

__all__ = ["eager", "has_values", "inlined", "lengths", "recorded", "unread"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_modes, _tracing = modes, tracing


def recorded() -> bool:
    """Whether a program is made of what runs: by a compiler, by make_fx or by torch.jit.trace."""
    if torch.compiler.is_compiling():
        return True
    return bool(_tracing()) or (_modes() > 0 and proxy_mode() is not None)


def unread() -> bool:
    """Whether Python can read no draw: a program is made, or tensors are fake."""
    return recorded() or _fake()


def _fake() -> bool:
    return _modes() > 0 and fake_mode() is not None


def has_values(like: Tensor) -> bool:
    """Whether draws for this tensor have values, outside of programs that are made."""
    return not (like.is_meta or _fake() or isinstance(like, FakeTensor))


def lengths(numbers: Sequence[Any]) -> Sequence[Any]:
    """Shapes and strides for an operator: to torch.jit.trace lengths are tensors, which its lists
    of integers do not take."""
    return [int(n) for n in numbers] if _tracing() else numbers


def eager(function: _Function) -> _Function:
    """Of a function that runs where no program is made: Dynamo looks at no frame of it, nor at one
    within. It would where it gave up every frame around, as it does from 2.14 on with a tensor that
    has a tangent, and would warn of what it cannot trace. What it inlines is as it was."""
    return _skipped(function, within=True)


def inlined(function: _Function) -> _Function:
    """Of a mode's method, which PyTorch calls: Dynamo makes no program of it by itself, where it
    gave up the frame that called; what it inlines is as it was. What such a program asks of the
    function that it was called for does not tell one attribute of a tensor from another, and 2.14
    then gave `x.shape` for `x.device`."""
    return _skipped(function, within=False)


def _skipped(function: _Function, within: bool) -> _Function:
    if hasattr(frames, "set_code_exec_strategy"):  # 2.6 has none
        skip, as_ever = frames._FrameAction.SKIP, frames._FrameAction.DEFAULT
        strategy = frames._FrameExecStrategy(skip, skip if within else as_ever)
        frames.set_code_exec_strategy(function.__code__, strategy)
    return function
