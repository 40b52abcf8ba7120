"""Activation checkpointing: a recompute draws the masks of the forward that it repeats.

A site called once has one forward to repeat. Where it was called more often, only the checkpoint
knows which of the calls were its own: `checkpoint_context` lets it note them.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

__all__ = ["checkpoint_context", "likely", "note", "replayed"]

Drawn = tuple[Any, int]


class _Here(threading.local):
    """Of one thread: checkpoints that run forward, and those that recompute, outermost first."""

    def __init__(self) -> None:
        self.noting: list[_Notes] = []
        self.replaying: list[_Notes] = []


_here = _Here()


class _Notes:
    """What the sites drew during one forward: {(clock's number, site's index): [draw, ...]}."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[int, int], list[Drawn]] = {}
        self.read: dict[tuple[int, int], int] = {}


class _Forward:
    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.notes.drawn.clear()
        _here.noting.append(self.notes)

    def __exit__(self, *_: Any) -> None:
        _here.noting.remove(self.notes)


class _Recompute:
    """Entered once for each backward pass, and so with reading from the first draw on again."""

    def __init__(self, notes: _Notes) -> None:
        self.notes = notes

    def __enter__(self) -> None:
        self.notes.read.clear()
        _here.replaying.append(self.notes)

    def __exit__(self, *_: Any) -> None:
        _here.replaying.remove(self.notes)


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
    if torch.compiler.is_compiling():
        # In a graph every draw is a function of its inputs, and there is nothing to note. What
        # PyTorch itself takes where no context_fn is given:
        contexts: Any = create_selective_checkpoint_contexts
        return contexts(_recompute_all)  # type: ignore[no-any-return]
    notes = _Notes()
    return _Forward(notes), _Recompute(notes)


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
    if done >= len(drawn):
        raise RuntimeError(
            f"thinned: a checkpoint's recompute calls site {name!r} more often than its forward "
            f"did ({len(drawn)} times). The recompute must run the same code."
        )
    notes.read[key] = done + 1
    return drawn[done]


def likely() -> bool:
    """Whether a checkpoint may be at work: one kind turns gradients off, the other sets hooks."""
    if not torch.is_grad_enabled():
        return True
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
