"""Following: which clocks go on after which optimizer's step.

One hook sees every step of every optimizer of the process. It is set when this module is imported,
and never taken away: PyTorch iterates over its hooks while it calls them, and one that came or went
in that time would break a step whose weights have moved already. All that it looks up is held
weakly.
"""

from __future__ import annotations

import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

from thinned.backends.torch.internals import not_compiled
from thinned.checks import message

__all__ = ["follow", "forget", "optimizers_of", "wait"]


class Follower(Protocol):
    """The part of a clock that is used here."""

    number: int

    def stepped(self, optimizer: Optimizer) -> None: ...
    def has_model(self) -> bool: ...
    def parameters(self) -> Iterable[Any]: ...
    def __hash__(self) -> int: ...


class _Leader:
    """What is known of an optimizer.

    clocks : those that follow it.
    shown : what it was when the waiting clocks were last compared with it, and the newest of them.
    """

    __slots__ = ("clocks", "optimizer", "shown")

    def __init__(self, optimizer: Optimizer) -> None:
        key = id(optimizer)
        self.optimizer = weakref.ref(optimizer, lambda _: _leaders.pop(key, None))
        self.clocks: weakref.WeakSet[Follower] = weakref.WeakSet()
        self.shown: tuple[tuple[int, ...], int] = ((), -1)


_lock = threading.RLock()
# By identity: a class of optimizers may define equality, and no hash.
_leaders: dict[int, _Leader] = {}
_waiting: weakref.WeakSet[Follower] = weakref.WeakSet()
_newest = -1  # the highest number of a clock that ever waited


def _leader(optimizer: Optimizer) -> _Leader | None:
    leader = _leaders.get(id(optimizer))
    return leader if leader is not None and leader.optimizer() is optimizer else None


def _made_leader(optimizer: Optimizer) -> _Leader:
    leader = _leader(optimizer)
    if leader is None:
        leader = _leaders[id(optimizer)] = _Leader(optimizer)
    return leader


def follow(clock: Follower, optimizers: Iterable[Optimizer]) -> None:
    """From now on the clock goes on after the steps of these optimizers, and of no others.

    Where one of them steps another, as a wrapper does, that is one step.
    """
    with _lock:
        forget(clock)
        for optimizer in optimizers:
            _made_leader(optimizer).clocks.add(clock)


def wait(clock: Follower) -> None:
    """The clock is to follow the first optimizer that steps parameters of its model."""
    global _newest
    with _lock:
        _waiting.add(clock)
        _newest = max(_newest, clock.number)


def forget(clock: Follower) -> None:
    """The clock follows no optimizer, and waits for none."""
    with _lock:
        _waiting.discard(clock)
        for leader in _leaders.copy().values():
            leader.clocks.discard(clock)


# --------------------------------------------------------------------------------- after each step


def _stepped(taken: Optimizer, *_: Any) -> None:
    if (not _waiting and _leader(taken) is None) or _is_for_a_checkpoint():
        return
    running = list(_steps_running())
    around = running[1:] if running and running[0] is taken else running
    with _lock:
        if _waiting and not any(outer is taken for outer in around):
            _introduce(taken, around)
        clocks = _following(taken).difference(*map(_following, around))
    for clock in clocks:
        clock.stepped(taken)


def _following(optimizer: Optimizer) -> set[Follower]:
    leader = _leader(optimizer)
    return set() if leader is None else set(leader.clocks)


# The code of every step that PyTorch gave hooks.
_HOOKED = Optimizer.profile_hook_step(lambda _: None).__code__


def _steps_running() -> Iterator[Optimizer]:
    """The optimizers within whose steps this thread is, the innermost first.

    One may be there twice: a subclass's step that calls its base's has hooks twice. A step in a
    compiled program is not seen.
    """
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _HOOKED:
            yield frame.f_locals["self"]
        frame = frame.f_back


_CHECKPOINTS = "torch.distributed.checkpoint.state_dict"


def _is_for_a_checkpoint() -> bool:
    """Whether a step trains nothing: of an optimizer without state, PyTorch's functions for sharded
    checkpoints make one with gradients and learning rates of 0, to have a state to save or fill."""
    if _CHECKPOINTS not in sys.modules:
        return False
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == _CHECKPOINTS:
            return True
        frame = frame.f_back
    return False


def _introduce(taken: Optimizer, around: list[Optimizer]) -> None:
    """Waiting clocks follow this optimizer if it steps their models and none around it does.

    Each clock is compared with each optimizer once, and again when the optimizer is given more.
    """
    leader = _made_leader(taken)
    size = tuple(len(group["params"]) for group in taken.param_groups)
    shown = leader.shown[1] if leader.shown[0] == size else -1
    if shown >= _newest:
        return
    own, outer = _parameters(taken), set().union(*map(_parameters, around))
    strangers = {clock for clock in _waiting if clock.number > shown}
    unborn = {clock for clock in strangers if not clock.has_model()}
    leader.shown = (size, min([_newest, *(clock.number - 1 for clock in unborn)]))
    for clock in strangers - unborn:
        mine = {id(parameter) for parameter in clock.parameters()}
        if mine & own and not mine & outer:
            follow(clock, optimizers_of(taken))


def _parameters(optimizer: Any) -> set[int]:
    return {id(one) for group in optimizer.param_groups for one in group["params"]}


# ----------------------------------------------------------------------------- what an optimizer is


def optimizers_of(given: Any) -> list[Optimizer]:
    """The optimizers whose steps are those of the one given: itself, and what it wraps.

    TypeError where it is none, and where its steps cannot be told.
    """
    held = list(_held(given))
    if _has_hooks(given):
        own = _parameters(given)
        return [given, *(one for one in held if own & _parameters(one))]
    within = {id(inner) for one in held for inner in _held(one)}
    outermost = [one for one in held if id(one) not in within]
    if len(outermost) == 1 and _steps(given):
        return [outermost[0], *_held(outermost[0])]
    raise TypeError(
        message("adopt", "optimizer", "a torch.optim.Optimizer, or a wrapper of one", *_why(given))
    )


def _why(given: Any) -> tuple[str, str]:
    """What was given in place of an optimizer, and what to give."""
    kind = type(given).__name__
    by_hand = "Leave it out, and call report.clock.tick() after each step."
    if isinstance(given, LRScheduler):
        return f"{kind}, a scheduler", "Pass the optimizer that it schedules."
    if isinstance(given, (list, tuple, set, dict)) or len(list(_held(given))) > 1:
        several = "Pass the one that ends a training step, or leave it out, and call"
        return f"{kind} of several", f"{several} report.clock.tick() after each step."
    if isinstance(given, Optimizer):
        return f"{kind}, which never called Optimizer.__init__ and wraps none", by_hand
    return kind, by_hand


def _has_hooks(given: Any) -> bool:
    """Whether PyTorch calls its hooks. A wrapper that is an Optimizer by name only has none."""
    return (
        isinstance(given, Optimizer)
        and "_optimizer_step_post_hooks" in vars(given)
        and getattr(type(given).step, "hooked", False)
    )


def _steps(given: Any) -> bool:
    """Whether a wrapper is used in its optimizer's place: a scheduler holds one, too."""
    return callable(getattr(given, "step", None)) and callable(getattr(given, "zero_grad", None))


def _held(wrapper: Any) -> Iterator[Optimizer]:
    """The optimizers that a wrapper holds, through wrappers within, each once."""
    seen, found = {id(wrapper)}, [wrapper]
    for holder in found:
        for value in list(getattr(holder, "__dict__", {}).values()):
            for one in _each(value):
                if id(one) not in seen and (isinstance(one, Optimizer) or _steps(one)):
                    seen.add(id(one))
                    found.append(one)
    yield from filter(_has_hooks, found[1:])


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else (value,)


# Left alone by a compiler, which would make a program for each clock that comes or goes. PyTorch
# exports the function without declaring it.
register_optimizer_step_post_hook(not_compiled(_stepped))
