"""Draws of what runs again for the backward pass: `keras.remat` on PyTorch.

There it is a checkpoint, whose function runs twice for one step. The second run has the draws of
the first, in their order, and its mode, and no generator goes on. Keras's other backends hand the
state of generators through their compilers, where nothing of this is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from thinned.keras import internals

__all__ = ["drawn_once", "in_training", "install", "refuse_cells"]


class Recording:
    """What one function of a checkpoint drew in its first run."""

    def __init__(self) -> None:
        self.training = internals.in_training()
        self.draws: list[Any] = []
        self.again: Iterator[Any] | None = None

    @contextmanager
    def running(self, repeated: bool) -> Iterator[None]:
        self.again = iter(self.draws) if repeated else None
        stack = _stack()
        stack.append(self)
        try:
            yield
        finally:
            stack.pop()


_here = threading.local()  # PyTorch's backward pass may have threads of its own


def _stack() -> list[Recording]:
    if not hasattr(_here, "stack"):
        _here.stack = []
    stack: list[Recording] = _here.stack
    return stack


def drawn_once(draw: Callable[[], Any]) -> Any:
    """What `draw` gives, which makes a generator go on; in a second run what it gave in the first.

    Where one checkpoint stands in another, the outer one's second run runs the inner one anew.

    Raises
    ------
    RuntimeError where the second run draws what the first did not.
    """
    stack = _stack()
    repeated = next((run.again for run in stack if run.again is not None), None)
    words = draw() if repeated is None else next(repeated, None)
    if words is None:
        raise RuntimeError(
            "thinned.keras: a layer that runs again for the backward pass draws what it did not "
            "draw before. Its masks must not depend on what happened in between."
        )
    for run in stack:
        if run.again is None:
            run.draws.append(words)
    return words


def in_training() -> bool:
    """Whether the layer whose call is running, for the first time or again, is in training."""
    for run in _stack():
        if run.again is not None:
            return run.training
    return internals.in_training()


def refuse_cells() -> None:
    """RuntimeError in a checkpoint. Cells of Keras's recurrent layers keep their masks until a call
    ends, which the second run does not: it stops where nothing more is needed."""
    if _stack():
        raise RuntimeError(
            "thinned.keras: a recurrent layer with dropout cannot run again for the backward pass: "
            "its masks would stay for the next step. Leave it out of keras.remat and "
            "keras.RematScope."
        )


def install() -> None:
    """Let Keras's checkpoints on PyTorch draw once, once for all."""
    room = internals.REMAT
    if room is None or hasattr(room.remat, "__thinned__"):
        return
    plain = room.remat

    @wraps(plain)
    def remat(f: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            recording, runs = Recording(), 0

            def run(*args: Any, **kwargs: Any) -> Any:
                nonlocal runs
                runs += 1
                with recording.running(repeated=runs > 1):
                    return f(*args, **kwargs)

            return plain(run)(*args, **kwargs)

        return wrapped

    remat.__thinned__ = True  # type: ignore[attr-defined] # a mark on a function
    room.remat = remat
