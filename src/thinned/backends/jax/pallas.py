"""Keep bits by one Pallas kernel, for TPUs and GPUs: the same bits as spec.py's, as packed words.

The draw is what costs. Unpacking, scaling and selecting are pointwise, and XLA fuses them with
their neighbours. So the kernel makes words alone, an eighth of a byte for each element. It takes
blocks of any numbers, so that windows, shared axes and rows need no other kernel. A program of the
grid draws plane after plane for the blocks of its tile, and stops with the first plane after which
no lane is open.

Its bits are tested in Pallas's interpreter, and it is lowered for both platforms, but it has not
run on a device: THINNED_PALLAS=1 asks for it, and without that spec.py's operations run there.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.backends.jax import spec

__all__ = ["PLATFORMS", "decided", "is_wanted"]

# Blocks in a tile. A vector of a TPU holds 8 x 128 words; on a GPU one warp goes through 32 blocks,
# whose lanes are decided some planes sooner than those of many warps.
TILES = {"tpu": (8, 128), "cuda": (1, 32), "cpu": (1, 32)}
PLATFORMS = ("tpu", "cuda")  # and "cpu", in Pallas's interpreter, for tests alone


def is_wanted() -> bool:
    """Whether THINNED_PALLAS asks for the kernel. ValueError for anything but 0 and 1."""
    asked = os.environ.get("THINNED_PALLAS", "").strip()
    if asked not in ("", "0", "1"):
        raise ValueError(
            f"thinned: THINNED_PALLAS must be 1, for the Pallas kernel on TPUs and GPUs, or 0, for "
            f"operations of XLA, got {asked!r}."
        )
    return asked == "1"


def decided(at: Any, numbers: Any, threshold: tuple[Any, Any], mirror: bool, platform: str) -> Any:
    """Keep bits of blocks with these numbers: uint32, shape (4, blocks), as spec.decided."""
    if at.ndim > 1:
        over = jax.vmap(
            partial(decided, mirror=mirror, platform=platform),
            in_axes=(1, 0 if numbers.ndim > 2 else None, 0),
            out_axes=1,
        )
        return over(at, numbers, threshold).reshape(4, -1)
    numbers = numbers.reshape(-1)
    low, high = numbers.astype(jnp.uint32), (numbers >> np.uint64(32)).astype(jnp.uint32)
    with jax.enable_x64(False):  # no 64-bit type may reach the kernel
        return _tiled(at, low, high, threshold, mirror, platform)


def _tiled(
    at: Any, low: Any, high: Any, threshold: tuple[Any, Any], mirror: bool, platform: str
) -> Any:
    t, whole = threshold
    rows, columns = TILES[platform]
    count = low.size
    tiles = -(-count // (rows * columns))
    shape = (tiles * rows, columns)

    def tiled(numbers: Any) -> Any:
        return jnp.pad(numbers, (0, shape[0] * columns - count)).reshape(shape)

    scalars = jnp.stack([*at, t, jnp.asarray(spec.planes(t), jnp.uint32)]).reshape(1, -1)
    below = _call(platform, tiles, scalars.shape)(scalars, tiled(low), tiled(high), mirror=mirror)
    return ~(below.reshape(4, -1)[:, :count] | (np.uint32(0) - whole))


def _call(platform: str, tiles: int, scalars: tuple[int, ...]) -> Any:
    """The kernel for a platform: on TPUs its scalars lie in the memory for them."""
    from jax.experimental import pallas as pl  # half a second to import, and seldom needed

    rows, columns = TILES[platform]
    options: dict[str, Any] = {"interpret": platform == "cpu"}
    memory: dict[str, Any] = {}
    if platform == "tpu":
        from jax.experimental.pallas import tpu

        memory["memory_space"] = tpu.SMEM
    elif platform == "cuda":
        from jax.experimental.pallas import triton

        options["compiler_params"] = triton.CompilerParams(num_warps=1, num_stages=1)
    struct: Any = jax.ShapeDtypeStruct
    tile = pl.BlockSpec((rows, columns), lambda i: (i, 0))

    def run(*operands: Any, mirror: bool) -> Any:
        return pl.pallas_call(
            # The interpreter's programs are compiled for a CPU, which takes minutes for rounds
            # written out.
            partial(_kernel, mirror=mirror, unroll=platform != "cpu"),
            out_shape=struct((4, tiles * rows, columns), jnp.uint32),
            grid=(tiles,),
            in_specs=[pl.BlockSpec(scalars, lambda i: (0, 0), **memory), tile, tile],
            out_specs=pl.BlockSpec((4, rows, columns), lambda i: (0, i, 0)),
            name="thinned_keep",
            **options,
        )(*operands)

    return run


def _kernel(scalars: Any, low: Any, high: Any, out: Any, *, mirror: bool, unroll: bool) -> None:
    """The lanes below the threshold of the blocks of one tile."""
    *at, t, planes = (scalars[0, i] for i in range(7))
    b_low, b_high = low[...], high[...]
    flip = np.uint32(0xFFFFFFFF if mirror else 0)
    nothing = b_low ^ b_low

    def undecided(state: Any) -> Any:
        j, _, open_ = state
        left = open_[0] | open_[1] | open_[2] | open_[3]
        # As integers: not every platform reduces booleans.
        return (j < planes.astype(jnp.int32)) & (jnp.max((left != 0).astype(jnp.int32)) > 0)

    def compare(state: Any) -> Any:
        j, below, open_ = state
        words = spec.block(tuple(at), b_low, b_high, j.astype(jnp.uint32), unroll=unroll)
        ones = np.uint32(0) - (t >> (31 - j).astype(jnp.uint32) & np.uint32(1))
        bits = [word ^ flip for word in words]
        below = tuple(b | o & ~w & ones for b, o, w in zip(below, open_, bits, strict=True))
        open_ = tuple(o & ~(w ^ ones) for o, w in zip(open_, bits, strict=True))
        return j + 1, below, open_

    state = jnp.int32(0), (nothing,) * 4, (~nothing,) * 4
    _, below, _ = lax.while_loop(undecided, compare, state)
    for i in range(4):
        out[i, ...] = below[i]
