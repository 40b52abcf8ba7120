"""Activation checkpointing: a recompute draws the masks of the forward that it repeats.

A site called once has one forward to repeat. So has a module that ran once: what its own code drew
is counted from the beginning of its forward, which the recompute begins anew. Where there were more
of them, only the checkpoint knows which were its own: `checkpoint_context` lets it note them.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from thinned.backends.torch.internals import functional_mode, graph_node, saved_hooks, sequence

__all__ = [
    "Place",
    "Run",
    "Running",
    "checkpoint_context",
    "here",
    "hooks",
    "late",
    "note",
    "replayed",
    "require_drawn",
    "running",
    "unclear",
]

_IN_TIME = (
    "Run the backward pass before clock.tick() and before the optimizer's step, and inside the "
    "piece of its forward."
)

Drawn = tuple[Any, int]


class _Here(threading.local):
    """Of one thread: checkpoints that run forward, and those that recompute, outermost first.

    busy : how many of all these there are. Where there is none, nobody else wants to know of calls.
    """

    def __init__(self) -> None:
        self.busy = 0
        self.noting: list[_Notes] = []
        self.replaying: list[_Notes] = []
        self.running: dict[tuple[int, int], Running] = {}
        self.innermost: list[Running] = []


_here = _Here()


@dataclass(slots=True)
class Run:
    """What one forward of a module drew at its site: `length` calls from number `first` on."""

    epoch: int
    first: int
    length: int


class Running:
    """A module's forward, while it runs: its draws belong together.

    mode : makes the mode under which functional calls are seen.
    read : how many of them a recompute has repeated.
    """

    __slots__ = ("_before", "_key", "_run", "_saving", "mode", "read")

    def __init__(self, clock: Any, index: int, mode: Callable[[], Any]) -> None:
        self._key, self.mode = (clock.number, index), mode
        self._run: Run | None = None
        self._saving = _saving()
        self.read = 0

    def __enter__(self) -> None:
        self._before = _here.running.get(self._key)
        _here.running[self._key] = self
        _here.innermost.append(self)
        _here.busy += 1

    def __exit__(self, *_: Any) -> None:
        _here.busy -= 1
        _here.innermost.remove(self)
        if self._before is None:
            del _here.running[self._key]
        else:
            _here.running[self._key] = self._before

    def drew(self, epoch: int, call: int) -> Run:
        """One call more."""
        if self._run is None:
            self._run = Run(epoch, call, 0)
        self._run.length += 1
        return self._run

    def require_seen_again(self, name: str, forward: types.CodeType) -> None:
        """RuntimeError where a functional call stands in a checkpoint that begins in this forward.

        Its recompute runs without the forward around it, and so without the mode that sees the
        call: PyTorch would draw another mask, in silence. A checkpoint that notes brings the mode.
        """
        if _saving() == self._saving:
            return
        if _here.noting and _here.noting[-1].within is self:
            return
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not forward:
            if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
                raise RuntimeError(
                    f"thinned: a functional call of site {name!r} stands in a checkpoint that "
                    "begins within its module's forward. The recompute runs without that forward, "
                    "and would draw another mask. Pass "
                    "context_fn=thinned.torch.checkpoint_context with use_reentrant=False, or "
                    "make the dropout a module of its own."
                )
            frame = frame.f_back


def _checkpoint_below() -> Any:
    """The innermost checkpoint that runs, by the number of its frame; None if there is none."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
            return id(frame)
        frame = frame.f_back
    return None


# What tells the checkpoints apart within which code runs: they set hooks. PyTorch before 2.7 does
# not tell its hooks, and a checkpoint is seen by its frame.
hooks: Callable[[], Any] = _checkpoint_below if saved_hooks is None else partial(saved_hooks, True)


def _saving() -> tuple[bool, Any]:
    """What a checkpoint changes where it begins."""
    return torch.is_grad_enabled(), hooks()


def running(clock: Any, index: int) -> Running | None:
    """The innermost forward of a site's module that runs in this thread."""
    return _here.running.get((clock.number, index))


class _Notes:
    """What the sites drew during one forward: {(clock's number, site's index): [draw, ...]}."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[int, int], list[Drawn]] = {}
        self.read: dict[tuple[int, int], int] = {}
        # The module's forward in which the checkpoint begins.
        self.within: Running | None = None


class _Forward:
    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.notes.drawn.clear()
        self.notes.within = _here.innermost[-1] if _here.innermost else None
        _here.noting.append(self.notes)
        _here.busy += 1

    def __exit__(self, *_: Any) -> None:
        _here.busy -= 1
        _here.noting.remove(self.notes)


class _Recompute:
    """Entered once for each backward pass, and so with reading from the first draw on again."""

    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.notes.read.clear()
        within = self.notes.within
        self.mode = nullcontext() if within is None else within.mode()
        self.mode.__enter__()
        _here.replaying.append(self.notes)
        _here.busy += 1

    def __exit__(self, *raised: Any) -> None:
        _here.busy -= 1
        _here.replaying.remove(self.notes)
        self.mode.__exit__(*raised)


def _recompute_all(*_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_context() -> tuple[Any, Any]:
    """The `context_fn` of torch.utils.checkpoint for sites that are called several times in a step.

    Returns
    -------
    Two context managers, for the forward and for the recompute. A few words are kept for each call.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> from torch.utils.checkpoint import checkpoint
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    >>> report = thinned.torch.adopt(model, seed=0)
    >>> y = torch.ones(2, 4)
    >>> for _ in range(2):
    ...     y = checkpoint(
    ...         model, y, use_reentrant=False, context_fn=thinned.torch.checkpoint_context
    ...     )
    >>> y.sum().backward()
    """
    if torch.compiler.is_compiling() or _functionalised():
        # In a graph every draw is a function of its inputs, and there is nothing to note. What
        # PyTorch itself takes where no context_fn is given:
        contexts: Any = create_selective_checkpoint_contexts
        return contexts(_recompute_all)  # type: ignore[no-any-return]
    notes = _Notes()
    return _Forward(notes), _Recompute(notes)


def _functionalised() -> bool:
    """Whether a compiler's later half runs a program that Dynamo traced. PyTorch 2.6 to 2.11 call
    the context_fn there, and do not say that they compile."""
    return functional_mode() is not None


def note(clock: Any, index: int, drawn: Drawn) -> None:
    """Tell every checkpoint whose forward is running."""
    for notes in _here.noting:
        notes.drawn.setdefault((clock.number, index), []).append(drawn)


def replayed(clock: Any, index: int, name: str) -> Drawn | None:
    """What the forward drew at this place, where a checkpoint with notes recomputes; else None."""
    if not _here.replaying:
        return None
    notes, key = _here.replaying[-1], (clock.number, index)
    done, drawn = notes.read.get(key, 0), notes.drawn.get(key, [])
    require_drawn(name, done, len(drawn))
    notes.read[key] = done + 1
    return drawn[done]


class RecomputeError(RuntimeError):
    """A checkpoint recomputes what it cannot draw again."""


def require_drawn(name: str, done: int, drawn: int) -> None:
    """RuntimeError where a recompute asks for more than its forward drew."""
    if done >= drawn:
        raise RecomputeError(
            f"thinned: a checkpoint's recompute calls site {name!r} more often than its forward "
            f"did ({drawn} times). The recompute must run the same code."
        )


def unclear(name: str, calls: int) -> str:
    """Why a recompute cannot tell which call of a site it is to repeat, and what to do."""
    what = f"thinned: a checkpoint recomputes site {name!r}, which was "
    if calls == 0:
        return f"{what}not called since the step or piece began. {_IN_TIME}"
    elsewhere = ", and elsewhere before" if calls == 1 else ""
    shares = (
        " Functional calls of one module share its site: a module for each of them, such as "
        "thinned.torch.Dropout, needs no context, in a reentrant checkpoint neither."
    )
    return (
        f"{what}called {calls} times since the step or piece began{elsewhere}: which call is it to "
        "repeat? Pass context_fn=thinned.torch.checkpoint_context to "
        "torch.utils.checkpoint.checkpoint, with use_reentrant=False."
        f"{shares if name.endswith('/dropout') else ''}"
    )


def late(name: str) -> str:
    """Why a recompute cannot repeat what the step or piece before drew."""
    return (
        f"thinned: a checkpoint recomputes site {name!r} for a forward of an earlier step, and the "
        f"site was called again since. {_IN_TIME}"
    )


class Place(NamedTuple):
    """Where a thread stood among autograd's nodes, which each thread numbers as it makes them."""

    thread: int
    number: int

    def after_what_runs(self) -> bool:
        """Whether the node whose backward pass runs is older. Only a node that this very thread
        made can be asked about: numbers of several threads do not compare."""
        node = graph_node()
        return node is not None and node._sequence_nr() < self.number


def here() -> Place:
    """Where this thread stands now."""
    return Place(threading.get_ident(), sequence())
