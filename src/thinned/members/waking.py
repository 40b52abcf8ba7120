"""Dropout behind a module's own training flag: for which modules the flag may be set.

`dropout_p=self.p if self.training else 0.0` draws nothing where the module is in evaluation. To
set the flag of this module, during its own forward and with its children as they are, wakes it;
but the flag may steer other things. So the forward is run twice on the same input, in evaluation
and in training, with no dropout in either: calls are told p = 0, gates drawn by hand are open, and
where the code divides what they let through by what their rate leaves, the attribute that holds the
rate is at p = 0, too. Where results, inputs, attributes and generators are
the same to the bit afterwards, the flag steers nothing but dropout on such rows.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thinned.backends.torch.values import inlined
from thinned.torch.adoption.by_hand import Held, Moved, held_rate
from thinned.torch.adoption.bytecode import read
from thinned.torch.adoption.functional_calls import (
    PLACES,
    AdoptedForward,
    p_of_call,
    with_p,
)
from thinned.torch.adoption.gates import BERNOULLI, UNIFORM
from thinned.torch.adoption.names import modules_by_name
from thinned.torch.adoption.uniforms import (
    ABOVE,
    BELOW,
    asked_for,
    draws_for_itself,
    gate_here,
    uniform_filled,
)
from thinned.torch.adoption.watching import TORCH, generators
from thinned.torch.compat.covers import Cover, covers_of
from thinned.torch.compat.generators import OwnDraws

__all__ = ["Flags", "compare", "wake"]


@dataclass
class Flags:
    """What was decided of modules, by their names.

    woken : whose flag is set for their own forward; the p above 0 that dropout in it was told.
    left : whose flag was left alone, and why.
    """

    woken: dict[str, frozenset[float]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def wake(twin: nn.Module, names: Iterable[str]) -> dict[str, Cover]:
    """Set the flags of these modules of a twin, each for its own forward, until it is lifted."""
    wanted, covers = set(names), dict[str, Cover]()
    for module, (name, *_) in modules_by_name(twin).items() if wanted else ():
        if name in wanted:
            covers[name] = _Woken(module)
            covers[name].lay(beneath=_adopted(module))
    return covers


def _adopted(module: nn.Module) -> AdoptedForward | None:
    """What is to see the calls that dropout in a forward makes."""
    found = (cover for cover in covers_of(module) if isinstance(cover, AdoptedForward))
    return next(found, None)


class _Woken(Cover):
    """A forward that finds its module in training, and all other modules as they are."""

    signed = Cover.forward

    def covered(self, args: Any, kwargs: Any) -> Any:
        with _InTraining(self.module):
            return self.run(args, kwargs)


class _InTraining:
    def __init__(self, module: nn.Module) -> None:
        self.module, self.before = module, module.training

    def __enter__(self) -> None:
        self.module.training = True

    def __exit__(self, *_: object) -> None:
        self.module.training = self.before


# ----------------------------------------------------------------------------------- the decision


def compare(twin: nn.Module, candidates: Iterable[str], run: Callable[[], object]) -> Flags:
    """Decide for which of these modules the flag steers nothing but dropout.

    twin : an adopted model whose clock no other model has. All of it is put into evaluation mode.
    run : a forward of the twin on a few rows, whose results are nobody's.

    A module that is not called in it is in neither list.
    """
    wanted = set(candidates)
    trial = _Trial(twin)
    covers = []
    names = modules_by_name(twin)
    for module, called in names.items():
        for name in wanted.intersection(called[:1]):
            held = held_rate(module, read(module, names))
            covers.append((name, _Compared(module, trial, held)))
    before = {module: module.training for module in twin.modules()}
    for module in before:
        module.training = False
    for _, cover in covers:
        cover.lay(beneath=_adopted(cover.module))
    try:
        run()
    finally:
        for _, cover in reversed(covers):
            cover.lift()
        for module, was in before.items():
            module.training = was
    flags = Flags()
    for name, cover in covers:
        if cover.why:
            flags.left[name] = cover.why
        elif cover.ran:
            flags.woken[name] = frozenset(cover.told)
    return flags


class _Trial:
    """What all comparisons of a model share.

    running : whether a forward runs in training, in which nothing else is compared.
    """

    def __init__(self, twin: nn.Module) -> None:
        self.running = False
        kept = (*twin.parameters(), *twin.buffers())
        self.held = {place for tensor in kept if (place := _place(tensor))}
        # Copies of arguments lead to the same modules and weights as the arguments themselves.
        self.same = {id(one): one for one in (*twin.modules(), *kept)}


class _Compared(Cover):
    """A forward that is run in training first, on copies, and then in evaluation."""

    def __init__(self, module: nn.Module, trial: _Trial, held: Held | None) -> None:
        super().__init__(module)
        self.trial, self.held, self.why, self.ran = trial, held, "", False
        self.told: set[float] = set()

    def covered(self, args: Any, kwargs: Any) -> Any:
        if self.why or self.trial.running:
            return self.run(args, kwargs)
        self.ran = True
        given = args, kwargs
        try:
            trained = [self._trained(copied, kept) for copied, kept in self._copies(given)]
            if self.gated and self.held is not None:
                trained.append(self._trained_at_0(next(self._copies(given))[0], self.held))
        except _LeftAlone as error:
            self.why = str(error)
            return self.run(args, kwargs)
        before = _state_of(self.module)
        with _Mute(_OPEN[0]):
            result = self.run(args, kwargs)
        found = result, given, _changes(before, self.module)
        if not any(_alike(one, found) for one in trained):
            parts = zip(("results", "arguments", "attributes"), found, strict=True)
            differing = [
                what
                for i, (what, part) in enumerate(parts)
                if not any(_alike(one[i], part) for one in trained)
            ]
            self.why = f"with it, and with p = 0, its {' and '.join(differing) or 'results'} differ"
        return result

    def _copies(self, given: Any) -> Iterator[tuple[Any, _Gates]]:
        """Copies of the arguments, and what gates are to be; one where no gate was drawn."""
        for kept in _OPEN:
            try:
                copied = copy.deepcopy(given, dict(self.trial.same))
            except Exception as error:
                told = f"its arguments cannot be copied ({_named(error)})"
                raise _LeftAlone(told) from None
            yield copied, kept
            if not self.gated:
                return

    gated = False

    def _trained_at_0(self, given: Any, held: Held) -> Any:
        """The same where the attribute that holds the rate of gates says that nothing drops."""
        moved = Moved(self.module, held)
        moved.to(0.0)
        try:
            return self._trained(given, _OPEN[0])
        finally:
            moved.back()

    def _trained(self, given: Any, kept: _Gates) -> Any:
        """Results, arguments and changed attributes of a forward in training, all of it undone."""
        before, others = _state_of(self.module), generators()
        mute, looking = _Mute(kept), _Looking(self.trial.held)
        self.trial.running = True
        try:
            with _InTraining(self.module), looking, mute:
                result = self.run(*given)
        except _LeftAlone:
            raise
        except Exception as error:  # what the model's own code raises where it is in training
            raise _LeftAlone(f"with it, the code raises {_named(error)}") from None
        finally:
            self.trial.running = False
            changes = _changes(before, self.module)
            _put_back(before)
        self.gated = self.gated or mute.gated
        self.told |= mute.told
        moved = [TORCH] if looking.used else []
        moved += [s for s, state in generators().items() if s != TORCH and others[s] != state]
        if moved:
            raise _LeftAlone(f"with it, the code draws from {' and '.join(moved)}")
        return result, given, changes


def _named(error: Exception) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class _LeftAlone(Exception):  # noqa: N818 - no error: an answer
    """Why a module's flag is left alone."""


class _Gates(NamedTuple):
    """What gates hold of which the code decides. mean : of those that are drawn as such, their
    mean, which changes nothing where code divides it by the rate; else 1. number : the uniform
    number, of which the code makes gates."""

    mean: bool
    number: float


# In one of these gates are open, whichever side of its rate a number has to lie on for that.
_OPEN = (_Gates(True, ABOVE), _Gates(False, BELOW))


class _Mute(TorchFunctionMode):
    """Functions that drop, with p = 0.

    kept : what gates hold.

    Attributes
    ----------
    told : the p above 0 that they were given.
    gated : whether a gate was drawn.
    """

    def __init__(self, kept: _Gates) -> None:
        super().__init__()
        self.kept, self.gated = kept, False
        self.told: set[float] = set()

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.bernoulli_ and kwargs.get("generator") is None:
            return self._gate(*args, **kwargs)
        if (func in UNIFORM or func in BERNOULLI) and not draws_for_itself(kwargs):
            return self._made(func, args, kwargs)
        if func not in PLACES or func is Tensor.bernoulli_:
            return func(*args, **kwargs)
        p = p_of_call(func, args, kwargs)
        if p:
            self.told.add(float(p))
        return func(*args, **kwargs) if p is None else with_p(0.0, func, args, kwargs)

    def _gate(self, x: Tensor, p: Any = 0.5, **_: Any) -> Tensor:
        self.gated = True
        if not self.kept.mean:
            return x.fill_(1)
        return x.copy_(p) if isinstance(p, Tensor) else x.fill_(p)

    def _made(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of torch.rand and its kin, where the code makes gates of the numbers, and of
        torch.bernoulli."""
        if gate_here(func) is None:
            return func(*args, **kwargs)
        if func in BERNOULLI:
            return self._gate(torch.empty_like(args[0]), *(args[1:] or args), **kwargs)
        asked = asked_for(func, args, kwargs)
        if asked is None:
            return func(*args, **kwargs)
        self.gated = True
        numbers = uniform_filled(asked[0], self.kept.number, asked[1])
        return args[0].copy_(numbers) if func is Tensor.uniform_ else numbers


class _Looking(OwnDraws):
    """Operations of a forward in training: none may write into what the model keeps."""

    def __init__(self, held: set[int]) -> None:
        super().__init__()
        self.held = held

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func._schema.is_mutable:
            given = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
            given.update(kwargs or {})
            for argument in func._schema.arguments:
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and _place(given.get(argument.name)) in self.held:
                    raise _LeftAlone("with it, the code writes into a parameter or a buffer")
        if kwargs and kwargs.get("generator") is not None:
            raise _LeftAlone("with it, the code draws from its own generator")
        return super().__torch_dispatch__(func, types, args, kwargs)


def _place(tensor: Any) -> int:
    """Where a plain tensor's numbers lie; 0 where nothing can be said."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return 0
    return 0 if tensor.is_meta else int(tensor.untyped_storage().data_ptr())


# ------------------------------------------------------------------------- what a forward changes

_HELD = ("_parameters", "_buffers", "_modules")
_CONTAINERS = (list, deque, set, dict)

# Each dict of a module, and each container among its attributes, with what they held.
_State = list[tuple[Any, Any]]


def _state_of(module: nn.Module) -> _State:
    found: _State = []
    for part in module.modules():
        found.append((part.__dict__, dict(part.__dict__)))
        found += [(part.__dict__[name], dict(part.__dict__[name])) for name in _HELD]
        for name, value in part.__dict__.items():
            if name not in _HELD and type(value) in _CONTAINERS and value:
                found.append((value, copy.copy(value)))
    return found


def _changes(before: _State, module: nn.Module) -> list[Any]:
    """Of each dict and container that was changed its place in `before` and what is new in it."""
    found: list[Any] = []
    for place, (held, was) in enumerate(before):
        if isinstance(held, dict):
            new = {k: v for k, v in held.items() if k not in was or was[k] is not v}
            gone = [k for k in was if k not in held]
            new.pop("training", None)
            if new or gone:
                found.append((place, {k: _content(v) for k, v in new.items()}, gone))
        elif len(held) != len(was) or any(a is not b for a, b in zip(held, was, strict=True)):
            found.append((place, copy.copy(held)))
    return found


def _content(value: Any) -> Any:
    """A value as it is now: the container goes on to change."""
    return copy.copy(value) if type(value) in _CONTAINERS else value


def _put_back(before: _State) -> None:
    for held, was in before:
        if isinstance(held, dict):
            for key in [k for k in held if k not in was]:
                del held[key]
            for key, value in was.items():
                if key not in held or held[key] is not value:
                    held[key] = value
        elif isinstance(held, set):
            held.clear()
            held.update(was)
        else:
            held.clear()
            held.extend(was)


# -------------------------------------------------------------------------------- the same results


def _alike(one: Any, other: Any, seen: set[tuple[int, int]] | None = None) -> bool:
    """Whether two objects hold the same numbers, to the bit; what is not known is not alike."""
    seen = set() if seen is None else seen
    if one is other or (id(one), id(other)) in seen:
        return True
    seen.add((id(one), id(other)))
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return _same_numbers(one, other)
    if isinstance(one, np.ndarray):
        equal_nan = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=equal_nan)
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    if isinstance(one, Mapping):
        same = list(one) == list(other) and all(_alike(one[k], other[k], seen) for k in one)
        return same and _alike_inside(one, other, seen)
    if isinstance(one, (list, tuple, deque)):
        same = len(one) == len(other)
        return same and all(_alike(a, b, seen) for a, b in zip(one, other, strict=True))
    if isinstance(one, partial):
        parts = (one.func, one.args, one.keywords), (other.func, other.args, other.keywords)
        return _alike(*parts, seen)
    if isinstance(one, nn.Module):
        return False
    if callable(one):
        return bool(one == other)
    if getattr(one, "__dict__", None) or getattr(type(one), "__slots__", None):
        return _alike_inside(one, other, seen)
    try:
        return bool(one == other)
    except Exception:  # their own code cannot compare them: so they are not known to be alike
        return False


def _alike_inside(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    """Whether the attributes of two objects are alike."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(one).__mro__]
    names = [n for held in slots for n in ((held,) if isinstance(held, str) else held)]
    nothing = object()
    return _alike(getattr(one, "__dict__", None), getattr(other, "__dict__", None), seen) and all(
        _alike(getattr(one, name, nothing), getattr(other, name, nothing), seen)
        for name in names
        if name not in ("__dict__", "__weakref__")
    )


def _same_numbers(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if one.layout is not torch.strided or one.is_nested or one.is_quantized:
        return False
    if torch.equal(one, other):
        return True
    return bool(((one == other) | ((one != one) & (other != other))).all())
