"""Attention with dropout on its weights, some rows of the weights at a time.

A block holds whole rows, so that its softmax is the plain one. Each is made again in the backward
pass: what is kept between the passes is what came in, and nothing of the weights' size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.backends.base import Draw
from thinned.backends.jax import spec
from thinned.backends.jax.address import Halves
from thinned.backends.jax.backend import JaxPlace, backend
from thinned.window import Placement

__all__ = ["Inputs", "Plan", "attend"]

# Most elements and rows of a block, and fewest rows: large enough for products to run at full
# speed, small beside all weights, and with enough rows for each reading of the keys.
MOST, ROWS, FEWEST = 2**22, 128, 8


class Inputs(NamedTuple):
    """q (B, T, N, H), k (B, S, K, H), v (B, S, K, V); bias and mask of four axes that broadcast to
    (B, N, T, S), or None; how many tokens of q and of k take part, (B,) each, or None."""

    q: Any
    k: Any
    v: Any
    bias: Any = None
    mask: Any = None
    q_lengths: Any = None
    kv_lengths: Any = None


class Plan(NamedTuple):
    """What is done with the inputs besides.

    draw : Draw of the whole weights, (B, N, T, S), or None. times : what kept weights are
    multiplied with. scale : of the scores. near : how many tokens to the left and to the right may
    be seen, or None. residual : whether the logarithm of the softmax's sum is asked for.
    """

    draw: Draw | None
    times: Any
    scale: float
    is_causal: bool = False
    near: tuple[int, int] | None = None
    precision: Any = None
    residual: bool = False


def attend(given: Inputs, plan: Plan) -> tuple[Any, Any]:
    """Attention's output, (B, T, N, V) of k's type, and the residual, (B, T, N), or None."""
    length = given.q.shape[1]
    rows = _rows(given)
    if rows is None or rows >= length:
        return _block(given, plan, 0)
    count = length // rows
    whole = count * rows

    several = given.bias is not None and given.bias.shape[2] > 1

    def step(_: None, part: Any) -> tuple[None, Any]:
        number, q, bias = part
        own = given._replace(q=q, bias=bias if several else given.bias)
        return None, _block(own, plan, number * np.uint32(rows))

    parts = (
        jnp.arange(count, dtype=jnp.uint32),
        _cut(given.q[:, :whole], 1, count),
        _cut(given.bias[:, :, :whole], 2, count) if several else None,
    )
    made = lax.scan(step, None, parts)[1]
    out, residual = jax.tree.map(lambda blocks: _joined(blocks, 1), made)
    if whole == length:
        return out, residual
    rest = given._replace(
        q=given.q[:, whole:], bias=given.bias[:, :, whole:] if several else given.bias
    )
    last = _block(rest, plan, whole)
    made = jax.tree.map(lambda *two: jnp.concatenate(two, 1), (out, residual), last)
    return made[0], made[1]


def _rows(given: Inputs) -> Any:
    """Of a block; None for all of them, where lengths are symbols."""
    (batch, length, heads, _), width = given.q.shape, given.k.shape[1]
    if spec.has_symbols((batch, length, heads, width)):
        return None
    row = max(1, batch * heads * width)
    most = max(FEWEST, min(ROWS, MOST // row))
    # In as many blocks, but of equal size where that is possible.
    even = -(-length // max(1, -(-length // most)))
    return even if even and length % even == 0 else most


def _cut(x: Any, axis: int, count: int) -> Any:
    """Along an axis into `count` parts, which then lie along the first."""
    shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def _joined(blocks: Any, axis: int) -> Any:
    back = jnp.moveaxis(blocks, 0, axis)
    return back.reshape(*back.shape[:axis], -1, *back.shape[axis + 2 :])


def _block(given: Inputs, plan: Plan, start: Any) -> tuple[Any, Any]:
    """The rows from `start` on, of which q and bias hold theirs alone."""

    def one(q: Any, k: Any, v: Any, bias: Any) -> tuple[Any, Any]:
        return _rows_of(given._replace(q=q, k=k, v=v, bias=bias), plan, start)

    # In a loop nothing could be merged with the backward pass's, so that no barrier is needed.
    in_loop = isinstance(start, jax.core.Tracer)
    made: tuple[Any, Any] = jax.checkpoint(one, prevent_cse=not in_loop)(
        given.q, given.k, given.v, given.bias
    )
    return made


def _rows_of(given: Inputs, plan: Plan, start: Any) -> tuple[Any, Any]:
    q, k, v = given[:3]
    batch, rows, heads, depth = q.shape
    groups = k.shape[2]
    kind = jnp.promote_types(q.dtype, jnp.float32)
    q = q.reshape(batch, rows, groups, heads // groups, depth)
    scores = jnp.einsum(
        "btkgh,bskh->bkgts", q, k, precision=plan.precision, preferred_element_type=kind
    )
    scores = scores.reshape(batch, heads, rows, k.shape[1]) * jnp.asarray(plan.scale, kind)
    if given.bias is not None:
        scores = (scores + given.bias).astype(kind)
    seen = _seen(given, plan, start, rows)
    if seen is not None:
        scores = jnp.where(seen, scores, _least(kind))
    weights = jax.nn.softmax(scores, -1)
    if plan.draw is not None:
        draw = plan.draw._replace(place=_part(plan.draw.place, start, weights.shape))
        weights = backend.apply(weights, draw, plan.times, 0.0, None)
    weights = weights.astype(k.dtype).reshape(batch, groups, heads // groups, rows, -1)
    out = jnp.einsum("bkgts,bskh->btkgh", weights, v, precision=plan.precision)
    out = out.reshape(batch, rows, heads, v.shape[-1])
    if given.q_lengths is not None:
        out = jnp.where(_before(given.q_lengths, start, rows)[:, :, None, None], out, 0)
    residual = None
    if plan.residual:
        sums = jax.nn.logsumexp(lax.stop_gradient(scores), -1)
        residual = jnp.moveaxis(sums, 1, 2).astype(k.dtype)
    return out, residual


def _least(kind: Any) -> Any:
    """What jax.nn puts for scores that take no part: a row without any others is even."""
    return jnp.asarray(-0.7 * float(np.finfo(np.float32).max), kind)


def _before(lengths: Any, start: Any, count: int) -> Any:
    """Which of `count` tokens from `start` on are there, (B, count)."""
    return (jnp.arange(count) + jnp.asarray(start, jnp.int32))[None] < lengths[:, None]


def _seen(given: Inputs, plan: Plan, start: Any, rows: int) -> Any:
    """Which keys take part for which rows, of four axes; None for all."""
    width = given.k.shape[1]
    found = []
    if given.mask is not None:
        mask = given.mask
        if mask.shape[2] > 1:
            mask = lax.dynamic_slice_in_dim(mask, jnp.asarray(start, jnp.int32), rows, 2)
        found.append(mask)
    row = (jnp.arange(rows) + jnp.asarray(start, jnp.int32))[:, None]
    column = jnp.arange(width)[None]
    if plan.is_causal:
        found.append((column <= row)[None, None])
    if plan.near is not None:
        left, right = plan.near
        found.append(((row <= column + left) & (row >= column - right))[None, None])
    if given.q_lengths is not None:
        found.append(_before(given.q_lengths, start, rows)[:, None, :, None])
    if given.kv_lengths is not None:
        found.append(_before(given.kv_lengths, 0, width)[:, None, None])
    if not found:
        return None
    seen = found[0]
    for other in found[1:]:
        seen = seen & other
    return seen


def _part(place: Any, start: Any, shape: tuple[int, ...]) -> Any:
    """The place of the rows from `start` on, of weights of this place."""
    if type(start) is int and start == 0 and tuple(place.shape) == shape:
        return place
    if isinstance(place, JaxPlace):
        strides, (low, high) = place.placed.strides, place.offset
    else:
        strides = place.strides
        low, high = place.offset & (2**32 - 1), place.offset >> 32
    if strides[2]:
        first, second = jnp.asarray(low, jnp.uint32), jnp.asarray(high, jnp.uint32)
        low, high = spec.offset_plus(first, second, jnp.asarray(start, jnp.uint32), strides[2])
    return JaxPlace(Placement(shape, 0, strides, False, strides), Halves(low, high))
