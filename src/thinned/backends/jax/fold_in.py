"""fold_in of traced seeds, as a primitive: as plain operations its loop over rounds would have to
know of every array how it is divided among devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from thinned.backends.jax.counter import narrow, rounds, wide
from thinned.backends.jax.internals import no_tangent
from thinned.backends.jax.sharding import lowered_plainly
from thinned.backends.jax.spec import alike, stacked

__all__ = ["folded"]

FOLD_STEP = np.uint64(2**32 - 1)

# Operands: seeds and numbers to fold in, uint32, both of shape (..., 2), the lower word first.
fold_p: Any = Primitive("thinned_fold_in")


def folded(seed: tuple[Any, Any], n: tuple[Any, Any]) -> tuple[Any, Any]:
    """The two words of the seed that the number `n` (two words) makes of `seed`."""
    made = fold_p.bind(*alike(stacked(seed), stacked(n)))
    return made[0], made[1]


@fold_p.def_abstract_eval  # type: ignore[untyped-decorator]
def _(seed: Any, n: Any) -> Any:
    return n


def _pure(seed: Any, n: Any) -> Any:
    with jax.enable_x64(True):
        key, (low, high) = jnp.moveaxis(wide(seed), -1, 0), jnp.moveaxis(wide(n), -1, 0)
        upper = low << np.uint64(32) | high
        halves = jnp.stack([upper, jnp.full_like(upper, FOLD_STEP)])
        # The key is a word for each: of a batch of seeds, too.
        return jnp.moveaxis(narrow(rounds(halves, key))[:2], 0, -1)


def _lowering(ctx: Any, seed: Any, n: Any) -> Any:
    return lowered_plainly(_pure, ctx, seed, n)


def _batched(args: Any, axes: Any) -> tuple[Any, int]:
    size = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    operands = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(args, axes, strict=True)
    ]
    return fold_p.bind(*operands), 0


def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    y = fold_p.bind(*primals)
    return y, no_tangent(y)


ad.primitive_jvps[fold_p] = _jvp
batching.primitive_batchers[fold_p] = _batched
mlir.register_lowering(fold_p, _lowering)
_compiled = jax.jit(fold_p.bind)


@fold_p.def_impl  # type: ignore[untyped-decorator]
def _(seed: Any, n: Any) -> Any:
    with jax.disable_jit(False):  # as the other primitives
        return _compiled(seed, n)
