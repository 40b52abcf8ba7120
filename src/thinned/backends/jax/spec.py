"""The mask spec in JAX's operations, for any device, under any transform.

The same planes as in reference.py. The time to compile a program with many sites depends more on
the number of XLA's operations and loops than on what they compute. So Philox is computed in 64 bits
(counter.py). Few blocks get all of their planes at once; many blocks get planes until every lane is
decided. 64-bit types stay inside: no result has one, and JAX may be set to 32 bits.

Philox is a loop over its rounds. Written out, it would be fused by XLA into the expansion of each
word to its 32 lanes, and would run for every lane: 20 times slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.backends.jax.counter import Counter, narrow, u32, u64, wide

__all__ = [
    "Words",
    "alike",
    "block",
    "decided",
    "has_symbols",
    "keep",
    "keep_bits",
    "keep_each",
    "offset_plus",
    "philox",
    "planes",
    "stacked",
    "uniform24",
    "varies",
    "words",
    "words_at",
]

WORD_TAG = 32
PLANES = 4  # compared at a time; 1 starts too many small loops, 8 draws planes that are not needed
ALIGNED = 128  # draws that start at a multiple of it begin with a block
AT_ONCE = 1024  # so many blocks get all of their planes at once, half a megabyte of them
Words = tuple[Any, ...]  # seed_low, seed_high, site, step, call: uint32, 0-d


def _multiply(a: Any, m: int) -> tuple[Any, Any]:
    """The upper and the lower 32 bits of a times the constant m, put together from 16-bit halves:
    lax.mulhi does not compile for more than one device."""
    low, high = u32(m & 0xFFFF), u32(m >> 16)
    a0, a1 = a & u32(0xFFFF), a >> u32(16)
    middle = a1 * low + (a0 * low >> u32(16))
    other = a0 * high + (middle & u32(0xFFFF))
    return a1 * high + (middle >> u32(16)) + (other >> u32(16)), a * u32(m)


def philox(
    counter: tuple[Any, ...], key: tuple[Any, Any], *, unroll: bool = False
) -> tuple[Any, ...]:
    """As reference.philox, on uint32 arrays of one shape, with a key of two uint32 scalars."""

    def turn(_: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        c0, c1, c2, c3, k0, k1 = state
        high0, low0 = _multiply(c0, 0xD2511F53)
        high2, low2 = _multiply(c2, 0xCD9E8D57)
        key = k0 + u32(0x9E3779B9), k1 + u32(0xBB67AE85)
        return high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0, *key

    state = *counter, *key
    if unroll:  # not by the loop's own option, which Pallas does not lower everywhere
        for i in range(10):
            state = turn(i, state)
        return state[:4]
    return tuple(lax.fori_loop(0, 10, turn, _varying(state))[:4])


def varies(x: Any) -> frozenset[Any]:
    """The mapped axes of devices that x varies over, where a shard_map keeps count of them."""
    kind = jax.typeof(x)
    return frozenset(kind.mat.varying if hasattr(kind, "mat") else getattr(kind, "vma", ()))


def stacked(words: Iterable[Any]) -> Any:
    """Words, ints and traced ones, as one uint32 array; NumPy's own if all are ints.

    By products and sums: a stack would require all of them to be divided in one way.
    """
    words = tuple(words)
    out: Any = np.array([w if isinstance(w, int) else 0 for w in words], np.uint32)
    for i, word in enumerate(words):
        if not isinstance(word, int):
            out = out + jnp.asarray(word, jnp.uint32) * (np.arange(len(words)) == i).astype(
                np.uint32
            )
    return out


def alike(*operands: Any) -> tuple[Any, ...]:
    """The same operands, each varying over every mapped axis of devices that one varies over."""
    varying = [varies(x) for x in operands]
    every = frozenset().union(*varying)
    return tuple(
        x if have == every else lax.pcast(x, tuple(sorted(every - have)), to="varying")
        for x, have in zip(operands, varying, strict=True)
    )


def _varying(words: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same words, each varying over every mapped axis of devices that one of them varies over,
    as the state of a loop must. Their differences from themselves carry that, and vanish."""
    if len({varies(word) for word in words}) == 1:
        return words
    nothing = sum((word ^ word).reshape(-1)[0] for word in words)
    return tuple(word ^ nothing for word in words)


def block(at: Words, low: Any, high: Any, tag: Any, *, unroll: bool = False) -> tuple[Any, ...]:
    """The four words of blocks number low + 2^32 high with `tag` (they broadcast), uint32."""
    seed_low, seed_high, site, step, call = at
    second = high | call << u32(8) | tag << u32(24)
    shape = jnp.broadcast_shapes(low.shape, second.shape)
    counter = [jnp.broadcast_to(c, shape) for c in (low, second, site, step)]
    return philox(tuple(counter), (seed_low, seed_high), unroll=unroll)


def _blocks(at: Words, low: Any, high: Any, tag: Any) -> Any:
    """The same as one array, shape (4, ...)."""
    return jnp.stack(block(at, low, high, tag))


# ----------------------------------------------------------------------------------------- indices


def offset_plus(low: Any, high: Any, count: Any, stride: int) -> tuple[Any, Any]:
    """The 64-bit number (low, high) plus count * stride: count uint32, stride below 2^47."""
    s0, s1 = stride & 0xFFFF, stride >> 16 & 0xFFFF
    s2 = stride >> 32
    c0, c1 = count & u32(0xFFFF), count >> u32(16)
    # count * (stride mod 2^32), from 16-bit halves.
    middle = c1 * u32(s0) + (c0 * u32(s0) >> u32(16))
    other = c0 * u32(s1) + (middle & u32(0xFFFF))
    product_high = c1 * u32(s1) + (middle >> u32(16)) + (other >> u32(16)) + count * u32(s2)
    product_low = count * u32(stride & 0xFFFFFFFF)
    total = low + product_low
    carry = (total < product_low).astype(jnp.uint32)
    return total, high + product_high + carry


def has_symbols(shape: tuple[Any, ...]) -> bool:
    """Whether a length is a symbol of jax.export's, whose value each call of the program brings."""
    return not all(isinstance(n, (int, np.integer)) for n in shape)


def _drawn(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if s == 0 and n != 0 else n for n, s in zip(shape, strides, strict=True))


class Runs(NamedTuple):
    """The draws of an array as runs of consecutive indices.

    first : uint64, shape (runs, 1), where each starts, or for each of many addresses, shape
        (addresses, runs, 1). length : how long they are.
    multiple : what all of `first` are known to be multiples of; 0 if they are known to be 0.
    """

    first: Any
    length: Any
    multiple: int

    @classmethod
    def of(
        cls, drawn: tuple[Any, ...], strides: tuple[int, ...], offset: Any, multiple: int
    ) -> Runs:
        length, axis = 1, len(drawn)
        while axis > 0 and (drawn[axis - 1] == 1 or strides[axis - 1] == length):
            axis -= 1
            length *= drawn[axis]
        offset = wide(offset)
        start = offset[0] | offset[1] << u64(32) if multiple else jnp.uint64(0)
        batch = start.shape
        first = jnp.broadcast_to(start.reshape(*batch, *(1,) * axis), (*batch, *drawn[:axis]))
        for i in range(axis):
            first = first + lax.broadcasted_iota(jnp.uint64, drawn[:axis], i) * u64(strides[i])
            multiple = math.gcd(multiple, strides[i])
        return cls(first.reshape(*batch, math.prod(drawn[:axis]), 1), length, multiple)

    def starts(self, at: Any, kind: Any) -> Any:
        """`first` of all runs at all addresses, shape (runs, 1)."""
        first = self.first.astype(kind)
        return jnp.broadcast_to(first, (*at.shape[1:], *first.shape[-2:])).reshape(-1, 1)

    @property
    def aligned(self) -> bool:
        """Whether each begins with a block, of keep bits or of words."""
        return self.multiple % ALIGNED == 0

    def blocks(self, bits: int) -> Any:
        """The numbers of the blocks of 2^bits elements that each run touches: uint64, of first's
        shape, but the last axis are a run's blocks."""
        size = 1 << bits
        more = 0 if self.aligned else size - 1
        count = (self.length + more + size - 1) // size
        return (self.first >> u64(bits)) + lax.iota(jnp.uint64, count)


def _of_each(value: Any, shape: tuple[Any, ...]) -> Any:
    """What addresses have, shape (..., addresses), by block: (..., addresses times blocks), where
    each has blocks of this shape."""
    axes = tuple(range(value.ndim))
    every = lax.broadcast_in_dim(value, (*value.shape, *shape), axes)
    return every.reshape(*value.shape[:-1], value.shape[-1] * math.prod(shape))


def _counter(at: Any, numbers: Any) -> Counter:
    """Of the blocks with these numbers, uint64, shape (..., runs, blocks): one after another, those
    of one address after another's. at : uint32, shape (5,) or (5, addresses)."""
    if at.ndim > 1:
        shape = numbers.shape[-2:]
        numbers = jnp.broadcast_to(numbers, (at.shape[1], *shape))
        at = _of_each(at, shape)
    return Counter.of(at, numbers.reshape(-1))


# -------------------------------------------------------------------------------------- Bernoulli


def planes(t: Any) -> Any:
    """The number of planes that decide. Planes under the lowest set bit of t change nothing, and no
    lane is below t = 0."""
    lowest = lax.population_count((t & (~t + u32(1))) - u32(1))
    return 32 - lowest.astype(jnp.int32)


def decided(at: Any, numbers: Any, threshold: tuple[Any, Any], mirror: bool) -> Any:
    """Keep bits of the blocks with these numbers: uint32, shape (4, blocks).

    at : uint32, shape (5,), or (5, addresses), one after another. numbers : uint64, shape
    (..., runs, blocks), of all addresses or of each. threshold : two words, of all or of each.
    """
    t, whole = (_of_each(word, numbers.shape[-2:]) if at.ndim > 1 else word for word in threshold)
    counter = _counter(at, numbers)
    # Of many addresses most blocks have few elements, and are decided by few planes.
    if at.ndim == 1 and not has_symbols(numbers.shape) and numbers.size <= AT_ONCE:
        below = _below(counter.blocks(u32(0), 32), t, mirror)
    else:
        below = _compared(counter, t, mirror)
    kept = ~(below | (u64(0) - wide(whole)))  # 2^32 is not in t's 32 bits
    return narrow(kept)


# What decides the lanes of blocks, in what is traced: `decided`, or a kernel of the platform's.
keep_bits: ContextVar[Callable[..., Any]] = ContextVar("keep_bits", default=decided)


def _ones(t: Any, first: Any, count: int) -> Any:
    """Of each plane from `first` on its bit of t, in all lanes: uint64, shape (count, 1), or
    (count, blocks) where each has its own t."""
    places = u32(31) - (first + lax.iota(jnp.uint32, count))[:, None]
    return u64(0) - (t >> places & u32(1)).astype(jnp.uint64)


def _paired(open_: Any, below: Any) -> tuple[Any, Any]:
    """Each plane with the next one as one: a lane is what the upper says, or else the lower."""
    upper = open_[:, ::2]
    return upper & open_[:, 1::2], below[:, ::2] | upper & below[:, 1::2]


def _lanes(planes: Any, t: Any, first: Any, mirror: bool) -> tuple[Any, Any]:
    """Where planes are equal to t's bits, and where they are below them: as the planes."""
    ones = _ones(t, first, planes.shape[1])
    differ = planes ^ (~ones if mirror else ones)
    return ~differ, differ & ones


def _below(planes: Any, t: Any, mirror: bool) -> Any:
    """The lanes below t by all 32 planes: uint64, shape (2, blocks)."""
    open_, below = _lanes(planes, t, u32(0), mirror)
    while below.shape[1] > 2:
        open_, below = _paired(open_, below)
    # The last two by a reduction, which XLA does not take into the expansion of a word to its
    # lanes: it would compare the planes anew for each of them.
    is_upper = lax.broadcasted_iota(jnp.uint32, below.shape, 1) == 0
    decided = jnp.where(is_upper, below, below & open_[:, :1])
    return lax.reduce(decided, u64(0), lax.bitwise_or, (1,))


def _compared(counter: Counter, t: Any, mirror: bool) -> Any:
    """The same, some planes at a time until no lane is open."""
    end = jnp.max(planes(t)).astype(jnp.uint32)
    none = counter.first & u64(0)
    none = jnp.stack([none, none])

    def undecided(state: tuple[Any, Any, Any]) -> Any:
        j, _, open_ = state
        return (j < end) & jnp.any(open_ != 0)

    def compare(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        j, below, open_ = state
        here = _lanes(counter.blocks(j, PLANES), t, j, mirror)
        while here[0].shape[1] > 1:
            here = _paired(*here)
        return j + u32(PLANES), below | open_ & here[1][:, 0], open_ & here[0][:, 0]

    return lax.while_loop(undecided, compare, (u32(0) ^ (end ^ end), none, ~none))[1]


def keep(
    at: Any,
    offset: Any,
    threshold: tuple[Any, Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    mirror: bool,
    multiple: int = 1,
) -> Any:
    """Keep bits as placed: bool, of `shape` but 1 along shared axes, at one address or at each of
    many, whose axis stands in front.

    at, offset, threshold: uint32, 5 and two words each, the lower first; behind that their axis of
    addresses. The offset is known to be a multiple of `multiple`, or with 0 to be 0.
    """
    drawn = _drawn(shape, strides)
    made = (*at.shape[1:], *drawn)
    if math.prod(made) == 0:
        return jnp.zeros(made, bool)
    with jax.enable_x64(True):
        runs = Runs.of(drawn, strides, offset, multiple)
        kept = keep_bits.get()(at, runs.blocks(7), threshold, mirror)
        lane = runs.starts(at, jnp.uint32)
    # By run its words, the first element in one of the first four.
    table = kept.T.reshape(lane.shape[0], -1)
    count = -(-runs.length // 32)
    if runs.aligned:
        word = table[:, :count]
    else:  # whole words first, so that only a thirty-second of the elements goes through a gather
        first = (lane >> u32(5) & u32(3)).astype(jnp.int32) + lax.iota(jnp.int32, count)
        lane = lane & u32(31)
        here = jnp.take_along_axis(table, first, 1, mode="clip")
        after = jnp.take_along_axis(table, first + 1, 1, mode="clip")
        # A shift by 32 is not defined: in two parts.
        word = here >> lane | after << (u32(31) - lane) << u32(1)
    bits = word[..., None] >> lax.iota(jnp.uint32, 32) & u32(1)
    return (bits.reshape(table.shape[0], -1)[:, : runs.length] != 0).reshape(made)


def keep_each(at: Words, threshold: tuple[Any, Any], low: Any, high: Any, mirror: bool) -> Any:
    """The keep bits of the elements with these indices (two uint32 words each), at a threshold for
    each. All 32 planes, one after another: a block for each element and plane."""
    b_low, b_high = low >> u32(7) | high << u32(25), high >> u32(7)
    which, lane = low >> u32(5) & u32(3), low & u32(31)

    def plane(j: Any, u: Any) -> Any:
        table = block(at, b_low, b_high, j.astype(jnp.uint32))
        word = table[0]
        for i in range(1, 4):
            word = jnp.where(which == i, table[i], word)
        return u << u32(1) | word >> lane & u32(1)

    u = lax.fori_loop(0, 32, plane, low ^ low)
    t, whole = threshold
    return (whole == 0) & ((~u if mirror else u) >= t)


# ------------------------------------------------------------------------------------------- words


def words(
    at: Any,
    offset: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    mirror: bool,
    law: str = "words",
    multiple: int = 1,
) -> Any:
    """The 32-bit words of the elements as placed: uint32, of `shape` but 1 along shared axes; or,
    with law "gaussian", the normal draws made of them, binary32. Addresses and offset: as in
    keep."""
    drawn = _drawn(shape, strides)
    made = (*at.shape[1:], *drawn)
    if math.prod(made) == 0:
        return jnp.zeros(made, jnp.float32 if law == "gaussian" else jnp.uint32)
    with jax.enable_x64(True):
        runs = Runs.of(drawn, strides, offset, multiple)
        halves = _counter(at, runs.blocks(2)).blocks(u32(WORD_TAG), 1)
        table = narrow(halves[:, 0])
        position = runs.starts(at, jnp.int32) & np.int32(3)
    if law == "gaussian":
        z = jnp.stack([*_normal(table[0], table[1]), *_normal(table[2], table[3])])
        table = -z if mirror else z
    elif mirror:
        table = ~table
    table = table.T.reshape(position.shape[0], -1)  # by run its words
    if runs.aligned:
        return table[:, : runs.length].reshape(made)
    position = position + lax.iota(jnp.int32, runs.length)
    return jnp.take_along_axis(table, position, 1, mode="clip").reshape(made)


def words_at(at: Words, low: Any, high: Any, mirror: bool) -> Any:
    """The 32-bit words of the elements with these indices (two uint32 words each)."""
    # A traced index that is too large cannot be refused: it must not draw what another call draws.
    b_low, b_high = low >> u32(2) | high << u32(30), (high >> u32(2)) & u32(0xFF)
    table = _blocks(at, b_low, b_high, u32(WORD_TAG))
    which, word = low & u32(3), table[0]
    for i in range(1, 4):  # not a gather, which could not follow its operand's sharding
        word = jnp.where(which == i, table[i], word)
    return ~word if mirror else word


def uniform24(word: Any) -> Any:
    """As reference.uniform24: binary32, exact."""
    odd = (word >> u32(9)) * u32(2) + u32(1)
    # By way of int32, which converts in one instruction everywhere; the number has 24 bits.
    return odd.astype(jnp.int32).astype(jnp.float32) * np.float32(2.0**-24)


def _normal(first: Any, second: Any) -> tuple[Any, Any]:
    """Box-Muller on a pair of words, in binary32.

    The angle is moved back by half a turn: it is then at most pi, and rounded half as coarsely.
    """
    radius = jnp.sqrt(np.float32(-2.0) * jnp.log(uniform24(first)))
    angle = np.float32(2.0 * np.pi) * (uniform24(second) - np.float32(0.5))
    return -radius * jnp.cos(angle), -radius * jnp.sin(angle)


# --------------------------------------------------------------------------------- the two together


def draw(words_: Any, how: Any) -> Any:
    """The values of primitives.draw_p, at one address or at each of an axis of them."""
    at, threshold, offset = _parts(words_)
    if how.law == "mask":
        drawn = keep(at, offset, threshold, how.shape, how.strides, how.mirror, how.multiple)
    else:
        drawn = words(at, offset, how.shape, how.strides, how.mirror, how.law, how.multiple)
    return jnp.broadcast_to(drawn, (*at.shape[1:], *how.shape))


def noise(x: Any, words_: Any, scale: Any, fill: Any, how: Any) -> Any:
    """The values of primitives.noise_p, at one address or at each of an axis of them:
    reference.apply and apply_gaussian."""
    at, threshold, offset = _parts(words_)
    shape = x.shape[scale.ndim :]
    kind = scale.dtype
    wide = x.astype(kind)
    # Of each address, beside its elements.
    scale, word = (v.reshape(*v.shape, *(1,) * len(shape)) for v in (scale, threshold[1]))
    if how.law == "gaussian":
        z = words(at, offset, shape, how.strides, how.mirror, "gaussian", how.multiple)
        factor = _rounded(scale * z.astype(kind), word) + np.asarray(1.0, kind)
        return (wide * factor).astype(x.dtype)
    mask = keep(at, offset, threshold, shape, how.strides, how.mirror, how.multiple)
    if fill is None and how.fill == 0.0:
        kept, f = wide * scale, jnp.zeros((), x.dtype)
    else:
        given = jnp.full((), how.fill, kind) if fill is None else fill.astype(kind)
        kept = given + _rounded(scale * (wide - given), word)
        f = given.astype(x.dtype)
    return _chosen(mask, _chosen(scale == 1.0, x, kept.astype(x.dtype)), f)


def _parts(words: Any) -> tuple[Any, Any, Any]:
    """Address, threshold and offset of the operand `words`, its axis of words in front."""
    front = jnp.moveaxis(words, -1, 0)
    return front[:5], (front[5], front[6]), front[7:9]


def _chosen(which: Any, x: Any, y: Any) -> Any:
    """jnp.where as one operation. jnp.where itself is a function in the program, and where many
    sites draw, XLA inlines mostly these."""
    shape = x.shape
    return lax.select(*(jnp.broadcast_to(operand, shape) for operand in (which, x, y)))


def _rounded(product: Any, word: Any) -> Any:
    """A product, rounded before anything is added to it. XLA would put both into one instruction
    that rounds once; a zero that it cannot know to be one stands in its way. `word` is 0 or 1."""
    kind = jnp.uint64 if product.dtype == jnp.float64 else jnp.uint32
    bits = lax.bitcast_convert_type(product, kind) ^ (word & u32(2)).astype(kind)
    return lax.bitcast_convert_type(bits, product.dtype)
