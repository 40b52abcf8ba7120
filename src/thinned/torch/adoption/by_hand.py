"""Dropout that a module makes by hand of its own draws, and the attribute that holds its p."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Any, NamedTuple

from torch import nn

from thinned.torch.adoption.bytecode import Reading
from thinned.torch.adoption.gates import GATES
from thinned.torch.clock.clock import BUFFER

__all__ = ["BY_HAND", "Held", "Moved", "drops_alone", "held_rate"]

# Names of the functions of which masks are made by hand.
BY_HAND = frozenset({"bernoulli_", *GATES.values()})

_KEPT = re.compile(r"keep|kept|surviv|retain", re.IGNORECASE)
_RATE = re.compile(r"(^|_)(p|rate|prob|probability)($|_)", re.IGNORECASE)
_DROPPED = re.compile(r"drop|skip|stoch", re.IGNORECASE)


class Held(NamedTuple):
    """An attribute that holds a module's p, or its probability to keep.

    name : "config.p" where another object holds it, which other modules may have, too.
    moves : whether another p of the site is meant for it. LayerDrop that is off stays off where the
        site has other dropout as well.
    """

    name: str
    value: float
    kept: bool
    moves: bool = True

    @property
    def p(self) -> float:
        return 1.0 - self.value if self.kept else self.value

    @property
    def is_own(self) -> bool:
        """Whether the module holds it itself."""
        return "." not in self.name

    def holder(self, module: nn.Module) -> tuple[Any, str]:
        """The object that holds it, and its name there."""
        way, _, last = self.name.rpartition(".")
        return (attrgetter(way)(module) if way else module), last

    def of(self, p: float) -> float:
        """What the attribute holds at another p."""
        return 1.0 - p if self.kept else p


class Moved:
    """A module whose attribute a schedule moves."""

    def __init__(self, module: nn.Module, held: Held) -> None:
        self.module, self.held = module, held

    def to(self, p: float) -> None:
        setattr(*self.held.holder(self.module), self.held.of(p))

    def back(self) -> None:
        setattr(*self.held.holder(self.module), self.held.value)


def drops_alone(module: nn.Module, found: Reading) -> bool:
    """Whether a module does nothing but drop what it is given by draws of its own code, as DropPath
    and StochasticDepth do: it has no parameters, buffers or parts, and reads a rate.

    found : what its code was read to call.
    """
    state = module._parameters | module._buffers | module._modules
    empty = all(one is None or name == BUFFER for name, one in state.items())
    by_hand = bool(found.reached) and found.reached <= BY_HAND and not found.missed
    return by_hand and empty and bool(_rates(module, found))


def held_rate(module: nn.Module, found: Reading) -> Held | None:
    """The attribute that holds p, where the code shows without doubt that it is the one: the only
    rate of a module that drops alone, or what LayerDrop compares single numbers with.

    Where code reads two rates, one may have been reckoned from the other when the module was made.
    """
    rates = _rates(module, found)
    if drops_alone(module, found):
        if len(rates) != 1:
            return None
        ((name, value),) = rates.items()
        if _KEPT.search(name):
            return Held(name, value, True)
        # Of a name that says neither, the code does: what is left of 1 is kept.
        return Held(name, value, False) if _drops(name) or found.takes_from_one else None
    if len(found.against) != 1 or "bernoulli_" in found.reached or any(map(_KEPT.search, rates)):
        return None
    (name,) = found.against
    if name not in rates or not _drops(name):
        return None
    return Held(name, rates[name], False, rates[name] > 0 or found.reached <= BY_HAND)


def _drops(name: str) -> bool:
    return _DROPPED.search(name) is not None


def _rates(module: nn.Module, found: Reading) -> dict[str, float]:
    """The module's own numbers that are named like rates, and that the code reads; of those that
    other objects hold for it, what single numbers are compared with."""
    held: dict[str, Any] = {name: module.__dict__.get(name) for name in found.numbers}
    held |= {name: _held_for(module, name) for name in found.against if "." in name}
    named = (_KEPT, _RATE, _DROPPED)
    return {
        name: float(value)
        for name, value in held.items()
        if type(value) in (int, float) and any(word.search(name) for word in named)
    }


def _held_for(module: nn.Module, name: str) -> Any:
    """self.config.p, where it is what somebody wrote there; None where it is reckoned."""
    way, _, last = name.rpartition(".")
    try:
        holder = attrgetter(way)(module)
    except AttributeError:
        return None
    return getattr(holder, "__dict__", {}).get(last)
