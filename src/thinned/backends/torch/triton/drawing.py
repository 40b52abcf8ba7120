"""Draws of words (tag 32): the words themselves, and normal draws made of pairs of them."""

import triton
import triton.language as tl

from thinned.backends.torch.triton.bits import heard, philox

__all__ = ["GAUSSIAN", "WORDS", "draws"]

# What `draws` writes: int64 words, or binary32 normals.
WORDS, GAUSSIAN = 0, 1


@triton.jit
def _uniform(word):
    """(2 (w >> 9) + 1) / 2^24, exact."""
    return ((word >> 9) * 2 + 1).to(tl.float32) * (1.0 / 16777216.0)


@triton.jit
def _turned(v):
    """cos and sin of 2 pi v, v of 24 bits in (0, 1), within 1e-7: quarters of a turn are taken off
    exactly, and what remains is at most an eighth. The library's sine needs memory for a stack."""
    quarter = tl.floor(v * 4.0 + 0.5)
    t = (v - quarter * 0.25) * 6.283185307179586
    s = t * t
    cos = 1.0 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320))))
    sin = t * (1.0 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880)))))
    q = quarter.to(tl.int32)
    odd = (q & 1) != 0
    x = tl.where(odd, sin, cos)
    y = tl.where(odd, cos, sin)
    x = tl.where(((q + 1) & 2) != 0, -x, x)
    y = tl.where((q & 2) != 0, -y, y)
    return x, y


@triton.jit(do_not_specialize=["seed", "place", "law", "first", "n"])
def draws(
    out,
    index_ptr,
    told,
    live,
    seed: tl.int64,
    place: tl.int64,
    law: tl.int64,
    first: tl.int64,
    n: tl.int64,
    sizes,
    steps,
    SIZE: tl.constexpr,
    KIND: tl.constexpr,
):
    """n draws into `out`, one after another, of the elements with the indices of index_ptr (int64);
    with None, of those along axes of `sizes` in C order, from the last to the first, a step along
    which adds `steps` to the index."""
    seed, place, law, first = heard(told, live, seed, place, law, first)
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE).to(tl.int64)
    inside = at < n
    if index_ptr is not None:
        index = tl.load(index_ptr + at, mask=inside, other=0)
    else:
        index = at * 0 + first
        rest = at
        for axis in tl.static_range(len(sizes)):
            if axis == len(sizes) - 1:
                i = rest
            else:
                i = rest % sizes[axis]
                rest = rest // sizes[axis]
            index += i * steps[axis]
    block = index >> 2
    low = block.to(tl.uint32)
    zero = low ^ low
    high = ((block >> 32) & 255).to(tl.uint32) + ((law >> 48) & 0xFFFF).to(tl.uint32) * 256
    w0, w1, w2, w3 = philox(
        low, high + 0x20000000, zero + place.to(tl.uint32), zero + (place >> 32).to(tl.uint32),
        seed.to(tl.uint32), (seed >> 32).to(tl.uint32),
    )  # fmt: skip
    mirror = ((law >> 38) & 1) != 0
    second = (index & 2) != 0
    odd = (index & 1) != 0
    u = tl.where(second, w2, w0)
    v = tl.where(second, w3, w1)
    if KIND == 0:
        word = tl.where(odd, v, u)
        y = tl.where(mirror, word ^ 0xFFFFFFFF, word).to(tl.int64)
    else:
        cos, sin = _turned(_uniform(v))
        y = tl.sqrt_rn(-2.0 * tl.log(_uniform(u))) * tl.where(odd, sin, cos)
        y = tl.where(mirror, -y, y)
    tl.store(out + at, y, mask=inside)
