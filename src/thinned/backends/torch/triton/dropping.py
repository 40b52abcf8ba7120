"""Dropout in one launch: `flat` for what lies in memory as it is indexed, `tiles` for all else."""

import triton
import triton.language as tl

from thinned.backends.torch.triton.bits import heard, kept_from, spread

__all__ = ["ARRAY", "NOTHING", "NUMBER", "flat", "tiles"]

# What dropped elements become: 0, one number, or the element of an array.
NOTHING, NUMBER, ARRAY = 0, 1, 2


@triton.jit
def _float64(word):
    return word.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def _values_heard(told, scale, fill):
    if told is not None:
        scale = tl.load(told + 3)
        fill = tl.load(told + 4)
    return scale, fill


@triton.jit
def _values(x, f, keep, scale, fill, UNIT: tl.constexpr, FILL: tl.constexpr):
    """fill + scale (x - fill) where kept, and else fill. Dropped elements are selected away.

    The arithmetic runs in binary32, or in binary64 for double; one rounding to x's type at the end.
    FILL as above; UNIT : the scale is 1, and kept elements are x as they are.
    """
    wide: tl.constexpr = tl.float64 if x.dtype == tl.float64 else tl.float32
    s = _float64(scale).to(wide)
    if FILL == 2:
        dropped = f
        from_ = f.to(wide)
    else:
        from_ = _float64(fill).to(wide)
        dropped = from_.to(x.dtype)
    if UNIT:
        y = tl.where(keep, x, dropped)
    elif FILL != 0:
        kept = (from_ + s * (x.to(wide) - from_)).to(x.dtype)
        y = tl.where(keep, tl.where(s == 1.0, x, kept), dropped)
    elif x.dtype == tl.float64:
        y = tl.where(keep, x * s, 0.0)
    else:
        # Selected as bits, before the conversion: else the compiler selects behind it, and takes
        # pairs of 16-bit numbers apart again for that.
        product = (x.to(tl.float32) * s).to(tl.int32, bitcast=True)
        y = tl.where(keep, product, 0).to(tl.float32, bitcast=True).to(x.dtype)
    return y


@triton.jit
def _read(pointer, at, inside, left, EVEN: tl.constexpr):
    """Elements of a program, 0 behind the end. A mask that may end anywhere allows no access of
    more than one element, and so whole programs have none."""
    if EVEN or left < at.numel:
        x = tl.load(pointer + at, mask=inside, other=0)
    else:
        x = tl.load(pointer + at)
    return x


@triton.jit(do_not_specialize=["seed", "place", "law", "scale", "fill", "first", "n"])
def flat(
    x_ptr,
    y_ptr,
    f_ptr,
    told,
    live,
    seed: tl.int64,
    place: tl.int64,
    law: tl.int64,
    scale: tl.int64,
    fill: tl.int64,
    first: tl.int64,
    n: tl.int64,
    EVEN: tl.constexpr,
    BLOCKS: tl.constexpr,
    MOVED: tl.constexpr,
    UNIT: tl.constexpr,
    FILL: tl.constexpr,
    EARLY: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """n elements in memory one after another, with indices first, first + 1, ...

    A program of one warp takes 128 BLOCKS of them. told, live : see `heard`. EVEN : n is a multiple
    of 16, and given in sixteens: so the compiler knows that no access of 16 bytes reaches over the
    end. MOVED : first may be no multiple of 128. EARLY : x is read before the bits are drawn, which
    hides the wait where registers hold both.
    """
    seed, place, law, first = heard(told, live, seed, place, law, first)
    scale, fill = _values_heard(told, scale, fill)
    SIZE: tl.constexpr = BLOCKS * 128
    start = tl.program_id(0).to(tl.int64) * SIZE
    if EVEN:
        left = tl.minimum(n - start // 16, SIZE // 16).to(tl.int32) * 16
    else:
        left = tl.minimum(n - start, SIZE).to(tl.int32)
    at = tl.arange(0, SIZE)
    inside = at < left
    if EARLY:
        x = _read(x_ptr + start, at, inside, left, EVEN)
    index = first + start + tl.arange(0, BLOCKS).to(tl.int64) * 128
    w0, w1, w2, w3 = kept_from(index, seed, place, law, MOVED, MOVED, CHUNK)
    keep = tl.reshape(spread(w0, w1, w2, w3, BLOCKS), (SIZE,))
    if not EARLY:
        x = _read(x_ptr + start, at, inside, left, EVEN)
    f = x
    if FILL == 2:
        f = _read(f_ptr + start, at, inside, left, EVEN)
    y = _values(x, f, keep, scale, fill, UNIT, FILL)
    if EVEN or left < SIZE:
        tl.store(y_ptr + start + at, y, mask=inside)
    else:
        tl.store(y_ptr + start + at, y)


@triton.jit(do_not_specialize=["seed", "place", "law", "scale", "fill", "first"])
def tiles(
    x_ptr,
    y_ptr,
    f_ptr,
    told,
    live,
    seed: tl.int64,
    place: tl.int64,
    law: tl.int64,
    scale: tl.int64,
    fill: tl.int64,
    first: tl.int64,
    rows,
    columns,
    row_step,
    x_row,
    x_column,
    y_row,
    y_column,
    f_row,
    f_column,
    sizes,
    steps,
    x_steps,
    y_steps,
    f_steps,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SHARED: tl.constexpr,
    MOVED: tl.constexpr,
    NEXT: tl.constexpr,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    FILL: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """An array of any strides, placed in any way. A program takes ROWS x COLUMNS elements.

    Along columns the index goes on by 1, along rows by row_step, along each of the other axes, of
    `sizes`, by `steps`; _row, _column and _steps say the same of memory. COLUMNS is at most 32, or
    a multiple of 128. SHARED : row_step is 0, and one row's bits are drawn for all of them.
    WIDE : a tile reaches over 2^31 elements of memory or more.
    """
    seed, place, law, first = heard(told, live, seed, place, law, first)
    scale, fill = _values_heard(told, scale, fill)
    rest = tl.program_id(0).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    column = (rest % across) * COLUMNS
    rest = rest // across
    down = tl.cdiv(rows, ROWS)
    row = (rest % down) * ROWS
    rest = rest // down
    index = first + column
    x_from = row * x_row + column * x_column
    y_from = row * y_row + column * y_column
    f_from = row * f_row + column * f_column
    for axis in tl.static_range(len(sizes)):
        i = rest % sizes[axis]
        rest = rest // sizes[axis]
        index += i * steps[axis]
        x_from += i * x_steps[axis]
        y_from += i * y_steps[axis]
        f_from += i * f_steps[axis]
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    inside = (i < rows - row)[:, None] & (j < columns - column)[None, :]
    if WIDE:
        i = i.to(tl.int64)
        j = j.to(tl.int64)
    x = tl.load(
        x_ptr + x_from + (i * x_row)[:, None] + (j * x_column)[None, :], mask=inside, other=0
    )
    DRAWN: tl.constexpr = 1 if SHARED else ROWS
    RUN: tl.constexpr = COLUMNS // 128 if COLUMNS >= 128 else 1
    block = tl.arange(0, DRAWN * RUN).to(tl.int64)
    index += (row + block // RUN) * row_step + (block % RUN) * 128
    w0, w1, w2, w3 = kept_from(index, seed, place, law, MOVED, NEXT, CHUNK)
    if COLUMNS >= 128:
        keep = tl.reshape(spread(w0, w1, w2, w3, DRAWN * RUN), (DRAWN, COLUMNS))
    else:
        bit = tl.full((COLUMNS,), 1, tl.uint32) << tl.arange(0, COLUMNS).to(tl.uint32)
        keep = (w0[:, None] & bit[None, :]) != 0
    keep = tl.broadcast_to(keep, (ROWS, COLUMNS))
    f = x
    if FILL == 2:
        f = tl.load(
            f_ptr + f_from + (i * f_row)[:, None] + (j * f_column)[None, :], mask=inside, other=0
        )
    y = _values(x, f, keep, scale, fill, UNIT, FILL)
    tl.store(y_ptr + y_from + (i * y_row)[:, None] + (j * y_column)[None, :], y, mask=inside)
