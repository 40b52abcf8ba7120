"""Primitives of our own: noise on an array, and draws by themselves.

To JAX both are opaque until a program is compiled; their rules tell it all that it knows of them.
Noise is linear and its own adjoint, and keeps only its operands for the backward pass, the address
and the scale. On a CPU they are lowered to the compiled kernel, elsewhere to the operations of
spec.py, and on several devices to a partition in which each draws its own part (sharding.py).
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad as _ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec as _PartitionSpec

from thinned.backends.jax import pallas, spec
from thinned.backends.jax.internals import jet_rules, no_tangent
from thinned.backends.jax.kernel import TYPES, kernel_draw, kernel_noise, runs_kernel
from thinned.backends.jax.sharding import (
    division_of,
    lowered_plainly,
    needs_devices,
    partitioned,
)

__all__ = ["How", "HowDrawn", "beside_p", "draw_p", "noise_p", "on_gradient_p"]

# Operands of both: `words`, uint32, shape (..., 9): seed_low, seed_high, site, step, call, and
# threshold and offset in two words each. The axes in front are those of a batch of addresses.


class How(NamedTuple):
    """What a noise is besides its operands: x, words, scale of words' leading axes, and, where the
    fill is an array, that.

    strides : index strides of x's axes behind those of the batch of addresses.
    law : "bernoulli", y = fill + scale m (x - fill); or "gaussian", y = x (1 + scale z).
    batch : number of leading axes of words.
    pure : whether the kernel is not to be used.
    multiple : what the offset is known to be a multiple of: spec.ALIGNED, 1, or 0 if it is 0.
    """

    strides: tuple[int, ...]
    law: str = "bernoulli"
    mirror: bool = False
    fill: float = 0.0
    batch: int = 0
    pure: bool = False
    multiple: int = 1

    @property
    def linear(self) -> How:
        return self._replace(fill=0.0)


class HowDrawn(NamedTuple):
    """What a draw is besides its words: its shape and index strides, without the axes of a batch of
    addresses; the law, "mask" (bool), "words" (uint32) or "gaussian" (float32); and, in a program
    whose types say how arrays are sharded, how."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    law: str
    mirror: bool = False
    batch: int = 0
    pure: bool = False
    sharding: Any = None
    multiple: int = 1


ad: Any = _ad  # which is typed in part
PartitionSpec: Any = _PartitionSpec  # which is not typed
noise_p: Any = Primitive("thinned_noise")
draw_p: Any = Primitive("thinned_draw")
on_gradient_p: Any = Primitive("thinned_on_gradient")
# A draw as it is, beside an array that the program shall go on taking: of an argument that nothing
# reads JAX keeps neither the array nor its mesh.
beside_p: Any = Primitive("thinned_beside")


# ------------------------------------------------------------------------------------------- types


@noise_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(x: Any, words: Any, scale: Any, *fill: Any, how: How) -> Any:
    return x.update(weak_type=False)


@on_gradient_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(x: Any, words: Any, scale: Any, how: How) -> Any:
    return x.update(weak_type=False)


@draw_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(words: Any, how: HowDrawn) -> Any:
    shape = (*words.shape[: how.batch], *how.shape)
    made = words.update(shape=shape, dtype=TYPES[how.law], weak_type=False)
    if how.sharding is None or how.batch:
        return made
    return made.update(sharding=how.sharding)


@beside_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(drawn: Any, like: Any) -> Any:
    return drawn


# ------------------------------------------------------------------------------------- derivatives


def _noise_jvp(primals: Any, tangents: Any, *, how: How) -> tuple[Any, Any]:
    words, scale = primals[1:3]
    dx, _, _, *dfill = tangents  # p and the address take no part in derivatives
    y = noise_p.bind(*primals, how=how)
    moved = [dx, *dfill]
    if all(type(d) is ad.Zero for d in moved):
        return y, no_tangent(y)
    dx, *dfill = (ad.instantiate_zeros(d) for d in moved)
    return y, noise_p.bind(dx, words, scale, *dfill, how=how.linear)


def _noise_transpose(ct: Any, x: Any, words: Any, scale: Any, *fill: Any, how: How) -> Any:
    nothing = [None, None, None, *(None for _ in fill)]
    if type(ct) is ad.Zero:
        return nothing
    dx = noise_p.bind(ct, words, scale, how=how.linear)
    if ad.is_undefined_primal(x):
        nothing[0] = dx
    if fill and ad.is_undefined_primal(fill[0]):
        nothing[3] = ct - dx
    return nothing


ad.primitive_jvps[noise_p] = _noise_jvp
ad.primitive_transposes[noise_p] = _noise_transpose


def _on_gradient_jvp(primals: Any, tangents: Any, *, how: How) -> tuple[Any, Any]:
    words, scale = primals[1:]
    y = on_gradient_p.bind(*primals, how=how)
    if type(tangents[0]) is ad.Zero:
        return y, no_tangent(y)
    return y, on_gradient_p.bind(tangents[0], words, scale, how=how)


def _on_gradient_transpose(ct: Any, x: Any, words: Any, scale: Any, how: How) -> Any:
    if type(ct) is ad.Zero:
        return [None, None, None]
    return [noise_p.bind(ct, words, scale, how=how), None, None]


ad.primitive_jvps[on_gradient_p] = _on_gradient_jvp
ad.primitive_transposes[on_gradient_p] = _on_gradient_transpose


def _draw_jvp(primals: Any, tangents: Any, *, how: HowDrawn) -> tuple[Any, Any]:
    y = draw_p.bind(*primals, how=how)
    return y, no_tangent(y)


def _beside_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    y = beside_p.bind(*primals)
    return y, no_tangent(y)


ad.primitive_jvps[draw_p] = _draw_jvp
ad.primitive_jvps[beside_p] = _beside_jvp


def _noise_terms(primitive: Any, primals: Any, series: Any, *, how: How) -> tuple[Any, Any]:
    """Of a Taylor series each term has the same noise, but for the fill."""
    words, scale = primals[1:3]
    y = primitive.bind(*primals, how=how)
    moved = zip(series[0], *series[3:], strict=True)
    linear = how.linear
    return y, [primitive.bind(dx, words, scale, *dfill, how=linear) for dx, *dfill in moved]


def _no_terms(primitive: Any, primals: Any, series: Any, **how: Any) -> tuple[Any, Any]:
    y = primitive.bind(*primals, **how)
    return y, [jnp.zeros_like(y)] * len(series[0])


jet_rules[noise_p] = partial(_noise_terms, noise_p)
jet_rules[on_gradient_p] = partial(_noise_terms, on_gradient_p)
jet_rules[draw_p] = partial(_no_terms, draw_p)


# ----------------------------------------------------------------------------------------- batches


def _batched(primitive: Any, args: Any, axes: Any, *, how: How) -> tuple[Any, int]:
    pairs = list(zip(args, axes, strict=True))
    size = next(x.shape[axis] for x, axis in pairs if axis is not None)
    # One mask for all of them, if only arrays are batched: no index advances along their axis.
    one_mask = axes[1] is None and axes[2] is None
    at = how.batch if one_mask else 0

    def put(x: Any, axis: Any) -> Any:
        if axis is not None:
            return jnp.moveaxis(x, axis, at)
        shape = (*x.shape[:at], size, *x.shape[at:])
        behind = tuple(k for k in range(len(shape)) if k != at)
        divided = _divided_as(pairs, x, at)
        if divided is None:
            return lax.broadcast_in_dim(x, shape, behind)
        # JAX 0.12 heeds a mesh that x does not have only where it is the mesh at hand.
        with jax.sharding.use_abstract_mesh(divided.mesh):
            return lax.broadcast_in_dim(x, shape, behind, out_sharding=divided)

    operands = [
        x if one_mask and i in (1, 2) else put(x, axis) for i, (x, axis) in enumerate(pairs)
    ]
    more = {"strides": (0, *how.strides)} if one_mask else {"batch": how.batch + 1}
    return primitive.bind(*operands, how=how._replace(**more)), at


def _divided_as(pairs: Any, x: Any, at: int) -> Any:
    """How x is divided once it has the mapped axis, at `at`, where that is divided over an explicit
    mesh in a program: all that is mapped over has to be divided alike. None where types do not say.
    """
    for other, axis in pairs:
        sharding: Any = jax.typeof(other).sharding
        if axis is not None and isinstance(other, jax.core.Tracer) and not sharding.mesh.empty:
            own = list(getattr(jax.typeof(x).sharding, "spec", ()) or (None,) * x.ndim)
            own.insert(at, sharding.spec[axis])
            return NamedSharding(sharding.mesh, PartitionSpec(*own))
    return None


def _draw_batched(args: Any, axes: Any, *, how: HowDrawn) -> tuple[Any, int]:
    words = jnp.moveaxis(args[0], axes[0], 0)
    return draw_p.bind(words, how=how._replace(batch=how.batch + 1)), 0


batching.primitive_batchers[noise_p] = partial(_batched, noise_p)
batching.primitive_batchers[on_gradient_p] = partial(_batched, on_gradient_p)


def _beside_batched(args: Any, axes: Any) -> tuple[Any, Any]:
    return beside_p.bind(*args), axes[0]


batching.primitive_batchers[draw_p] = _draw_batched
batching.primitive_batchers[beside_p] = _beside_batched


# ---------------------------------------------------------------------------------------- lowering


def _when_there_is(x: Any, words: Any) -> Any:
    """The same words, but not before x is there.

    Without that XLA would see that the forward and the backward pass draw one mask, and would
    keep it between them; or it would draw the masks of all layers at once, and keep them all. So
    the words depend on one element of x, by a zero that XLA does not know to be one: no square has
    its second bit set. An optimization barrier is not enough, because XLA removes it before it
    merges common parts for the last time.

    The zero comes from a reduction, because XLA repeats no reduction. It would repeat what x is
    computed from in everything that reads a word.
    """
    if not x.size:
        return words
    kind = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[x.dtype.itemsize]
    bits = lax.bitcast_convert_type(x.reshape(-1)[0], kind).astype(jnp.uint32)
    is_word = lax.broadcasted_iota(jnp.uint32, (2, *words.shape), 0) == 0
    zero = jnp.broadcast_to(bits * bits & np.uint32(2), is_word.shape)
    both = lax.select(is_word, jnp.broadcast_to(words, is_word.shape), zero)
    return lax.reduce(both, np.uint32(0), lax.bitwise_xor, (0,))


def _merged(operand: Any, batch: int) -> Any:
    """With its axes of a batch of addresses as one, where there are any."""
    if not batch:
        return operand
    return operand.reshape(math.prod(operand.shape[:batch]), *operand.shape[batch:])


def _pure_noise(*operands: Any, how: How) -> Any:
    x, words, scale, *fill = (_merged(operand, how.batch) for operand in operands)
    words = _when_there_is(x, words)
    return spec.noise(x, words, scale, fill[0] if fill else None, how).reshape(operands[0].shape)


def _pure_draw(words: Any, how: HowDrawn) -> Any:
    drawn = spec.draw(_merged(words, how.batch), how)
    return drawn.reshape(*words.shape[: how.batch], *how.shape)


def _is_for_export(ctx: Any) -> bool:
    """Whether the program is to be saved. jax.export saves operations of XLA and no call of ours:
    the program can be loaded without Thinned."""
    return bool(getattr(ctx.module_context.lowering_parameters, "for_export", False))


def _lowering(
    primitive: Any, pure: Any, kernel: Any, platform: str, ctx: Any, *operands: Any, how: Any
) -> Any:
    """kernel : what makes the whole primitive on this platform, or None."""
    division = "exported" if _is_for_export(ctx) else division_of(ctx)
    if division == "divided":
        function = partitioned(primitive, how, len(operands))
    elif division in ("alone", "whole") and kernel is not None and not how.pure and runs_kernel():
        function = partial(kernel, how=how)
    else:
        function = _traced_once(pure, how, _keep_bits(platform, division in ("alone", "whole")))
    if division == "divided":
        divided = [
            jax.core.ShapedArray(a.shape, a.dtype, sharding=a.sharding) for a in ctx.avals_in
        ]
        lower = mlir.lower_fun(function, multiple_results=False)
        return lower(ctx.replace(avals_in=divided), *operands)
    return lowered_plainly(function, ctx, *operands)


BY_PALLAS = {name: partial(pallas.decided, platform=name) for name in pallas.PLATFORMS}


def _keep_bits(platform: str, is_whole: bool) -> Any:
    """The function that decides the lanes of blocks on a platform."""
    if platform in BY_PALLAS and is_whole and pallas.is_wanted():
        return BY_PALLAS[platform]
    return spec.decided


@lru_cache(maxsize=4096)
def _traced_once(pure: Any, how: Any, keep_bits: Any) -> Any:
    """The operations as a function that a program has once for all sites of one shape."""

    @jax.jit
    def drawn(*operands: Any) -> Any:
        before = spec.keep_bits.set(keep_bits)
        try:
            return pure(*operands, how=how)
        finally:
            spec.keep_bits.reset(before)

    return drawn


def _same(ctx: Any, x: Any, words: Any, scale: Any, *, how: How) -> Any:
    return [x]


mlir.register_lowering(on_gradient_p, _same)
mlir.register_lowering(beside_p, lambda ctx, drawn, like: [drawn])
beside_p.def_impl(lambda drawn, like: drawn)
for _primitive, _pure, _kernel in (
    (noise_p, _pure_noise, kernel_noise),
    (draw_p, _pure_draw, kernel_draw),
):
    mlir.register_lowering(_primitive, partial(_lowering, _primitive, _pure, None, "any"))
    for _platform, _whole in (("cpu", _kernel), *((name, None) for name in pallas.PLATFORMS)):
        _rule = partial(_lowering, _primitive, _pure, _whole, _platform)
        mlir.register_lowering(_primitive, _rule, platform=_platform)


def _where_known(operands: Any, how: Any) -> Any:
    """Outside of a program an explicit mesh is known from jax.set_mesh or from an operand. From an
    array's type alone its devices are not: the draw is then made on one, and goes from there."""
    if not isinstance(how, HowDrawn) or how.sharding is None:
        return how
    known = (jax.sharding.get_abstract_mesh(), jax.typeof(operands[0]).sharding.mesh)
    return how._replace(sharding=None) if all(mesh.empty for mesh in known) else how


def _eagerly(primitive: Any) -> None:
    @partial(jax.jit, static_argnames="how")
    def compiled(*operands: Any, how: Any) -> Any:
        return primitive.bind(*operands, how=how)

    def run(*operands: Any, how: Any) -> Any:
        how = _where_known(operands, how)
        # Without compiling, a primitive has no values: under jax.disable_jit, too, it is compiled.
        with jax.disable_jit(False):
            return compiled(*operands, how=how)

    primitive.def_impl(run)


for _primitive in (noise_p, draw_p, on_gradient_p):
    _eagerly(_primitive)
for _primitive in (noise_p, draw_p):
    needs_devices(_primitive)
