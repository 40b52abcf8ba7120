"""The mask spec once more, said as slowly and plainly as possible: the library is held against it.

Nothing of the library and nothing of NumPy is used here. Every uniform is put together whole, from
its 32 planes, and compared as an integer; thresholds are exact fractions; indices are counted by
hand.
"""

from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import copysign, inf, isnan
from struct import pack, unpack
from typing import NamedTuple

WORD = 2**32


class At(NamedTuple):
    """Four plain integers. Anything with these four attributes will do in its place."""

    seed: int = 0
    site: int = 0
    step: int = 0
    call: int = 0


def philox(counter, key):
    a, b, c, d = counter
    for turn in range(10):
        first = (key[0] + turn * 0x9E3779B9) % WORD
        second = (key[1] + turn * 0xBB67AE85) % WORD
        high_a, low_a = divmod(0xD2511F53 * a, WORD)
        high_c, low_c = divmod(0xCD9E8D57 * c, WORD)
        a, b, c, d = high_c ^ b ^ first, low_c, high_a ^ d ^ second, low_a
    return a, b, c, d


@lru_cache(maxsize=100_000)
def _block(seed, site, step, call, number, tag):
    high, low = divmod(number, WORD)
    assert high < 2**8
    assert call < 2**16
    return philox((low, high + call * 2**8 + tag * 2**24, site, step), (seed % WORD, seed // WORD))


@lru_cache(maxsize=100_000)
def _uniform(seed, site, step, call, index):
    number, lane = divmod(index, 128)
    word, bit = divmod(lane, 32)
    total = 0
    for plane in range(32):
        if _block(seed, site, step, call, number, plane)[word] & 2**bit:
            total += 2 ** (31 - plane)
    return total


def uniform(at, index, mirror=False):
    u = _uniform(at.seed, at.site, at.step, at.call, index)
    return WORD - 1 - u if mirror else u


def threshold(p):
    exact = Fraction(p) * WORD
    floor = exact.numerator // exact.denominator
    rest = exact - floor
    if rest == Fraction(1, 2):
        return floor + floor % 2
    return floor + (rest > Fraction(1, 2))


def kept(at, p, index, mirror=False):
    return not uniform(at, index, mirror) < threshold(p)


def index_of(position, start, whole, shared):
    """C-order position in the logical array, in which shared axes have length 1."""
    index = 0
    for axis, (here, first, length) in enumerate(zip(position, start, whole, strict=True)):
        if axis not in shared:
            index = index * length + here + first
    return index


def mask(at, p, shape, start=None, whole=None, shared=(), mirror=False):
    """Keep bits of a window, as a flat list in C order."""
    start = start or (0,) * len(shape)
    whole = whole or shape
    places = product(*(range(n) for n in shape))
    return [kept(at, p, index_of(place, start, whole, shared), mirror) for place in places]


def fold_in(seed, n):
    high, low = divmod(n, WORD)
    out = philox((low, high, 0, WORD - 1), (seed % WORD, seed // WORD))
    return out[0] + out[1] * WORD


# ------------------------------------------------------------------------------------------- values


def _through(form, x):
    try:
        return unpack(form, pack(form, x))[0]
    except OverflowError:
        return copysign(inf, x)


def single(x):
    return _through("<f", x)


def half(x):
    return _through("<e", x)


def brain(x):
    """To bfloat16, from a number that is exact in binary32: half to even on the upper 16 bits."""
    if isnan(x):
        return x
    bits = unpack("<I", pack("<f", x))[0]
    bits += 0x7FFF + (bits >> 16) % 2
    return unpack("<f", pack("<I", bits >> 16 << 16))[0]


def value(x, p, keep, dtype):
    """What an element becomes: selected, then multiplied in the arithmetic's type, rounded once.

    A product of two binary32 numbers is exact in binary64, so that `single` rounds it correctly.
    """
    if not keep:
        return 0.0
    scale = 1.0 / (1.0 - p)
    if dtype == "float64":
        return x * scale
    final = {"float32": float, "float16": half, "bfloat16": brain}[dtype]
    return final(single(x * single(scale)))
