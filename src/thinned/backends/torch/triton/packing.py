"""Keep bits as they are drawn: packed, one bit an element, in rows."""

import triton
import triton.language as tl

from thinned.backends.torch.triton.bits import heard, kept_from

__all__ = ["rows_of_words"]


@triton.jit
def _until(w, left):
    """The word with the bits from number `left` on cleared."""
    n = tl.minimum(tl.maximum(left, 0), 32)
    part = (1 << tl.minimum(n, 31).to(tl.uint32)) - 1
    return w & tl.where(n == 32, 0xFFFFFFFF, part).to(tl.uint32)


@triton.jit(do_not_specialize=["seed", "place", "law", "first", "columns", "groups"])
def rows_of_words(
    out,
    told,
    live,
    seed: tl.int64,
    place: tl.int64,
    law: tl.int64,
    first: tl.int64,
    columns: tl.int64,
    groups: tl.int64,
    total: tl.int64,
    sizes,
    steps,
    BLOCKS: tl.constexpr,
    MOVED: tl.constexpr,
    SHARED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """out : int32, rows of 4 `groups` words, `total` groups in all; the rows in C order along axes
    of `sizes`, from the last to the first, a step along which adds `steps` to the index. Bits
    behind the `columns` of a row are 0. SHARED : a row has one draw, and its bits are all alike."""
    seed, place, law, first = heard(told, live, seed, place, law, first)
    group = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS).to(tl.int64)
    rest = group * 0
    column = group * 128
    if len(sizes) > 0:
        rest = group // groups
        column = column - rest * groups * 128
    index = first + (column * 0 if SHARED else column)
    for axis in tl.static_range(len(sizes)):
        i = rest % sizes[axis]
        rest = rest // sizes[axis]
        index += i * steps[axis]
    left = tl.minimum(tl.maximum(columns.to(tl.int64) - column, 0), 128).to(tl.int32)
    w0, w1, w2, w3 = kept_from(
        index, seed, place, law, MOVED, MOVED and not SHARED,
        CHUNK,
    )  # fmt: skip
    if SHARED:
        w0 = (0 - (w0 & 1)).to(tl.uint32)
        w1 = w0
        w2 = w0
        w3 = w0
    w0 = _until(w0, left)
    w1 = _until(w1, left - 32)
    w2 = _until(w2, left - 64)
    w3 = _until(w3, left - 96)
    w = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (BLOCKS * 4,))
    start = tl.program_id(0).to(tl.int64) * (BLOCKS * 4)
    at = tl.arange(0, BLOCKS * 4)
    tl.store(out + start + at, w.to(tl.int32, bitcast=True), mask=start + at < total * 4)
