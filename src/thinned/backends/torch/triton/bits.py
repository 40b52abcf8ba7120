"""Keep bits in Triton: Philox, the planes, and the way from a block's words to its elements.

A thread draws a block of 128 lanes: four words, plane after plane, with a mask of the lanes that
are still open. Threads of a warp stop together, when none has an open lane.
"""

import triton
import triton.language as tl

__all__ = ["heard", "kept_from", "moved_on", "philox", "spread"]


@triton.jit
def heard(told, live, seed, place, law, first):
    """The words of words.py that say which draws, int64: as given, or as the tensor `told` has them
    on the device. live : a tensor that holds the step, int64, in the place of theirs; or None."""
    if told is not None:
        seed = tl.load(told)
        place = tl.load(told + 1)
        law = tl.load(told + 2)
        first = tl.load(told + 5)
    # The interpreter holds a number between 2^31 and 2^32 in 32 bits and calls it 64, which a sum
    # makes it.
    none = tl.full((), 0, tl.int64)
    place = place + none
    if live is not None:
        place = (place & 0xFFFFFFFF) | (tl.load(live) << 32)
    return seed + none, place, law + none, first + none


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10. By products of 64 bits: one instruction each, where the high and the low half
    apart are two."""
    left: tl.constexpr = 0xD2511F53
    right: tl.constexpr = 0xCD9E8D57
    for _ in tl.static_range(10):
        a = c0.to(tl.uint64) * left
        b = c2.to(tl.uint64) * right
        c0 = (b >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (a >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = b.to(tl.uint32)
        c3 = a.to(tl.uint32)
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def drawn(b, seed, place, law, CHUNK: tl.constexpr):
    """Keep bits of the blocks b (int64): four words of uint32 each. The other arguments as words.py
    has them, int64. CHUNK : planes between two looks at whether a lane is open."""
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    site = place.to(tl.uint32)
    step = (place >> 32).to(tl.uint32)
    threshold = law.to(tl.uint32)
    planes = ((law >> 32) & 63).to(tl.int32)
    flip = (0 - ((law >> 38) & 1)).to(tl.uint32)
    low = b.to(tl.uint32)
    high = (b >> 32).to(tl.uint32) + ((law >> 48) & 0xFFFF).to(tl.uint32) * 256
    zero = low ^ low
    below0 = zero + (0 - ((law >> 39) & 1)).to(tl.uint32)
    below1 = below0
    below2 = below0
    below3 = below0
    open0 = zero | 0xFFFFFFFF
    open1 = open0
    open2 = open0
    open3 = open0
    j = 0
    more = planes > 0
    while more:
        stop = tl.minimum(j + CHUNK, planes)
        for plane in range(j, stop):
            u0, u1, u2, u3 = philox(low, high + plane * 0x1000000, zero + site, zero + step, k0, k1)
            one = (0 - ((threshold >> (31 - plane)) & 1)).to(tl.uint32)
            same = one ^ flip
            differs0 = open0 & (u0 ^ same)
            differs1 = open1 & (u1 ^ same)
            differs2 = open2 & (u2 ^ same)
            differs3 = open3 & (u3 ^ same)
            below0 |= differs0 & one
            below1 |= differs1 & one
            below2 |= differs2 & one
            below3 |= differs3 & one
            open0 ^= differs0
            open1 ^= differs1
            open2 ^= differs2
            open3 ^= differs3
        j = stop
        more = (j < planes) & (tl.max(open0 | open1 | open2 | open3, 0) != 0)
    every: tl.constexpr = 0xFFFFFFFF
    return below0 ^ every, below1 ^ every, below2 ^ every, below3 ^ every


@triton.jit
def _joined(a, b, n):
    """Bits n and on of two words, n below 32."""
    return (a >> n) | ((b << 1) << (31 - n))


@triton.jit
def moved_on(w0, w1, w2, w3, v0, v1, v2, v3, shift):
    """128 bits from bit `shift` of the first block on, which is below 128; v is the next block."""
    two = (shift & 64) != 0
    a0 = tl.where(two, w2, w0)
    a1 = tl.where(two, w3, w1)
    a2 = tl.where(two, v0, w2)
    a3 = tl.where(two, v1, w3)
    a4 = tl.where(two, v2, v0)
    a5 = tl.where(two, v3, v1)
    one = (shift & 32) != 0
    b0 = tl.where(one, a1, a0)
    b1 = tl.where(one, a2, a1)
    b2 = tl.where(one, a3, a2)
    b3 = tl.where(one, a4, a3)
    b4 = tl.where(one, a5, a4)
    n = (shift & 31).to(tl.uint32)
    return _joined(b0, b1, n), _joined(b1, b2, n), _joined(b2, b3, n), _joined(b3, b4, n)


@triton.jit
def kept_from(
    index, seed, place, law, MOVED: tl.constexpr, NEXT: tl.constexpr, CHUNK: tl.constexpr
):
    """Keep bits of the 128 elements from each index on (int64): four words each.

    MOVED : an index may be no multiple of 128. NEXT : the bits asked for may lie in two blocks.
    """
    block = index >> 7
    w0, w1, w2, w3 = drawn(block, seed, place, law, CHUNK)
    if MOVED:
        v0 = w0 ^ w0
        v1 = v0
        v2 = v0
        v3 = v0
        shift = (index & 127).to(tl.int32)
        if NEXT:  # noqa: SIM102 (known while it compiles, and the other only when it runs)
            if tl.max(shift, 0) != 0:
                v0, v1, v2, v3 = drawn(block + 1, seed, place, law, CHUNK)
        w0, w1, w2, w3 = moved_on(w0, w1, w2, w3, v0, v1, v2, v3, shift)
    return w0, w1, w2, w3


@triton.jit
def spread(w0, w1, w2, w3, BLOCKS: tl.constexpr):
    """The bits of words, as booleans in order: shape (BLOCKS, 128)."""
    w = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (BLOCKS, 4))
    bit = tl.full((32,), 1, tl.uint32) << tl.arange(0, 32).to(tl.uint32)
    return tl.reshape((w[:, :, None] & bit[None, None, :]) != 0, (BLOCKS, 128))
