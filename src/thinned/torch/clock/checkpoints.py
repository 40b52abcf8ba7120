"""Activation checkpointing: a recompute draws the masks of the forward that it repeats.

A checkpoint keeps the function that it will run again. At the first draw of its forward that
function is wrapped: the wrapper notes what the sites draw, and plays it back when it is called.

A checkpoint of another kind, which is not found, has no notes. Then a site that was called once has
one forward to repeat. So has a module that ran once: what its own code drew is counted from the
beginning of its forward, which the recompute begins anew. All else raises.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from thinned.backends.torch.internals import (
    functional_mode,
    graph_node,
    graph_task,
    saved_hooks,
    sequence,
)
from thinned.backends.torch.values import eager
from thinned.torch.compat.recomputed import (
    CHECKPOINT,
    Kept,
    Wrapper,
    below,
    by_frames,
    by_hooks,
    is_of_checkpoint,
)

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
    "require_seen_again",
    "running",
    "unclear",
]

_IN_TIME = (
    "Run the backward pass before clock.tick() and before the optimizer's step, and inside the "
    "piece of its forward."
)

# The name under which the hooks of a checkpoint keep their notes.
_NOTES = "thinned_notes"

Drawn = tuple[Any, int]


class _Here(threading.local):
    """Of one thread: checkpoints that run forward, and those that recompute, outermost first.

    busy : how many of all these there are. Where there is none, no one else needs to know of calls.
    """

    def __init__(self) -> None:
        self.busy = 0
        self.noting: list[_Notes] = []
        self.replaying: list[_Recompute] = []
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

    mode : the one under which functional calls are seen, which is entered again by a recompute.
    read : how many of them a recompute has repeated.
    saving : what a checkpoint changes where it begins, as it was when the forward began.
    """

    __slots__ = ("_before", "_frame", "_key", "_run", "mode", "read", "saving")

    @eager
    def __init__(self, key: tuple[int, int], mode: Any) -> None:
        self._key, self.mode = key, mode
        self._run: Run | None = None
        self._frame: types.FrameType | None = None
        self.saving = torch.is_grad_enabled(), hooks()
        self.read = 0

    @eager
    def __enter__(self) -> None:
        self._before = _here.running.get(self._key)
        self._frame = sys._getframe(1)
        _here.running[self._key] = self
        _here.innermost.append(self)
        _here.busy += 1

    @eager
    def __exit__(self, *_: Any) -> None:
        _here.busy -= 1
        self._frame = None
        _here.innermost.remove(self)
        if self._before is None:
            del _here.running[self._key]
        else:
            _here.running[self._key] = self._before

    def again(self) -> Running:
        """The same for a recompute of a part of it."""
        return Running(self._key, self.mode)

    def begun_in(self, kept: Kept) -> bool:
        """Whether it began within a checkpoint's forward."""
        return kept.holds(self.saving[1], self._frame)

    def drew(self, epoch: int, call: int) -> Run:
        """One call more."""
        if self._run is None:
            self._run = Run(epoch, call, 0)
        self._run.length += 1
        return self._run


def _checkpoint_below() -> Any:
    """The innermost checkpoint whose forward runs, by the number of its frame; None if there is
    none."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is CHECKPOINT:
            return id(frame)
        frame = frame.f_back
    return None


# What distinguishes the checkpoints around running code: they set hooks. PyTorch before 2.8 does
# not show its hooks, and a checkpoint is recognised by its frame, a number.
hooks: Callable[[], Any] = _checkpoint_below if saved_hooks is None else partial(saved_hooks, True)


def running(clock: Any, index: int) -> Running | None:
    """The innermost forward of a site's module that runs in this thread."""
    return _here.running.get((clock.number, index))


@eager
def require_seen_again(clock: Any, index: int, name: str, forward: types.CodeType) -> None:
    """RuntimeError where a functional call stands in a checkpoint that begins in the forward of the
    site's module and takes no notes. forward : the code from which that forward is run.

    Its recompute runs without the forward around it, and so without the mode that sees the call:
    PyTorch would draw another mask, in silence. One that takes notes brings the mode.
    """
    around = _here.running.get((clock.number, index))
    if around is None or (torch.is_grad_enabled(), hooks()) == around.saving:
        return
    if any(notes.within is around for notes in _noting()):
        return
    if below(sys._getframe(1), forward):
        raise RuntimeError(
            f"thinned: a functional call of site {name!r} stands in a checkpoint that "
            "begins within its module's forward. The recompute runs without that forward, "
            f"and would draw another mask. {_REMEDY} Or make the dropout a module of its own."
        )


class _Notes:
    """What the sites drew during one forward: {(clock's number, site's index): [draw, ...]}.

    within : the module's forward in which the checkpoint begins.
    depth : in how many recomputes it begins.
    """

    def __init__(self, within: Running | None = None) -> None:
        self.drawn: dict[tuple[int, int], list[Drawn]] = {}
        self.within = within
        self.depth = len(_here.replaying)


class _Forward:
    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.notes.drawn.clear()
        self.notes.depth = len(_here.replaying)
        self.notes.within = _here.innermost[-1] if _here.innermost else None
        _here.noting.append(self.notes)
        _here.busy += 1

    def __exit__(self, *_: Any) -> None:
        _here.busy -= 1
        _here.noting.remove(self.notes)


class _Recompute:
    """Entered once for each backward pass, and so with reading from the first draw on again.

    hooks : those for saved tensors on top where it begins: what lies above, began in it.
    """

    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.read: dict[tuple[int, int], int] = {}
        self.hooks = hooks()
        self.around = ExitStack()
        _here.replaying.append(self)
        _here.busy += 1
        if self.notes.within is not None:
            self.around.enter_context(self.notes.within.mode)
            self.around.enter_context(self.notes.within.again())

    def __exit__(self, *raised: Any) -> None:
        self.around.__exit__(*raised)
        _here.busy -= 1
        _here.replaying.remove(self)


class _Repeated(Wrapper):
    """The function that a checkpoint runs again, and the notes of its forward.

    backward : whether that is done in backward passes alone: a forward that calls it from where it
        is kept is no recompute.
    """

    def __init__(self, run: Callable[..., Any], notes: _Notes, backward: bool) -> None:
        super().__init__(run)
        self.notes, self.backward = notes, backward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.backward and graph_task() < 0:
            return self.run(*args, **kwargs)
        return self._again(args, kwargs)

    def _again(self, args: Any, kwargs: Any) -> Any:
        with _Recompute(self.notes):
            return self.run(*args, **kwargs)


def _notes_of(kept: Kept) -> _Notes:
    """The notes of a checkpoint, which takes some from now on."""
    run = getattr(kept.owner, kept.name)
    if not isinstance(run, _Repeated):
        outside = (r for r in reversed(_here.innermost) if not r.begun_in(kept))
        run = _Repeated(run, _Notes(next(outside, None)), not kept.hooks)
        setattr(kept.owner, kept.name, run)
    return run.notes


def _noting() -> list[_Notes]:
    """The notes of all checkpoints whose forwards run, and began in the recompute that runs, if one
    does."""
    found = [notes for notes in _here.noting if notes.depth >= len(_here.replaying)]
    until = _here.replaying[-1].hooks if _here.replaying else None
    top = hooks()
    if isinstance(top, tuple) and top != until:
        # A checkpoint has new hooks for each forward, which know what is around them.
        noted = getattr(top[0], _NOTES, None) if is_of_checkpoint(top) else None
        if noted is None:
            noted = [_notes_of(kept) for kept in by_hooks(until)]
            if is_of_checkpoint(top):
                setattr(top[0], _NOTES, noted)
        found += noted
    if not torch.is_grad_enabled() or isinstance(top, int):
        found += [_notes_of(kept) for kept in by_frames(_Repeated._again.__code__)]
    return found


def _recompute_all(*_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_context() -> tuple[Any, Any]:
    """The `context_fn` of torch.utils.checkpoint, for what lays its hooks by other code.

    Checkpoints of other libraries need it that take a context_fn and hide the function that they
    run again; before PyTorch 2.8 also what begins no call of torch.utils.checkpoint.checkpoint.
    Elsewhere it changes nothing.

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
        # PyTorch itself uses without a context_fn:
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
    for notes in _noting():
        notes.drawn.setdefault((clock.number, index), []).append(drawn)


def replayed(clock: Any, index: int, name: str) -> Drawn | None:
    """What the forward drew at this place, where a checkpoint with notes recomputes; else None."""
    if not _here.replaying:
        return None
    recompute, key = _here.replaying[-1], (clock.number, index)
    done, drawn = recompute.read.get(key, 0), recompute.notes.drawn.get(key, [])
    require_drawn(name, done, len(drawn))
    recompute.read[key] = done + 1
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


def unclear(name: str, calls: int, model: object) -> str:
    """Why a recompute cannot tell which call of a site it is to repeat, and what to do.

    model : the adopted one, by which is known what may have called its checkpoints.
    """
    what = f"thinned: a checkpoint recomputes site {name!r}, which was "
    if calls == 0:
        return f"{what}not called since the step or piece began. {_IN_TIME}"
    elsewhere = ", and elsewhere before" if calls == 1 else ""
    shares = (
        " Functional calls of one module share its site: a module for each of them, such as "
        "thinned.torch.Dropout, needs neither."
    )
    return (
        f"{what}called {calls} times since the step or piece began{elsewhere}: which call is it to "
        f"repeat? {_REMEDY}{_of_transformers(model)}{shares if name.endswith('/dropout') else ''}"
    )


_REMEDY = (
    "Use torch.utils.checkpoint.checkpoint, whose recompute knows; where something else "
    "takes a context_fn, pass it thinned.torch.checkpoint_context."
)


def _of_transformers(model: object) -> str:
    if type(model).__module__.partition(".")[0] != "transformers":
        return ""
    return (
        " With transformers: gradient_checkpointing_kwargs="
        '{"use_reentrant": False, "context_fn": thinned.torch.checkpoint_context}.'
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
