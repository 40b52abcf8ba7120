"""Optimizers that begin the next step of an adopted model when they update its parameters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from thinned.checks import message
from thinned.jax.nnx.clock import tick

__all__ = ["let_tick", "make", "tick_no_more"]


def make(node: Any, kind: type[Any]) -> None:
    """Make an object of NNX's one of another class, in place: past NNX's own assignment, which
    would count the class among the object's attributes."""
    object.__setattr__(node, "__class__", kind)


def let_tick(optimizer: Any) -> None:
    """Make an nnx.Optimizer tick the clocks of the model that it updates. In place: it becomes one
    of a subclass of its class.

    Raises
    ------
    TypeError if it is no nnx.Optimizer.
    """
    _require_optimizer("adopt", optimizer)
    if not isinstance(optimizer, Ticking):
        kind: Any = type(optimizer)
        make(optimizer, _ticking(kind))


def tick_no_more(optimizer: Any) -> None:
    """Undo `let_tick`, if it was done. In place. Raises as let_tick."""
    _require_optimizer("release", optimizer)
    if isinstance(optimizer, Ticking):
        make(optimizer, type(optimizer).__bases__[0])


def _require_optimizer(who: str, optimizer: Any) -> None:
    if not isinstance(optimizer, nnx.Optimizer):
        remedy = "Of optax alone: call thinned.jax.nnx.tick(model) after each update."
        got = type(optimizer).__name__
        raise TypeError(message(who, "optimizer", "an nnx.Optimizer or None", got, remedy))


class Ticking:
    """What such an optimizer is besides."""

    __slots__ = ()  # so that an optimizer can become one in place


@lru_cache
def _ticking(kind: type[Any]) -> type[Any]:
    """One class for each, so that equal optimizers are of equal classes."""

    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        updates = kind.update(self, *args, **kwargs)
        tick(vars(self).get("model", args[0]), has_updated(self.opt_state))
        return updates

    update.__doc__ = kind.update.__doc__
    return type(kind.__name__, (kind, Ticking), {"update": update, "__module__": __name__})


def has_updated(state: Any) -> Any:
    """Whether the update before changed the parameters: optax.MultiSteps gathers gradients first,
    and optax.apply_if_finite skips those that are not finite. True or traced."""
    special = (optax.MultiStepsState, optax.ApplyIfFiniteState)
    found: Any = True
    for one in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, special)):
        if isinstance(one, optax.MultiStepsState):
            found = found & (_value(one.mini_step) == 0)
            found = found & has_updated(one.inner_opt_state)
        elif isinstance(one, optax.ApplyIfFiniteState):
            found = found & jnp.asarray(_value(one.last_finite), bool)
            found = found & has_updated(one.inner_state)
    return found


def _value(held: Any) -> Any:
    return held.get_value() if isinstance(held, nnx.Variable) else held
