"""Programs for several devices: each draws its own part of the mask, and nothing is sent.

Left alone, the compiler would make every device draw the whole mask: it cannot know that a part can
be drawn from its place alone. So in a program for several devices the primitives are lowered to a
partition of our own. Each device runs the same primitive on its part of x, with the offset of that
part.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec as _PartitionSpec

from thinned.backends.jax.internals import needing_devices
from thinned.backends.jax.spec import offset_plus

PartitionSpec: Any = _PartitionSpec  # which is not typed

__all__ = ["division_of", "lowered_plainly", "needs_devices", "partitioned"]


def needs_devices(primitive: Any) -> None:
    """Say that a primitive is lowered to a partition, for which the devices must be known."""
    needing_devices.add(primitive)


def division_of(ctx: Any) -> str:
    """How the program that is lowered is divided among devices: "alone", there is one device;
    "whole", this is the body of a shard_map over all axes; "divided", the compiler will see to it;
    "mixed", the body of a shard_map over some axes, inside of which it names no device."""
    axes = ctx.module_context.axis_context
    manual = getattr(axes, "manual_axes", None)
    if manual is None:
        return "divided" if int(getattr(axes, "num_devices", 1) or 1) > 1 else "alone"
    if set(manual) == set(axes.mesh.axis_names) or axes.mesh.size == 1:
        return "whole"
    return "mixed" if manual else "divided"


def lowered_plainly(function: Any, ctx: Any, *operands: Any) -> Any:
    """What a function lowers to where types say nothing of devices.

    A mesh that jax.set_mesh set, or variance over its axes, would require loops and reshapes to say
    how each array is divided, which means nothing for one device's part. The kind of device
    stays known.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    with jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        plain = [jax.core.ShapedArray(a.shape, a.dtype) for a in ctx.avals_in]
        lower = mlir.lower_fun(function, multiple_results=False)
        return lower(ctx.replace(avals_in=plain), *operands)


# A function of one device's parts, which is lowered plainly.
_of_parts_p: Any = Primitive("thinned_of_parts")


@_of_parts_p.def_abstract_eval  # type: ignore[untyped-decorator]  # JAX: no types
def _(*parts: Any, function: Any, made: Any) -> Any:
    return jax.core.ShapedArray(*made)


def _lowered_parts(ctx: Any, *parts: Any, function: Any, made: Any) -> Any:
    return lowered_plainly(function, ctx, *parts)


mlir.register_lowering(_of_parts_p, _lowered_parts)


class Division(NamedTuple):
    """How a sharding divides the axes of an array: the number of parts, and the parts that each
    device holds, in the order of the program's own numbers of devices."""

    mesh: Mesh
    parts: tuple[int, ...]
    held: Any  # int32, shape (devices, axes)

    def lengths(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of a device's part; the last ones may be padded."""
        return tuple(-(-n // k) for n, k in zip(shape, self.parts, strict=True))

    def starts(self, lengths: tuple[int, ...]) -> list[Any]:
        """Where this device's part begins along each axis; None where every device holds the
        whole."""
        mine = jnp.asarray(self.held)[lax.axis_index(self.mesh.axis_names[0])]
        return [
            mine[axis].astype(jnp.uint32) * np.uint32(n) if k > 1 else None
            for axis, (n, k) in enumerate(zip(lengths, self.parts, strict=True))
        ]


def _division(sharding: Any, ndim: int) -> Division:
    """Of any kind of sharding: the compiler names a mesh only where the program's arguments do."""
    count = len(sharding.device_set)
    # With this many elements along each axis no part is empty, and all are equally long.
    slices = sharding.devices_indices_map((count,) * ndim)
    bounds = np.array(
        [
            [(s.start or 0, count if s.stop is None else s.stop) for s in of]
            for of in slices.values()
        ],
        np.int32,
    ).reshape(len(slices), ndim, 2)
    length = bounds[:, :, 1] - bounds[:, :, 0]
    mesh = Mesh(np.array(list(slices)), ("device",))
    return Division(mesh, tuple(int(count // n) for n in length[0]), bounds[:, :, 0] // length)


def _moved(words: Any, starts: list[Any], strides: tuple[int, ...]) -> Any:
    """Words with the offset of the part that begins there."""
    low, high = words[..., 7], words[..., 8]
    for start, stride in zip(starts, strides, strict=True):
        if start is not None and stride:
            low, high = offset_plus(low, high, start, stride)
    return jnp.concatenate([words[..., :7], low[..., None], high[..., None]], -1)


@lru_cache(maxsize=4096)
def partitioned(primitive: Any, how: Any, operands: int) -> Any:
    """The primitive as a function that the compiler divides among devices by these rules."""
    is_draw = operands == 1
    batch = how.batch
    ndim = batch + len(how.strides)
    local_how = how._replace(sharding=None) if is_draw else how

    @custom_partitioning
    def whole(*args: Any) -> Any:
        return primitive.bind(*args, how=how)

    def partition(mesh: Any, args: Any, result: Any) -> Any:
        sharding = result.sharding
        if not is_draw and sharding.is_fully_replicated:  # no division is required: x's own
            sharding = args[0].sharding
        division = _division(sharding, ndim)
        spec = getattr(sharding, "spec", None)
        named = spec is not None or not batch
        of_words = NamedSharding(division.mesh, PartitionSpec())
        if batch and spec is not None:
            of_words = NamedSharding(sharding.mesh, PartitionSpec(*spec[:batch]))
        shape = result.shape
        lengths = division.lengths(shape)

        def here(*parts: Any) -> Any:
            starts = division.starts(lengths)
            *front, words = parts[:1] if is_draw else parts[:2]
            rest = parts[2:]
            if not named:  # whole, of all addresses
                words, *some = (_part(a, starts[:batch], lengths) for a in (words, *rest[:1]))
                rest = (*some, *rest[1:])
            words = _moved(words, starts[batch:], how.strides)
            steps = (
                n * stride
                for start, n, stride in zip(
                    starts, lengths, (0,) * batch + how.strides, strict=True
                )
                if start is not None
            )
            mine = local_how._replace(multiple=math.gcd(how.multiple, *steps))
            mine = mine._replace(shape=lengths[batch:]) if is_draw else mine
            return primitive.bind(*front, words, *rest, how=mine)

        def local(*parts: Any) -> Any:
            return _of_parts_p.bind(*parts, function=here, made=(lengths, result.dtype))

        taken = (of_words,) if is_draw else (sharding, of_words, of_words, sharding)[:operands]
        return division.mesh, local, sharding, taken

    def infer(mesh: Any, args: Any, result: Any) -> Any:
        sharding = args[0].sharding
        if not is_draw:
            return sharding
        spec = tuple(getattr(sharding, "spec", ()))[:batch]
        return NamedSharding(mesh, PartitionSpec(*spec))

    axes = [f"i{k}" for k in range(ndim)]
    every, some = " ".join(axes), " ".join(axes[:batch])
    taken = [f"{some} w"] if is_draw else [every, f"{some} w", some, every][:operands]
    whole.def_partition(  # type: ignore[no-untyped-call]
        partition,
        infer_sharding_from_operands=infer,
        sharding_rule=f"{', '.join(taken)} -> {every}",
        need_replication_factors=("w",),
    )
    return whole


def _part(array: Any, starts: list[Any], lengths: tuple[int, ...]) -> Any:
    """The part of an array that begins there along its leading axes, and is as long."""
    for axis, start in enumerate(starts):
        if start is not None:
            array = lax.dynamic_slice_in_dim(array, start.astype(jnp.int32), lengths[axis], axis)
    return array
