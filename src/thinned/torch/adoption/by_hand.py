"""Dropout that a module makes by hand of its own draws, and the attribute that holds its p."""

from __future__ import annotations

import re

from torch import nn

from thinned.torch.adoption.bytecode import Rate, Reading
from thinned.torch.adoption.gates import GATES

__all__ = ["BY_HAND", "held_rate"]

# Names of the functions of which masks are made by hand.
BY_HAND = frozenset({"bernoulli_", *GATES.values()})

_KEPT = re.compile(r"keep|kept|surviv|retain", re.IGNORECASE)


def held_rate(module: nn.Module, found: Reading) -> Rate | None:
    """The attribute that holds p, of a module that does nothing but drop what it is given by draws
    of its own code: DropPath, StochasticDepth. None for every other module.

    It has no parameters, buffers or parts, and reads one number that is named like a rate.

    found : what its code was read to call.
    """
    if found.missed or not found.reached or not found.reached <= BY_HAND:
        return None
    state = (*module._parameters.values(), *module._buffers.values(), *module._modules.values())
    rates = {rate.name: rate for rate in found.rates if _is_held(module, rate)}
    empty = all(one is None for one in state)
    return next(iter(rates.values())) if empty and len(rates) == 1 else None


def _is_held(module: nn.Module, rate: Rate) -> bool:
    held = module.__dict__.get(rate.name)
    return type(held) in (int, float) and held == rate.p and not _KEPT.search(rate.name)
