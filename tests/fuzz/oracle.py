"""A second reading of docs/mask-spec.md, in Python integers, written from the page alone.

It imports nothing of thinned, so that a mistake in one reading does not stand in the other. Every
function takes an address as four plain numbers and is as slow as it is obvious.
"""

import functools
import math
import struct
import zlib
from fractions import Fraction
from itertools import product
from typing import NamedTuple

LOW = 0xFFFFFFFF
WORDS = 32  # the tag of word draws


class Place(NamedTuple):
    """An address: four numbers, each in its range."""

    seed: int
    site: int
    step: int
    call: int


def site_number(name):
    return zlib.crc32(name.encode("utf-8"))


def philox(counter, key):
    """One block of four 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a = 0xD2511F53 * c0
        b = 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & LOW, (a >> 32) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0, c1, c2, c3


def key_of(seed):
    return seed & LOW, seed >> 32


@functools.lru_cache(1 << 15)
def block(place, number, tag):
    second = (number >> 32) + place.call * 2**8 + tag * 2**24
    return philox((number & LOW, second, place.site, place.step), key_of(place.seed))


def fold_in(seed, n):
    w0, w1, _, _ = philox((n & LOW, n >> 32, 0, 0xFFFFFFFF), key_of(seed))
    return w0 + w1 * 2**32


def folded(place, n):
    return place._replace(seed=fold_in(place.seed, n))


def to_even(value):
    """The integer nearest to a fraction, ties to even. Python's own rounding does that."""
    return round(Fraction(value))


def threshold(p):
    return to_even(Fraction(p) * 2**32)


def uniform(place, index):
    """The 32-bit uniform of an element, put together from one bit of each of 32 planes."""
    lane = index & 127
    return sum(
        (block(place, index >> 7, j)[lane >> 5] >> (lane & 31) & 1) << (31 - j) for j in range(32)
    )


def kept(place, index, p, mirror=False):
    u = uniform(place, index)
    return not (2**32 - 1 - u if mirror else u) < threshold(p)


def word(place, index, mirror=False):
    w = block(place, index >> 2, WORDS)[index & 3]
    return 2**32 - 1 - w if mirror else w


def uniform24(w):
    return (2 * (w >> 9) + 1) / 2**24


def gaussian(place, index, mirror=False):
    even = index - index % 2
    u, v = (uniform24(word(place, i)) for i in (even, even + 1))
    turn = math.cos if index == even else math.sin
    z = math.sqrt(-2 * math.log(u)) * turn(2 * math.pi * v)
    return -z if mirror else z


def indices(shape, start=None, whole=None, shared=()):
    """The index of each element of an array, in C order: of a window where start is given."""
    start = start or (0,) * len(shape)
    whole = whole or shape
    logical = [1 if axis in shared else n for axis, n in enumerate(whole)]
    found = []
    for position in product(*map(range, shape)):
        index = 0
        for axis, (i, s, n) in enumerate(zip(position, start, logical, strict=True)):
            index = index * n + (0 if axis in shared else i + s)
        found.append(index)
    return found


def k_of_n(place, shape, p, axis, mirror=False):
    """The keep bits of a whole shape, and how many of each group are kept."""
    n = shape[axis]
    k = n - to_even(p * n)
    groups = {}
    for position, index in zip(product(*map(range, shape)), indices(shape), strict=True):
        rest = position[:axis] + position[axis + 1 :]
        groups.setdefault(rest, []).append((-word(place, index, mirror), index))
    chosen = {index for group in groups.values() for _, index in sorted(group)[:k]}
    return [index in chosen for index in indices(shape)], k


def single(value):
    """The binary32 nearest to a number; beyond the largest one, infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def rounded(value, dtype):
    """A number rounded once to a type: to nearest even."""
    if dtype == "float64" or not math.isfinite(value):
        return value
    if dtype == "float32":
        return single(value)
    if dtype == "float16":
        try:
            return struct.unpack("<e", struct.pack("<e", value))[0]
        except OverflowError:
            return math.copysign(math.inf, value)
    return bfloat16(value)


def bfloat16(value):
    """Of a binary32: the upper half of its bits, the lower half rounded away to nearest even."""
    value = single(value)
    if not math.isfinite(value):
        return value
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    lower = bits & 0xFFFF
    bits >>= 16
    bits += lower > 0x8000 or (lower == 0x8000 and bits & 1)
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def arithmetic(dtype):
    return "float64" if dtype == "float64" else "float32"


def dropped_out(x, keep, p, dtype, scale=None, fill=0.0):
    """y = f + s m (x - f) for one element, x as a Python float that the type holds exactly."""
    if p == 0:
        return x
    if p == 1 or not keep:
        return fill
    kind = arithmetic(dtype)
    s = rounded(1 / (1 - p) if scale is None else scale, kind)
    if s == 1:
        return x
    if fill == 0:
        return rounded(rounded(s * x, kind), dtype)
    difference = rounded(x - fill, kind)
    return rounded(rounded(fill + rounded(s * difference, kind), kind), dtype)
