"""The mask spec in JAX's operations: 32-bit arithmetic alone, for any device, under any transform.

The same planes as in reference.py, as many as it takes until every lane is decided. Philox is a
loop over its rounds: written out, XLA takes it into the expansion of each word to its 32 lanes and
runs it for every one of them, 20 times slower. Products of 32-bit words are put together from
16-bit halves, since lax.mulhi does not compile for more than one device; for one CPU it does, and
saves a third of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
    "one_cpu",
    "philox",
    "planes",
    "stacked",
    "uniform24",
    "varies",
    "words",
    "words_at",
]

u32 = np.uint32
WORD_TAG = 32
PLANES = 4  # compared at a time; 1 starts too many small loops, 8 draws planes that are not needed
FEW = 16  # among this many blocks one continues alone when the others are decided
WORTH = 64  # from this many continuing ones on

# Whether what is traced is for one CPU alone.
one_cpu: ContextVar[bool] = ContextVar("one_cpu", default=False)

Words = tuple[Any, ...]  # seed_low, seed_high, site, step, call: uint32, 0-d


def _multiply(a: Any, m: int) -> tuple[Any, Any]:
    """The upper and the lower 32 bits of a times the constant m."""
    if one_cpu.get():
        return lax.mulhi(a, jnp.full_like(a, u32(m))), a * u32(m)
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


def _runs(
    drawn: tuple[int, ...], strides: tuple[int, ...], offset: tuple[Any, Any]
) -> tuple[Any, Any, int]:
    """The draws as runs of consecutive indices: where each starts (two words, shape (runs, 1)),
    and how long they are."""
    length, axis = 1, len(drawn)
    while axis > 0 and (drawn[axis - 1] == 1 or strides[axis - 1] == length):
        axis -= 1
        length *= drawn[axis]
    low = jnp.broadcast_to(offset[0], drawn[:axis])
    high = jnp.broadcast_to(offset[1], drawn[:axis])
    for i in range(axis):
        count = lax.broadcasted_iota(jnp.uint32, drawn[:axis], i)
        low, high = offset_plus(low, high, count, strides[i])
    return low.reshape(-1, 1), high.reshape(-1, 1), length


def _numbered(low: Any, high: Any, bits: int, count: int) -> tuple[Any, Any]:
    """The numbers of `count` blocks of 2^bits elements, from the one on that holds the index."""
    first = low >> u32(bits) | high << u32(32 - bits)
    b = first + lax.iota(jnp.uint32, count)
    return b, (high >> u32(bits)) + (b < first).astype(jnp.uint32)


# -------------------------------------------------------------------------------------- Bernoulli


def planes(t: Any) -> Any:
    """How many planes decide: under the lowest set bit of t nothing can fall below it any more."""
    lowest = lax.population_count((t & (~t + u32(1))) - u32(1))
    return jnp.where(t == 0, 0, 32 - lowest.astype(jnp.int32))


def decided(at: Words, low: Any, high: Any, threshold: tuple[Any, Any], mirror: bool) -> Any:
    """Keep bits of blocks number low + 2^32 high, of one axis: uint32, shape (4, blocks)."""
    t, whole = threshold
    last = planes(t) - 1
    # A zero that depends on the words, so that no memory is taken before they are there.
    none = jnp.broadcast_to(whole & u32(2), (4, low.size))
    state = jnp.int32(0), none, ~none
    few = low.size // FEW
    if not has_symbols(low.shape) and few >= WORTH:
        # Half of the lanes are left from one plane to the next, a few of the blocks after a dozen:
        # these go on alone.
        j, below, open_ = _compared(at, low, high, t, last, mirror, state, few)
        (where,) = jnp.nonzero(jnp.any(open_ != 0, 0), size=few, fill_value=low.size)
        some = [a.at[..., where].get(mode="fill", fill_value=0) for a in (low, high, below, open_)]
        _, rest, _ = _compared(at, some[0], some[1], t, last, mirror, (j, some[2], some[3]), 0)
        below = below.at[:, where].set(rest, mode="drop")
    else:
        _, below, _ = _compared(at, low, high, t, last, mirror, state, 0)
    return ~(below | (u32(0) - whole))  # 2^32 has none of the 32 bits, and drops everything


# What decides the lanes of blocks, in what is traced: `decided`, or a kernel of the platform's.
keep_bits: ContextVar[Callable[..., Any]] = ContextVar("keep_bits", default=decided)


def _compared(
    at: Words, low: Any, high: Any, t: Any, last: Any, mirror: bool, state: Any, enough: int
) -> Any:
    """Plane after plane compared with t, until no more than `enough` blocks have an open lane.

    state: the next plane, and the lanes that are below and those that are open, (4, blocks) each.
    """
    flip = u32(0xFFFFFFFF) if mirror else u32(0)

    def undecided(state: tuple[Any, Any, Any]) -> Any:
        j, _, open_ = state
        blocks = jnp.any(open_ != 0, 0)
        return (j <= last) & (jnp.any(blocks) if not enough else jnp.sum(blocks) > enough)

    def compare(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        j, below, open_ = state
        tag = (j.astype(jnp.uint32) + lax.iota(jnp.uint32, PLANES))[:, None]
        planes = _blocks(at, low, high, tag) ^ flip
        for i in range(PLANES):
            bits = planes[:, i]
            place = (31 - i - j).astype(jnp.uint32)
            ones = u32(0) - (t >> place & u32(1))  # all lanes of a word, or none
            below = below | open_ & ~bits & ones
            open_ = open_ & ~(bits ^ ones)
        return j + PLANES, below, open_

    return lax.while_loop(undecided, compare, state)


def keep(
    at: Words,
    offset: tuple[Any, Any],
    threshold: tuple[Any, Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    mirror: bool,
) -> Any:
    """Keep bits as placed: bool, of `shape` but 1 along shared axes.

    offset, threshold: two uint32 words each, the lower first; they may be traced.
    """
    drawn = _drawn(shape, strides)
    if math.prod(drawn) == 0:
        return jnp.zeros(drawn, bool)
    low, high, length = _runs(drawn, strides, offset)
    b_low, b_high = _numbered(low, high, 7, (length + 254) // 128)
    kept = keep_bits.get()(at, b_low.reshape(-1), b_high.reshape(-1), threshold, mirror)
    table = kept.T.reshape(
        low.shape[0], -1
    )  # (runs, words), the run's first element in the first 4
    # Whole words first, so that only a thirty-second of the elements goes through a gather.
    count = -(-length // 32)
    first = (low >> u32(5) & u32(3)).astype(jnp.int32) + lax.iota(jnp.int32, count)
    lane = low & u32(31)
    here = jnp.take_along_axis(table, first, 1, mode="clip")
    after = jnp.take_along_axis(table, first + 1, 1, mode="clip")
    # A shift by 32 is not defined: in two parts.
    word = here >> lane | after << (u32(31) - lane) << u32(1)
    bits = word[..., None] >> lax.iota(jnp.uint32, 32) & u32(1)
    return (bits.reshape(low.shape[0], -1)[:, :length] != 0).reshape(drawn)


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


def _selected(values: Any, low: Any, length: int) -> Any:
    """Of values by block and word, shape (4, runs, blocks), those of each run's elements."""
    table = jnp.moveaxis(values, 0, -1).reshape(low.shape[0], -1)
    position = (low & u32(3)).astype(jnp.int32) + lax.iota(jnp.int32, length)
    return jnp.take_along_axis(table, position, 1, mode="clip")


def words(
    at: Words,
    offset: tuple[Any, Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    mirror: bool,
    law: str = "words",
) -> Any:
    """The 32-bit words of the elements as placed: uint32, of `shape` but 1 along shared axes; or,
    with law "gaussian", the normal draws made of them, binary32."""
    drawn = _drawn(shape, strides)
    if math.prod(drawn) == 0:
        return jnp.zeros(drawn, jnp.float32 if law == "gaussian" else jnp.uint32)
    low, high, length = _runs(drawn, strides, offset)
    b_low, b_high = _numbered(low, high, 2, (length + 6) // 4)
    table = _blocks(at, b_low, b_high, u32(WORD_TAG))
    if law == "gaussian":
        z = jnp.stack([*_normal(table[0], table[1]), *_normal(table[2], table[3])])
        table = -z if mirror else z
    elif mirror:
        table = ~table
    return _selected(table, low, length).reshape(drawn)


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

    The angle is taken half a turn back, where it is at most pi and half as far from its rounding.
    """
    radius = jnp.sqrt(np.float32(-2.0) * jnp.log(uniform24(first)))
    angle = np.float32(2.0 * np.pi) * (uniform24(second) - np.float32(0.5))
    return -radius * jnp.cos(angle), -radius * jnp.sin(angle)


# --------------------------------------------------------------------------------- the two together


def draw(words_: tuple[Any, ...], how: Any) -> Any:
    """The values of primitives.draw_p at one address."""
    at, threshold, offset = words_[:5], words_[5:7], words_[7:9]
    if how.law == "mask":
        drawn = keep(at, offset, threshold, how.shape, how.strides, how.mirror)
    else:
        drawn = words(at, offset, how.shape, how.strides, how.mirror, how.law)
    return jnp.broadcast_to(drawn, how.shape)


def noise(x: Any, words_: tuple[Any, ...], scale: Any, fill: Any, how: Any) -> Any:
    """The values of primitives.noise_p at one address: reference.apply and apply_gaussian."""
    at, threshold, offset = words_[:5], words_[5:7], words_[7:9]
    kind = scale.dtype
    wide = x.astype(kind)
    if how.law == "gaussian":
        z = words(at, offset, x.shape, how.strides, how.mirror, "gaussian")
        factor = _rounded(scale * z.astype(kind), words_[6]) + np.asarray(1.0, kind)
        return (wide * factor).astype(x.dtype)
    mask = keep(at, offset, threshold, x.shape, how.strides, how.mirror)
    if fill is None and how.fill == 0.0:
        kept, f = wide * scale, jnp.zeros((), x.dtype)
    else:
        given = jnp.full((), how.fill, kind) if fill is None else fill.astype(kind)
        kept = given + _rounded(scale * (wide - given), words_[6])
        f = given.astype(x.dtype)
    return jnp.where(mask, jnp.where(scale == 1.0, x, kept.astype(x.dtype)), f)


def _rounded(product: Any, word: Any) -> Any:
    """A product, rounded before anything is added to it. XLA would put both into one instruction
    that rounds once; a zero that it cannot know to be one stands in its way. `word` is 0 or 1."""
    kind = jnp.uint64 if product.dtype == jnp.float64 else jnp.uint32
    bits = lax.bitcast_convert_type(product, kind) ^ (word & u32(2)).astype(kind)
    return lax.bitcast_convert_type(bits, product.dtype)
