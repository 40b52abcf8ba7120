"""How the kernels of attention are called: in groups of heads whose words fit into a cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.backends.base import Draw
from thinned.backends.torch.kernel import placed
from thinned.backends.torch.triton import words
from thinned.backends.torch.triton.attention import (
    ADDED,
    BOOLEAN,
    NO_MASK,
    forward,
    keys_backward,
    rows_backward,
)
from thinned.backends.torch.triton.launch import _on, mask_words

__all__ = ["Tile", "attend", "gradients", "precision_of", "tile_of"]

# Bytes of the packed words of a group of heads. They are written and read again at once, from the
# device's second cache.
AT_A_TIME = 2**25

# Heads of a group: they lie along axis 1 of the grid, which has no more.
MOST_HEADS = 2**16 - 1

# Scores and their logarithms are in base 2, which devices are quicker in.
TO_BASE_2 = 1.0 / math.log(2.0)


class Tile(NamedTuple):
    """Rows and keys of a program, its warps, and how many tiles are loaded ahead."""

    rows: int
    columns: int
    warps: int
    stages: int


# By kernel and width of a head: without a mask, and with one, whose elements are loaded as well.
# Each is the largest that was found without a stack on sm_80 and sm_90, and fits into the shared
# memory of both. None was timed.
_Tiles = dict[str, dict[int, tuple[Tile, Tile]]]
_TILES: _Tiles = {
    "forward": {
        64: (Tile(128, 64, 8, 3), Tile(64, 64, 8, 2)),
        128: (Tile(128, 64, 8, 3), Tile(64, 32, 8, 2)),
        256: (Tile(64, 32, 8, 2), Tile(32, 32, 8, 1)),
    },
    "keys": {
        32: (Tile(64, 64, 4, 2), Tile(64, 64, 4, 2)),
        64: (Tile(64, 64, 4, 2), Tile(32, 32, 4, 2)),
        128: (Tile(32, 64, 8, 2), Tile(32, 64, 8, 2)),
        256: (Tile(32, 32, 8, 1), Tile(32, 32, 8, 1)),
    },
    "rows": {
        32: (Tile(64, 64, 4, 2), Tile(64, 64, 8, 2)),
        64: (Tile(64, 64, 4, 2), Tile(32, 64, 4, 2)),
        128: (Tile(64, 64, 8, 2), Tile(64, 64, 8, 2)),
        256: (Tile(32, 32, 8, 1), Tile(32, 32, 8, 1)),
    },
}
# The same for gfx942, where they differ: a warp has 64 threads, so that half the warps have as
# many, and programs have 64 kB of shared memory.
_TILES_OF_AMD: _Tiles = {
    "forward": {
        64: (Tile(128, 64, 8, 3), Tile(64, 64, 4, 2)),
        128: (Tile(128, 64, 8, 2), Tile(64, 32, 8, 2)),
    },
    "keys": {
        128: (Tile(32, 64, 4, 2), Tile(64, 32, 4, 2)),
        256: (Tile(32, 32, 4, 1), Tile(32, 32, 4, 1)),
    },
    "rows": {
        32: (Tile(64, 64, 4, 2), Tile(64, 64, 4, 2)),
        128: (Tile(64, 64, 4, 2), Tile(64, 64, 4, 2)),
        256: (Tile(32, 32, 4, 1), Tile(32, 32, 4, 1)),
    },
}


def tile_of(which: str, width: int, masked: bool, amd: bool | None = None) -> Tile:
    """Of the kernel "forward", "keys" or "rows", for heads of at most `width` elements.

    amd : whether the device is AMD's; None for what this PyTorch was built for.
    """
    tiles = _TILES[which]
    if torch.version.hip is not None if amd is None else amd:
        tiles = tiles | _TILES_OF_AMD[which]
    return tiles[min(n for n in tiles if n >= width)][masked]


class _Heads(NamedTuple):
    """A group: `samples` samples of `heads` heads each, from (sample, head) on."""

    sample: int
    head: int
    samples: int
    heads: int

    @property
    def number(self) -> int:
        return self.samples * self.heads


def _groups(shape: tuple[int, ...]) -> Iterator[_Heads]:
    """Those of weights of `shape`: whole samples, or some heads of one."""
    samples, heads, length, width = shape
    # One head is there at least, however long: 2^16 rows and keys are half a gigabyte of words.
    most = max(1, min(MOST_HEADS, AT_A_TIME // max(1, 16 * length * -(-width // 128))))
    several, some = max(1, most // max(1, heads)), min(most, heads)
    for b in range(0, samples, several):
        n = min(several, samples - b)
        for h in range(0, heads, some):
            yield _Heads(b, h, n, min(some, heads - h))


def _words(draw: Draw, group: _Heads, device: torch.device) -> Tensor:
    at, threshold, where, mirror = draw
    *_, length, width = where.shape
    strides = where.strides
    offset = where.offset + group.sample * strides[0] + group.head * strides[1]
    part = placed((group.samples, group.heads, length, width), offset, strides)
    of_group = Draw(at, threshold, part, mirror)
    return mask_words(part, words.told(of_group), device, live=words.step_of(of_group))


def _steps(x: Tensor) -> tuple[int, ...]:
    return x.stride()[:3]


def _mask_of(mask: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> tuple[int, Tensor, Any]:
    """Its kind, its memory, and its steps along the four axes of the weights."""
    if mask is None:
        return NO_MASK, like, (0, 0, 0, 0)
    whole = mask.expand(shape)
    if mask.dtype == torch.bool:
        return BOOLEAN, mask.view(torch.uint8), whole.stride()
    return ADDED, mask, whole.stride()


def _power(n: int) -> int:
    """At least the least that a matrix product takes."""
    return max(16, 1 << (n - 1).bit_length())


def precision_of(dtype: torch.dtype) -> str:
    """How products are made: of binary32 exactly, which only tests ask for."""
    return "ieee" if dtype == torch.float32 else "tf32"


def _launch(which: str, q: Tensor, v: Tensor, kind: int, causal: bool) -> dict[str, Any]:
    width, values = q.shape[-1], v.shape[-1]
    d, dv = _power(width), _power(values)
    tile = tile_of(which, max(d, dv), kind != NO_MASK)
    return {
        "E": width, "V": values, "D": d, "DV": dv, "ROWS": tile.rows, "COLUMNS": tile.columns,
        "MASK": kind, "CAUSAL": causal, "PRECISION": precision_of(q.dtype),
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    out: Tensor,
    draw: Draw,
    times: float,
    scale: float,
    causal: bool,
) -> Tensor:
    """Attention into `out`, and what `gradients` needs of it: (samples, heads, rows), binary32.

    q and out : (samples, heads, L, ...), k and v : (samples, heads / n, S, ...); last axes step by
    1. draw.place : of the weights. times : of kept ones.
    """
    (samples, heads, length, _), keys = q.shape, k.shape[-2]
    shape = (samples, heads, length, keys)
    lse = torch.empty(shape[:3], dtype=torch.float32, device=q.device)
    kind, given, steps = _mask_of(mask, q, shape)
    how = _launch("forward", q, v, kind, causal)
    with _on(q):
        for group in _groups(shape):
            bits = _words(draw, group, q.device)
            forward[(-(-length // how["ROWS"]), group.number)](
                q, k, v, out, lse, given, bits,
                *_steps(q), *_steps(k), *_steps(v), *_steps(out), *steps,
                group.sample, group.head, group.heads, heads, heads // k.shape[1],
                length, keys, bits.shape[-1], scale * TO_BASE_2, times, **how,
            )  # fmt: skip
    return lse


def gradients(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    draw: Draw,
    times: float,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv. The words are drawn again."""
    (samples, heads, length, width), (_, shared, keys, values) = q.shape, v.shape
    shape = (samples, heads, length, keys)
    delta = (g.float() * out.float()).sum(-1) / times
    dq = torch.empty_like(q)
    dk = q.new_empty((samples, heads, keys, width))
    dv = q.new_empty((samples, heads, keys, values))
    kind, given, steps = _mask_of(mask, q, shape)
    of_keys, of_rows = (_launch(which, q, v, kind, causal) for which in ("keys", "rows"))
    arrays = (*_steps(q), *_steps(k), *_steps(v), *_steps(g), *steps)
    with _on(q):
        for group in _groups(shape):
            bits = _words(draw, group, q.device)
            which = (
                group.sample, group.head, group.heads, heads, heads // shared, length, keys,
                bits.shape[-1], scale * TO_BASE_2,
            )  # fmt: skip
            inputs = (q, k, v, g, lse, delta, given, bits)
            keys_backward[(-(-keys // of_keys["COLUMNS"]), group.number)](
                *inputs, dk, dv, *arrays, *which, times, scale * times, **of_keys
            )
            rows_backward[(-(-length // of_rows["ROWS"]), group.number)](
                *inputs, dq, *arrays, *_steps(dq), *which, scale * times, **of_rows
            )
    if shared != heads:
        dk, dv = (x.unflatten(1, (shared, -1)).sum(2) for x in (dk, dv))
    return dq, dk, dv
