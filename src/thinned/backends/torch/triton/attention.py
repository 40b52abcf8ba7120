"""Flash attention with dropout in Triton: no weights in memory, and of their mask packed words.

Scores are in base 2. A program takes some rows, or some keys, of one head; axis 1 of the grid are
the heads of a group, whose words are there. With P = softmax(s), D its dropout, G the output's
gradient and delta = rowsum(G o), which is rowsum(P D(G v')) too:

    o = D(P) v,  dv = D(P)' G,  ds = P (D(G v') - delta),  dq = scale ds k,  dk = scale ds' q.
"""

import triton
import triton.language as tl

__all__ = ["ADDED", "BOOLEAN", "NO_MASK", "forward", "keys_backward", "rows_backward"]

# The meaning of a mask: none, which keys take part, or what is added to the scores.
NO_MASK, BOOLEAN, ADDED = 0, 1, 2

# Arguments that change from call to call and need no other kernel.
COUNTS = ["first_sample", "first_head", "heads", "all_heads", "group", "L", "S", "width"]


@triton.jit
def _tile(pointer, first, step, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """ROWS rows of a matrix from `first` on, with steps (step, 1); 0 outside of it.

    Within a tile offsets are of 32 bits: of 64, pointers would fill the registers.
    """
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    inside = (first + i < rows)[:, None] & (j < columns)[None, :]
    at = pointer + first.to(tl.int64) * step + (i[:, None] * step + j[None, :])
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def _put(pointer, first, step, rows, columns, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    inside = (first + i < rows)[:, None] & (j < columns)[None, :]
    at = pointer + first.to(tl.int64) * step + (i[:, None] * step + j[None, :])
    tl.store(at, x.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _scores(
    q, k, mask_ptr, row, column, L, S, scale, row_step, column_step,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of rows and keys from `row` and `column` on, -inf where they have nothing to do with
    each other."""
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    takes = (row + i < L)[:, None] & (column + j < S)[None, :]
    if MASK != 0:
        start = row.to(tl.int64) * row_step + column.to(tl.int64) * column_step
        at = mask_ptr + start + (i[:, None] * row_step + j[None, :] * column_step)
        given = tl.load(at, mask=takes, other=0)
        if MASK == 1:
            takes = takes & (given != 0)
        else:
            s += given.to(tl.float32) * 1.4426950408889634
    if CAUSAL:
        takes = takes & ((row + i)[:, None] >= (column + j)[None, :])
    return tl.where(takes, s, float("-inf"))


@triton.jit
def _kept(words_ptr, row, column, L, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The keep bits of rows and keys from `row` and `column` on; rows of `width` words."""
    i = tl.arange(0, ROWS)
    word = tl.arange(0, COLUMNS // 32)
    at = words_ptr + row.to(tl.int64) * width + column // 32 + (i[:, None] * width + word[None, :])
    w = tl.load(at, mask=(row + i < L)[:, None] & (column // 32 + word < width)[None, :], other=0)
    bit = tl.full((32,), 1, tl.int32) << tl.arange(0, 32)
    return tl.reshape((w[:, :, None] & bit[None, None, :]) != 0, (ROWS, COLUMNS))


@triton.jit
def _head(first_sample, first_head, heads):
    """(sample, head) of this program, and its number in the group."""
    z = tl.program_id(1).to(tl.int64)
    return first_sample + z // heads, first_head + z % heads, z


@triton.jit(do_not_specialize=COUNTS)
def forward(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, mask_ptr, words_ptr,
    q_sample, q_head, q_row, k_sample, k_head, k_row, v_sample, v_head, v_row,
    out_sample, out_head, out_row, mask_sample, mask_head, mask_row, mask_column,
    first_sample, first_head, heads, all_heads, group, L, S, width, scale, times,
    E: tl.constexpr, V: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out, and lse: the base 2 logarithm of the sums of a row, +inf where there is nothing.

    Steps are in elements; along the last axis all but the mask step by 1. heads : of the group
    along its axis 1 of the grid. group : heads of q for one of k and v. E, V : widths of a head, D
    and DV : powers of two around them. scale : in base 2. times : of kept weights.
    """
    sample, head, z = _head(first_sample, first_head, heads)
    start = tl.program_id(0) * ROWS
    q = _tile(q_ptr + sample * q_sample + head * q_head, start, q_row, L, E, ROWS, D)
    k_at = k_ptr + sample * k_sample + head // group * k_head
    v_at = v_ptr + sample * v_sample + head // group * v_head
    mask_at = mask_ptr + sample * mask_sample + head * mask_head
    words_at = words_ptr + z * L * width
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    sums = tl.zeros((ROWS,), tl.float32)
    acc = tl.zeros((ROWS, DV), tl.float32)
    end = S
    if CAUSAL:
        end = tl.minimum(S, start + ROWS)
    for n in range(0, end, COLUMNS):
        column = start * 0 + n  # a tensor in the interpreter too
        k = _tile(k_at, column, k_row, S, E, COLUMNS, D)
        s = _scores(
            q, k, mask_at, start, column, L, S, scale, mask_row, mask_column,
            ROWS, COLUMNS, MASK, CAUSAL, PRECISION,
        )  # fmt: skip
        top = tl.maximum(m, tl.max(s, 1))
        # A row that has nothing yet keeps its -inf, and makes no NaN of it.
        safe = tl.where(top == float("-inf"), 0.0, top)
        weights = tl.exp2(s - safe[:, None])
        shrunk = tl.exp2(m - safe)
        sums = sums * shrunk + tl.sum(weights, 1)
        kept = _kept(words_at, start, column, L, width, ROWS, COLUMNS)
        weights = tl.where(kept, weights, 0.0)
        v = _tile(v_at, column, v_row, S, V, COLUMNS, DV)
        acc = acc * shrunk[:, None]
        acc += tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        m = top
    nothing = sums == 0.0
    sums = tl.where(nothing, 1.0, sums)
    out_at = out_ptr + sample * out_sample + head * out_head
    _put(out_at, start, out_row, L, V, acc * (times / sums)[:, None], ROWS, DV)
    row = start + tl.arange(0, ROWS)
    lse = tl.where(nothing, float("inf"), m + tl.log2(sums))
    tl.store(lse_ptr + (sample * all_heads + head) * L + row, lse, mask=row < L)


@triton.jit
def _gradient_of_scores(
    q, k, v, g, lse, delta, mask_ptr, words_ptr, row, column, L, S, width, scale, row_step,
    column_step, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASK: tl.constexpr,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Kept weights, and the gradient of scores; both lack the factor of kept weights."""
    s = _scores(
        q, k, mask_ptr, row, column, L, S, scale, row_step, column_step,
        ROWS, COLUMNS, MASK, CAUSAL, PRECISION,
    )  # fmt: skip
    weights = tl.exp2(s - lse[:, None])
    kept = _kept(words_ptr, row, column, L, width, ROWS, COLUMNS)
    dp = tl.dot(g, tl.trans(v), input_precision=PRECISION)
    ds = weights * (tl.where(kept, dp, 0.0) - delta[:, None])
    return tl.where(kept, weights, 0.0), ds


@triton.jit(do_not_specialize=COUNTS)
def keys_backward(
    q_ptr, k_ptr, v_ptr, g_ptr, lse_ptr, delta_ptr, mask_ptr, words_ptr, dk_ptr, dv_ptr,
    q_sample, q_head, q_row, k_sample, k_head, k_row, v_sample, v_head, v_row,
    g_sample, g_head, g_row, mask_sample, mask_head, mask_row, mask_column,
    first_sample, first_head, heads, all_heads, group, L, S, width, scale, times, dk_times,
    E: tl.constexpr, V: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk and dv, in C order and one for each head of q. delta : over the factor of kept weights,
    which is `times`. dk_times : that, and the scale."""
    sample, head, z = _head(first_sample, first_head, heads)
    start = tl.program_id(0) * COLUMNS
    k = _tile(k_ptr + sample * k_sample + head // group * k_head, start, k_row, S, E, COLUMNS, D)
    v = _tile(v_ptr + sample * v_sample + head // group * v_head, start, v_row, S, V, COLUMNS, DV)
    q_at = q_ptr + sample * q_sample + head * q_head
    g_at = g_ptr + sample * g_sample + head * g_head
    mask_at = mask_ptr + sample * mask_sample + head * mask_head
    words_at = words_ptr + z * L * width
    whole = sample * all_heads + head
    dk = tl.zeros((COLUMNS, D), tl.float32)
    dv = tl.zeros((COLUMNS, DV), tl.float32)
    begin = 0
    if CAUSAL:
        begin = start // ROWS * ROWS
    for r in range(begin, L, ROWS):
        first = start * 0 + r
        row = r + tl.arange(0, ROWS)
        q = _tile(q_at, first, q_row, L, E, ROWS, D)
        g = _tile(g_at, first, g_row, L, V, ROWS, DV)
        lse = tl.load(lse_ptr + whole * L + row, mask=row < L, other=float("inf"))
        delta = tl.load(delta_ptr + whole * L + row, mask=row < L, other=0.0)
        kept, ds = _gradient_of_scores(
            q, k, v, g, lse, delta, mask_at, words_at, first, start, L, S, width, scale,
            mask_row, mask_column, ROWS, COLUMNS, MASK, CAUSAL, PRECISION,
        )  # fmt: skip
        dv += tl.dot(tl.trans(kept).to(g.dtype), g, input_precision=PRECISION)
        dk += tl.dot(tl.trans(ds).to(q.dtype), q, input_precision=PRECISION)
    _put(dk_ptr + whole * S * E, start, E, S, E, dk * dk_times, COLUMNS, D)
    _put(dv_ptr + whole * S * V, start, V, S, V, dv * times, COLUMNS, DV)


@triton.jit(do_not_specialize=COUNTS)
def rows_backward(
    q_ptr, k_ptr, v_ptr, g_ptr, lse_ptr, delta_ptr, mask_ptr, words_ptr, dq_ptr,
    q_sample, q_head, q_row, k_sample, k_head, k_row, v_sample, v_head, v_row,
    g_sample, g_head, g_row, mask_sample, mask_head, mask_row, mask_column,
    dq_sample, dq_head, dq_row,
    first_sample, first_head, heads, all_heads, group, L, S, width, scale, dq_times,
    E: tl.constexpr, V: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq, in any steps. Arguments as of `keys_backward`."""
    sample, head, z = _head(first_sample, first_head, heads)
    start = tl.program_id(0) * ROWS
    row = start + tl.arange(0, ROWS)
    q = _tile(q_ptr + sample * q_sample + head * q_head, start, q_row, L, E, ROWS, D)
    g = _tile(g_ptr + sample * g_sample + head * g_head, start, g_row, L, V, ROWS, DV)
    k_at = k_ptr + sample * k_sample + head // group * k_head
    v_at = v_ptr + sample * v_sample + head // group * v_head
    mask_at = mask_ptr + sample * mask_sample + head * mask_head
    words_at = words_ptr + z * L * width
    whole = sample * all_heads + head
    lse = tl.load(lse_ptr + whole * L + row, mask=row < L, other=float("inf"))
    delta = tl.load(delta_ptr + whole * L + row, mask=row < L, other=0.0)
    dq = tl.zeros((ROWS, D), tl.float32)
    end = S
    if CAUSAL:
        end = tl.minimum(S, start + ROWS)
    for n in range(0, end, COLUMNS):
        column = start * 0 + n
        k = _tile(k_at, column, k_row, S, E, COLUMNS, D)
        v = _tile(v_at, column, v_row, S, V, COLUMNS, DV)
        _, ds = _gradient_of_scores(
            q, k, v, g, lse, delta, mask_at, words_at, start, column, L, S, width, scale,
            mask_row, mask_column, ROWS, COLUMNS, MASK, CAUSAL, PRECISION,
        )  # fmt: skip
        dq += tl.dot(ds.to(k.dtype), k, input_precision=PRECISION)
    dq_at = dq_ptr + sample * dq_sample + head * dq_head
    _put(dq_at, start, dq_row, L, E, dq * dq_times, ROWS, D)
