"""Rows of a residual stream in Triton: z = residual + dropout(x + bias), and the norm of z."""

import triton
import triton.language as tl

from thinned.backends.torch.triton.bits import heard, kept_from, spread

__all__ = ["LAYER", "RMS", "SUM", "backward", "forward"]

# What becomes of z: nothing, or a norm with or without a mean.
SUM, LAYER, RMS = 0, 1, 2


@triton.jit
def _float64(word):
    return word.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def _kept(
    row, column, told, live, seed, place, law, first, sizes, steps,
    WIDTH: tl.constexpr, MOVED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Keep bits of WIDTH elements of a row, from `column` on. The rows lie along axes of `sizes`,
    from the last to the first, a step along which adds `steps` to the index."""
    seed, place, law, first = heard(told, live, seed, place, law, first)
    index = first + column
    rest = row
    for axis in tl.static_range(len(sizes)):
        index += rest % sizes[axis] * steps[axis]
        rest = rest // sizes[axis]
    BLOCKS: tl.constexpr = WIDTH // 128
    at = index + tl.arange(0, BLOCKS).to(tl.int64) * 128
    w0, w1, w2, w3 = kept_from(at, seed, place, law, MOVED, MOVED, CHUNK)
    return tl.reshape(spread(w0, w1, w2, w3, BLOCKS), (WIDTH,))


@triton.jit(do_not_specialize=["seed", "place", "law", "scale", "first", "eps"])
def forward(
    x_ptr, bias_ptr, residual_ptr, z_ptr, weight_ptr, shift_ptr, out_ptr, mean_ptr, rstd_ptr,
    told, live, seed: tl.int64, place: tl.int64, law: tl.int64, scale: tl.int64, first: tl.int64,
    sizes, steps, columns, eps: tl.int64, WIDTH: tl.constexpr, NORM: tl.constexpr,
    MOVED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A row to a program or, where nothing is normed, a part of one.

    Arrays lie in C order. bias, residual, weight and shift may be None; weight, shift, mean and
    rstd are numbers of the arithmetic, and eps the bits of a binary64. Each step of the sum is
    rounded to its type.
    """
    row = tl.program_id(0).to(tl.int64)
    start = row * 0
    if NORM == 0:
        parts = tl.cdiv(columns, WIDTH)
        start = row % parts * WIDTH
        row = row // parts
    column = start + tl.arange(0, WIDTH)
    inside = column < columns
    at = row * columns + column
    narrow = x_ptr.dtype.element_ty
    sums = z_ptr.dtype.element_ty
    wide: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    h = tl.load(x_ptr + at, mask=inside, other=0.0).to(wide)
    if bias_ptr is not None:
        h += tl.load(bias_ptr + column, mask=inside, other=0.0).to(wide)
        h = h.to(narrow).to(wide)
    kept = _kept(row, start, told, live, seed, place, law, first, sizes, steps, WIDTH, MOVED, CHUNK)
    if told is not None:
        scale = tl.load(told + 3)
    h = tl.where(kept, h * _float64(scale).to(wide), 0.0).to(narrow)
    if residual_ptr is not None:
        beside = tl.load(residual_ptr + at, mask=inside, other=0.0).to(wide)
        z = (beside + h.to(wide)).to(sums)
    else:
        z = h.to(sums)
    tl.store(z_ptr + at, z, mask=inside)
    if NORM != 0:
        v = tl.where(inside, z.to(wide), 0.0)
        mean = tl.sum(v * 0.0, 0)
        if NORM == 1:
            mean = tl.sum(v, 0) / columns
            v = tl.where(inside, v - mean, 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(v * v, 0) / columns + _float64(eps).to(wide))
        y = v * rstd
        if weight_ptr is not None:
            y = y * tl.load(weight_ptr + column, mask=inside, other=0.0)
        if shift_ptr is not None:
            y = y + tl.load(shift_ptr + column, mask=inside, other=0.0)
        tl.store(out_ptr + at, y.to(narrow), mask=inside)
        tl.store(mean_ptr + row, mean)
        tl.store(rstd_ptr + row, rstd)


@triton.jit(do_not_specialize=["seed", "place", "law", "scale", "first"])
def backward(
    g_ptr, z_ptr, more_ptr, weight_ptr, mean_ptr, rstd_ptr, dz_ptr, dx_ptr, dweight_ptr, dshift_ptr,
    told, live, seed: tl.int64, place: tl.int64, law: tl.int64, scale: tl.int64, first: tl.int64,
    sizes, steps, columns, rows, each, WIDTH: tl.constexpr, NORM: tl.constexpr, MOVED: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """`each` rows to a program, whose sums over them are a row of dweight and dshift.

    more : the gradient of z itself, or None. dz is rounded once, and dx of it before it is dropped.
    """
    part = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    inside = column < columns
    wide: tl.constexpr = tl.float64 if g_ptr.dtype.element_ty == tl.float64 else tl.float32
    narrow = g_ptr.dtype.element_ty
    dweight = tl.zeros((WIDTH,), wide)
    dshift = tl.zeros((WIDTH,), wide)
    if told is not None:
        scale = tl.load(told + 3)
    for one in range(part * each, tl.minimum(part * each + each, rows)):
        row = (part * 0 + one).to(tl.int64)
        at = row * columns + column
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(wide)
        z = tl.load(z_ptr + at, mask=inside, other=0.0).to(wide)
        rstd = tl.load(rstd_ptr + row)
        h = tl.where(inside, z - tl.load(mean_ptr + row), 0.0) * rstd
        v = g
        if weight_ptr is not None:
            v = g * tl.load(weight_ptr + column, mask=inside, other=0.0)
        dweight += g * h
        dshift += g
        dz = v - h * (tl.sum(v * h, 0) / columns)
        if NORM == 1:
            dz = dz - tl.sum(v, 0) / columns
        dz = dz * rstd
        if more_ptr is not None:
            dz += tl.load(more_ptr + at, mask=inside, other=0.0).to(wide)
        dz = dz.to(dz_ptr.dtype.element_ty)
        tl.store(dz_ptr + at, dz, mask=inside)
        kept = _kept(row, 0, told, live, seed, place, law, first, sizes, steps, WIDTH, MOVED, CHUNK)
        dx = dz.to(narrow).to(wide) * _float64(scale).to(wide)
        tl.store(dx_ptr + at, tl.where(kept, dx, 0.0).to(narrow), mask=inside)
    sums = part.to(tl.int64) * columns + column
    tl.store(dweight_ptr + sums, dweight, mask=inside)
    tl.store(dshift_ptr + sums, dshift, mask=inside)
