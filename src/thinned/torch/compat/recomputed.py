"""Which checkpoints run around a draw, found where PyTorch keeps what they will run again.

A checkpoint without reentrant autograd lays hooks for saved tensors, which hold the record of its
forward. A reentrant one is an autograd.Function whose context holds the function; so are those of
other libraries, and most keep it under the same name.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import FunctionCtx

from thinned.backends.torch.internals import checkpoint_hook, pop_hooks, push_hooks, saved_hooks

__all__ = [
    "CHECKPOINT",
    "Hooks",
    "Kept",
    "Wrapper",
    "below",
    "by_frames",
    "by_hooks",
    "is_of_checkpoint",
]

# The two functions that pack and unpack what autograd saves.
Hooks = tuple[Any, Any]

_NAME, _RECOMPUTE = "run_function", "recompute_fn"
CHECKPOINT = inspect.unwrap(torch.utils.checkpoint.checkpoint).__code__
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
            found.append(Kept(frame, _RECOMPUTE, tuple(laid[: i + 1]), frozenset()))
    return found


def _frame_of(pack: Any) -> Any:
    """The record of a forward that a checkpoint's hook fills; None if this release has another."""
    names = pack.__code__.co_freevars
    if "frame" not in names:
        return None
    frame = pack.__closure__[names.index("frame")].cell_contents
    return frame if callable(getattr(frame, _RECOMPUTE, None)) else None


def by_frames(until: types.CodeType) -> list[Kept]:
    """The reentrant checkpoints whose forwards run, as the frames of Python tell, the innermost
    first; of a PyTorch that does not tell its hooks, the others as well.

    until : the code below whose call nobody looks.
    """
    found = []
    passed: list[int] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not until:
        passed.append(id(frame))
        context = _context_of(frame)
        name = None if context is None else _function_in(context)
        if context is None and not _LOOKS:
            context, name = _record_of(frame), _RECOMPUTE
        if context is not None and name is not None:
            found.append(Kept(context, name, (), frozenset(passed)))
        frame = frame.f_back
    return found


def _record_of(frame: types.FrameType) -> Any:
    """The record of a forward that PyTorch's checkpoint keeps, if this is a call of one without
    reentrant autograd: a generator holds it."""
    if frame.f_code is not CHECKPOINT:
        return None
    generator = frame.f_locals.get("gen")
    suspended = getattr(generator, "gi_frame", None)
    record = None if suspended is None else suspended.f_locals.get("new_frame")
    return record if callable(getattr(record, _RECOMPUTE, None)) else None


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
    PyTorch's checkpoints, or the forward of an autograd.Function whose backward recomputes."""
    while frame is not None and frame.f_code is not until:
        if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
            return True
        context = _context_of(frame)
        if context is not None and _recomputes(type(context)._forward_cls):
            return True
        frame = frame.f_back
    return False


# What a backward pass names that runs a forward again: without one of them it can neither
# differentiate what it ran, nor draw once more the mask that PyTorch drew.
_DIFFERENTIATES = {"backward", "enable_grad", "grad", "set_grad_enabled"}
_DIFFERENTIATES |= {"jacfwd", "jacrev", "jvp", "linearize", "vjp"}
_REPLAYS = {"Generator", "fork_rng", "manual_seed", "set_rng_state", "set_state"}
_read: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def _recomputes(function: type) -> bool:
    """Whether the backward pass of an autograd.Function, as its code reads, may run a forward."""
    if function not in _read:
        _read[function] = _may_run_a_forward(function)
    return _read[function]


def _may_run_a_forward(function: type) -> bool:
    """The same, read anew.

    The functions that it names are read as well: of its class, module and closure, and of the
    modules that those name. What is no Python is taken to run one.
    """
    names = ("backward", "vjp")  # A Function may define its backward pass under either.
    reading = [getattr(function, name) for name in names]
    own = [f for f in reading if getattr(f, "__module__", "") != torch.autograd.function.__name__]
    seen: set[types.CodeType] = set()
    while own:
        f = own.pop()
        code = getattr(inspect.unwrap(f), "__code__", None)
        if code is None:
            return True
        if code in seen:
            continue
        seen.add(code)
        called = {name for inner in _codes(code) for name in inner.co_names}
        if called & (_DIFFERENTIATES | _REPLAYS):
            return True
        own += _functions(called, inspect.unwrap(f), function)
    return False


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _functions(names: set[str], f: Any, owner: type) -> list[Any]:
    """The functions of Python, but PyTorch's own, that code of `f` means by these names."""
    cells = [cell.cell_contents for cell in f.__closure__ or () if cell != types.CellType()]
    known = [f.__globals__[name] for name in names if name in f.__globals__] + cells
    modules = [value for value in known if isinstance(value, types.ModuleType)]
    known += [vars(module)[name] for module in modules for name in names if name in vars(module)]
    known += [getattr(owner, name) for name in names if hasattr(owner, name)]
    kinds = (types.FunctionType, types.MethodType)
    return [
        value
        for value in known
        if isinstance(value, kinds) and not value.__module__.startswith("torch.")
    ]
