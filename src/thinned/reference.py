"""The mask spec in plain NumPy, plane by plane: the authority every kernel is tested against.

Read beside docs/mask-spec.md; each function here is one of its paragraphs. The one concession to
speed is that work goes through the cache in chunks; the comparison itself is as the page has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.philox import MASK32, fold_in, key_of, philox
from thinned.window import Placement

__all__ = [
    "apply",
    "apply_gaussian",
    "fold_in",
    "gaussian",
    "indices",
    "keep",
    "keep_at",
    "keep_k_of_n",
    "keep_range",
    "philox",
    "scale_for",
    "threshold",
    "uniform24",
    "uniform32",
    "words",
    "words_at",
]

LANES = 128  # elements to a block
WORD_TAG = 32
MAX_BLOCKS = 2**40
MAX_ELEMENTS = MAX_BLOCKS * LANES

# Blocks that go through Philox together: a few uint64 arrays of this length fit a 1 MB cache.
CHUNK = 4096


# ---------------------------------------------------------------------------------------- generator


def _blocks(at: Address, b: NDArray[np.uint64], tag: int | NDArray[np.uint64]) -> Any:
    """Blocks number `b` with `tag` (both broadcast): uint64 words, shape (4, ...)."""
    counter = (b & MASK32, (b >> 32) | at.call << 8 | tag << 24, at.site, at.step)
    return philox(counter, key_of(at.seed))


# ---------------------------------------------------------------------------------- Bernoulli draws


def threshold(p: float) -> int:
    """round-half-to-even(p * 2^32): element i is dropped where its uniform lies below.

    The product is exact in binary64 (a power of two), and Python's round goes half to even.
    """
    return round(p * 2**32)


def _plane(at: Address, b: NDArray[np.uint64], j: int, mirror: bool) -> NDArray[np.uint32]:
    """Plane j of blocks `b`: the bits of weight 2^(31 - j), packed 32 to a word, shape (n, 4)."""
    out = np.empty((b.size, 4), np.uint32)
    for k, word in enumerate(_blocks(at, b, j)):
        out[:, k] = word
    return ~out if mirror else out  # the bits of 2^32 - 1 - u are the bits of u, each flipped


def _decide(at: Address, b: NDArray[np.uint64], t: int, mirror: bool) -> NDArray[np.uint32]:
    """Keep bits of blocks `b` at a threshold strictly between its ends: uint32, shape (n, 4).

    u < t is compared from the most significant plane on. A lane is open while its bits equal t's.
    Where t has a 1 and the lane a 0, the lane is below and dropped; where t has a 0 and the lane a
    1, it is above and kept. Under the lowest set bit of t nothing can fall below any more: who is
    still open there has u >= t and is kept.
    """
    lowest = 31 - ((t & -t).bit_length() - 1)  # the plane of the lowest set bit
    dropped = np.zeros((b.size, 4), np.uint32)
    open_ = np.full((b.size, 4), 0xFFFFFFFF, np.uint32)
    rows = np.arange(b.size)  # blocks with an open lane
    for j in range(lowest + 1):
        bits = _plane(at, b[rows], j, mirror)
        if t >> (31 - j) & 1:
            dropped[rows] |= open_[rows] & ~bits
            open_[rows] &= bits
        else:
            open_[rows] &= ~bits
        rows = rows[open_[rows].any(axis=1)]
        if not rows.size:
            break
    return ~dropped


def _keep_bits(at: Address, b: NDArray[np.uint64], t: int, mirror: bool) -> NDArray[np.bool_]:
    """Keep bits of blocks `b`, one bool a lane: shape (n, 128)."""
    if t in (0, 2**32):  # the ends are settled before anything is drawn
        return np.full((b.size, LANES), t == 0)
    packed = _decide(at, b, t, mirror).astype("<u4", copy=False)
    return np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little").view(np.bool_)


def _chunks(first: int, stop: int) -> Iterator[NDArray[np.uint64]]:
    for low in range(first, stop, CHUNK):
        yield np.arange(low, min(low + CHUNK, stop), dtype=np.uint64)


def keep_range(
    at: Address, t: int, start: int, count: int, mirror: bool = False
) -> NDArray[np.bool_]:
    """Keep bits of elements [start, start + count) at threshold `t`: bool, shape (count,)."""
    if t in (0, 2**32):
        return np.full(count, t == 0)
    first, stop = start // LANES, -(-(start + count) // LANES)
    out = np.empty(((stop - first) * LANES,), np.bool_)
    at_row = 0
    for b in _chunks(first, stop):
        out[at_row : at_row + b.size * LANES] = _keep_bits(at, b, t, mirror).reshape(-1)
        at_row += b.size * LANES
    return out[start - first * LANES :][:count]


def keep_at(
    at: Address, t: int, index: NDArray[np.uint64], mirror: bool = False
) -> NDArray[np.bool_]:
    """Keep bits of the elements with these logical indices, in any order: bool, index's shape."""
    flat = index.reshape(-1)
    keep = np.empty(flat.size, np.bool_)
    step = 16 * CHUNK  # far apart, each element has a block to itself: 128 bytes for every one
    for low in range(0, flat.size, step):
        part = flat[low : low + step]
        b, where = np.unique(part >> np.uint64(7), return_inverse=True)
        bits = np.concatenate(
            [_keep_bits(at, b[i : i + CHUNK], t, mirror) for i in range(0, b.size, CHUNK)]
        )
        lane = (part & np.uint64(LANES - 1)).astype(np.intp)
        keep[low : low + step] = bits[where.reshape(-1), lane]
    return keep.reshape(index.shape)


def keep_each(
    at: Address, t: NDArray[np.uint64], index: NDArray[np.uint64], mirror: bool = False
) -> NDArray[np.bool_]:
    """Keep bits where each element has a threshold of its own, in [0, 2^32]: bool, index's shape.

    As `_decide`, one element at a time: only those that are still open read another plane.
    """
    flat, each = index.reshape(-1), np.broadcast_to(t, index.shape).reshape(-1)
    keep: NDArray[np.bool_] = each == 0
    for low in range(0, flat.size, 16 * CHUNK):
        part = slice(low, low + 16 * CHUNK)
        kept, limit = keep[part], each[part]
        open_ = np.flatnonzero((limit > 0) & (limit < 2**32))
        for j in range(32):
            if not open_.size:
                break
            i = flat[part][open_]
            b, where = np.unique(i >> np.uint64(7), return_inverse=True)
            words = _plane(at, b, j, mirror)
            word = words[where.reshape(-1), (i >> np.uint64(5) & np.uint64(3)).astype(np.intp)]
            bit = word >> (i & np.uint64(31)).astype(np.uint32) & np.uint32(1)
            ours = limit[open_]
            wanted = ours >> np.uint64(31 - j) & np.uint64(1)
            kept[open_[bit > wanted]] = True
            # Beyond the lowest set bit nothing falls below the threshold: open elements are kept.
            rest = ours & np.uint64(2 ** (31 - j) - 1)
            same = bit == wanted
            kept[open_[same & (rest == 0)]] = True
            open_ = open_[same & (rest != 0)]
    return keep.reshape(index.shape)


def keep(at: Address, t: int, place: Placement, mirror: bool = False) -> NDArray[np.bool_]:
    """Keep bits of an array as it is placed: bool, `place.drawn`, which is 1 along shared axes."""
    shape = place.drawn
    if place.in_order:
        return keep_range(at, t, place.offset, place.size, mirror).reshape(shape)
    return keep_at(at, t, indices(place, shape), mirror)


def indices(place: Placement, shape: tuple[int, ...] | None = None) -> NDArray[np.uint64]:
    """The logical index of each element: uint64, the placement's shape (or `shape`, as drawn)."""
    shape = place.shape if shape is None else shape
    index = np.full(shape, place.offset, np.uint64)
    for axis, (n, stride) in enumerate(zip(shape, place.strides, strict=True)):
        steps = np.arange(n, dtype=np.uint64) * np.uint64(stride)
        index += steps.reshape((n,) + (1,) * (len(shape) - axis - 1))
    return index


def uniform32(at: Address, index: int, mirror: bool = False) -> int:
    """The 32-bit uniform u_i of one element, put together from its 32 planes."""
    lane = index % LANES
    u = 0
    for j in range(32):
        counter = (index // LANES & MASK32, index // LANES >> 32 | at.call << 8 | j << 24)
        block = philox((*counter, at.site, at.step), key_of(at.seed))
        u = u << 1 | int(block[lane // 32]) >> lane % 32 & 1
    return MASK32 - u if mirror else u


# --------------------------------------------------------------------------------------- word draws


def words(at: Address, index: NDArray[np.uint64], mirror: bool = False) -> NDArray[np.uint32]:
    """The 32-bit words of the elements with these indices (below 2^42): uint32, index's shape."""
    b, where = np.unique(index >> np.uint64(2), return_inverse=True)
    table = np.stack(_blocks(at, b, WORD_TAG), axis=-1).astype(np.uint32)
    out: NDArray[np.uint32] = table[
        where.reshape(index.shape), (index & np.uint64(3)).astype(np.intp)
    ]
    return ~out if mirror else out


def words_at(at: Address, index: NDArray[np.uint64], mirror: bool = False) -> NDArray[np.uint32]:
    """The same of elements that lie anywhere, a block computed for each: uint32, index's shape.

    There several times as quick as looking for blocks that elements share.
    """
    flat = index.reshape(-1)
    out = np.empty(flat.size, np.uint32)
    for low in range(0, flat.size, 2 * CHUNK):
        part = flat[low : low + 2 * CHUNK]
        block = _blocks(at, part >> np.uint64(2), WORD_TAG)
        out[low : low + part.size] = np.choose((part & np.uint64(3)).astype(np.intp), block)
    return (~out if mirror else out).reshape(index.shape)


def uniform24(word: NDArray[np.uint32]) -> NDArray[np.float32]:
    """(2 (w >> 9) + 1) / 2^24: exact in binary32, symmetric about 1/2, never 0 or 1."""
    odd = (word >> np.uint32(9)) * np.uint32(2) + np.uint32(1)
    return odd.astype(np.float32) / np.float32(2**24)


def gaussian(at: Address, index: NDArray[np.uint64], mirror: bool = False) -> NDArray[np.float64]:
    """Standard normal draws (Box-Muller on the pair 2m, 2m + 1), in binary64; index's shape.

    The mirror of a draw is its negative.
    """
    one = np.uint64(1)
    u = uniform24(words(at, index & ~one)).astype(np.float64)
    v = uniform24(words(at, index | one)).astype(np.float64)
    radius, angle = np.sqrt(-2.0 * np.log(u)), 2.0 * np.pi * v
    z: NDArray[np.float64] = radius * np.where(index & one, np.sin(angle), np.cos(angle))
    return -z if mirror else z


def keep_k_of_n(
    at: Address, p: float, shape: tuple[int, ...], axis: int, mirror: bool = False
) -> NDArray[np.bool_]:
    """Exactly k = n - round-half-to-even(p n) of the n elements along `axis` kept: bool, `shape`.

    The k largest words win; equal words go by lower index.
    """
    n = shape[axis]
    index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64).reshape(shape)
    word = words(at, index, mirror).astype(np.int64)
    rank = np.argsort(np.argsort(-word, axis=axis, kind="stable"), axis=axis, kind="stable")
    keep: NDArray[np.bool_] = rank < n - round(p * n)
    return keep


# ------------------------------------------------------------------------------------------- values


def scale_for(p: float) -> float:
    """1 / (1 - p) in binary64; 1 at p = 1, where nothing is kept and nothing is to be scaled."""
    return 1.0 if p == 1.0 else 1.0 / (1.0 - p)


def apply(
    x: NDArray[Any], keep: NDArray[np.bool_], scale: float, fill: float | NDArray[Any] = 0.0
) -> NDArray[Any]:
    """y = fill + scale m (x - fill): x's shape, dtype and memory order.

    `keep` broadcasts to x. The arithmetic runs in binary64 for double and in binary32 for all other
    types, each product rounded, and one rounding to x's type at the end. A kept element is exactly
    x where scale is 1; a dropped one is exactly fill, whatever x was: selected, not multiplied.
    A fill that is one number is taken in the type of the arithmetic (-0.0 as 0), an array in x's.
    """
    kind: Any = np.float64 if x.dtype.itemsize == 8 else np.float32
    s = kind(scale)
    # An overflow to infinity is the value the arithmetic has, in half types above all; no warning.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        number = np.ndim(fill) == 0
        f: Any = kind(fill) + kind(0) if number else np.asarray(fill).astype(x.dtype).astype(kind)
        if s == 1.0:
            kept = x
        elif number and f == 0:
            kept = (x.astype(kind) * s).astype(x.dtype)
        else:
            kept = (f + s * (x.astype(kind) - f)).astype(x.dtype)
        y = np.empty_like(x, subok=False)
        y[...] = f.astype(x.dtype)
        np.copyto(y, kept, where=keep)
    return y


def apply_gaussian(x: NDArray[Any], z: NDArray[np.float64], std: float) -> NDArray[Any]:
    """y = x (1 + std z): x's shape and dtype, in binary64 for double, else in binary32."""
    kind: Any = np.float64 if x.dtype.itemsize == 8 else np.float32
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y = np.empty_like(x, subok=False)
        y[...] = x.astype(kind) * (kind(1) + kind(std) * z.astype(kind))
    return y
