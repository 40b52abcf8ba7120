"""Which checkpoints run around a draw, found where PyTorch keeps what they will run again.

A checkpoint without reentrant autograd lays hooks for saved tensors, which hold the record of its
forward. A reentrant one is an autograd.Function whose context holds the function; so are those of
other libraries, and most keep it under the same name.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import FunctionCtx

from thinned.backends.torch.internals import checkpoint_hook, pop_hooks, push_hooks, saved_hooks

__all__ = ["Hooks", "Kept", "Wrapper", "below", "by_frames", "by_hooks", "is_of_checkpoint"]

# The two functions that pack and unpack what autograd saves.
Hooks = tuple[Any, Any]

_NAME = "run_function"
_LOOKS = None not in (saved_hooks, pop_hooks, push_hooks)
_PACK = f"{checkpoint_hook.__qualname__}.__init__.<locals>.pack_hook"


class Wrapper:
    """What is put in the place of a function or module that a checkpoint keeps."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["run"], name)


class Kept(NamedTuple):
    """Where a checkpoint keeps the function that its recompute runs: attribute `name` of `owner`.

    hooks, frames : of what began after it, and runs still: any hooks, any frames of Python.
    """

    owner: Any
    name: str
    hooks: tuple[Hooks, ...]
    frames: frozenset[int]

    def holds(self, hooks: Hooks | None, frame: types.FrameType | None) -> bool:
        """Whether code that began in `frame`, with `hooks` on top, began within the checkpoint."""
        return hooks in self.hooks or id(frame) in self.frames


def is_of_checkpoint(hooks: Hooks) -> bool:
    """Whether these are hooks that a checkpoint lays for its forward, and for nothing else."""
    return getattr(hooks[0], "__qualname__", "") == _PACK


def by_hooks(until: Hooks | None) -> list[Kept]:
    """The checkpoints whose forwards run, as their hooks tell, the innermost first.

    until : the hooks below which nobody looks.
    """
    if not _LOOKS:
        return []
    laid: list[Hooks] = []
    try:
        while (top := saved_hooks(True)) is not None and top != until:
            laid.append(top)
            pop_hooks()
    finally:
        for hooks in reversed(laid):
            push_hooks(*hooks)
    found = []
    for i, hooks in enumerate(laid):
        frame = _frame_of(hooks[0]) if is_of_checkpoint(hooks) else None
        if frame is not None:
            found.append(Kept(frame, "recompute_fn", tuple(laid[: i + 1]), frozenset()))
    return found


def _frame_of(pack: Any) -> Any:
    """The record of a forward that a checkpoint's hook fills; None if this release has another."""
    names = pack.__code__.co_freevars
    if "frame" not in names:
        return None
    frame = pack.__closure__[names.index("frame")].cell_contents
    return frame if callable(getattr(frame, "recompute_fn", None)) else None


def by_frames(until: types.CodeType) -> list[Kept]:
    """The reentrant checkpoints whose forwards run, as the frames of Python tell, the innermost
    first.

    until : the code below whose call nobody looks.
    """
    found = []
    passed: list[int] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not until:
        passed.append(id(frame))
        context = _context_of(frame)
        name = None if context is None else _function_in(context)
        if name is not None:
            found.append(Kept(context, name, (), frozenset(passed)))
        frame = frame.f_back
    return found


def _context_of(frame: types.FrameType) -> Any:
    """The context of an autograd.Function whose forward this is."""
    code = frame.f_code
    if code.co_name != "forward" or code.co_varnames[:1] in ((), ("self",)):
        return None
    first = frame.f_locals.get(code.co_varnames[0])
    return first if isinstance(first, FunctionCtx) else None


def _function_in(context: Any) -> str | None:
    """Under which name a context keeps what it runs: PyTorch's, or its only function."""
    kinds = (types.FunctionType, types.MethodType, functools.partial, nn.Module, Wrapper)
    held = vars(context)
    if callable(held.get(_NAME)):
        return _NAME
    names = [name for name, value in held.items() if isinstance(value, kinds)]
    return names[0] if len(names) == 1 else None


def below(frame: types.FrameType | None, until: types.CodeType) -> bool:
    """Whether `frame` was called, from within a call of `until`, by what may run it again: code of
    PyTorch's checkpoints, or the forward of an autograd.Function."""
    while frame is not None and frame.f_code is not until:
        if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
            return True
        if _context_of(frame) is not None:
            return True
        frame = frame.f_back
    return False
