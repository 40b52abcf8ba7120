"""What the assertions of thinned.testing ask of models of JAX's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from thinned.checks import message
from thinned.jax.auditing import Finding, in_evaluation, runs_of
from thinned.jax.given import Given

__all__ = ["differences", "findings_in_evaluation"]


def findings_in_evaluation(who: str, model: Any, inputs: Any) -> list[Finding]:
    """What draws or differs in evaluation. TypeError for a model without such a mode."""
    runs = runs_of(who, model)
    if runs.evaluate is None:
        got = f"a {type(model).__name__}, which has no evaluation of its own"
        raise TypeError(message(who, "model", "a model of NNX or Equinox under JAX", got))
    return in_evaluation(runs.evaluate, Given.of(who, inputs), runs.names)


def differences(
    who: str,
    model: Any,
    inputs: Any,
    ways: Sequence[str],
    loss: Callable[[Any], Any] | None,
    tolerance: float,
) -> list[str]:
    """A sentence for each way in which the first step of training has other outputs or gradients
    with respect to the inputs than without compiling."""
    runs, given = runs_of(who, model), Given.of(who, inputs)

    def step(arrays: tuple[Any, ...]) -> tuple[Any, Any]:
        values = list(given.values)
        for place, array in zip(given.places, arrays, strict=True):
            values[place] = array
        out = runs.train(given._replace(values=tuple(values)), 0)
        return (_sum_of_squares(out) if loss is None else loss(out)), out

    def run(function: Any) -> dict[str, Any]:
        if not all(jnp.issubdtype(a.dtype, jnp.floating) for a in given.arrays):
            return {"output": function(given.arrays)[1]}
        (_, out), grads = jax.value_and_grad(function, has_aux=True)(given.arrays)
        return {"output": out, "gradient": grads}

    around: dict[str, Any] = {"checkpoint": jax.checkpoint, "compile": jax.jit, "jit": jax.jit}
    plain = {**run(step), "output": step(given.arrays)[1]}
    found = []
    for way in ways:
        for what, got in run(around[way](step)).items():
            off = _distance(got, plain[what])
            if not off <= tolerance:
                shown = "checkpoint" if way == "checkpoint" else "jit"
                found.append(
                    f"  under {shown} the {what} differs by {off:.2g} of its norm: the address "
                    "depends on whether the code is traced."
                )
    return found


def _floating(tree: Any) -> list[Any]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _sum_of_squares(tree: Any) -> Any:
    return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in _floating(tree))


def _distance(got: Any, plain: Any) -> float:
    """The norm of the difference, relative to that of what it differs from."""
    pairs = zip(_floating(got), _floating(plain), strict=True)
    off = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs)
    size = float(_sum_of_squares(plain))
    return float((off / size) ** 0.5) if size else float(off > 0)
