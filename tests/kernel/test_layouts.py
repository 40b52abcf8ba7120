"""Arrays of every length, and of every layout that strides can say."""

from itertools import combinations

import numpy as np
import pytest

import thinned
from thinned import reference
from thinned.backends.numpy import backend

from .against import (
    AT,
    SOME_P,
    TYPES,
    assert_applied,
    assert_dropped,
    assert_same,
    draw,
    expected,
    numbers,
)

LENGTHS = (
    *range(20), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 511, 1000,
    1023, 1024, 1025, 2047, 2048, 2049, 3000, 5001,
)  # fmt: skip
# Element 2^39 is the first of block 2^32; 2^47 is where the spec ends.
STARTS = (0, 1, 5, 64, 127, 128, 1000, 2**32 - 700, 2**32, 2**39 - 900, 2**40 + 3, 2**47 - 6000)

over_types = pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)


def subsets(axes):
    return [s for k in range(axes + 1) for s in combinations(range(axes), k)]


def layouts(x):
    """Arrays of x's values that lie differently in memory, by name."""
    axes = x.ndim
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    wide[(slice(1, None, 2),) * axes] = x
    rows = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    rows[..., 2:-1] = x
    bytes_off = np.zeros(x.nbytes + 1, np.uint8)
    off = bytes_off[1:].view(x.dtype).reshape(x.shape)
    off[...] = x
    backwards = (slice(None, None, -1),) * axes
    last = (slice(None, None, -1),) + (slice(None),) * (axes - 1)
    found = {
        "in C order": x,
        "in Fortran order": np.asfortranarray(x),
        "with gaps": wide[(slice(1, None, 2),) * axes],
        "in padded rows": rows[..., 2:-1],
        "backwards": x[backwards].copy()[backwards],
        "rows backwards": x[last].copy()[last],
        "at an odd address": off,
    }
    if axes > 2:
        found["channels last"] = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
        found["axes swapped"] = np.swapaxes(np.swapaxes(x, 0, -1).copy(), 0, -1)
    return found


@over_types
def test_contiguous_arrays_of_any_length(kernel_name, dtype):
    for i, n in enumerate(LENGTHS):
        for j in range(3):
            window = thinned.Window(STARTS[(i + 4 * j) % len(STARTS)])
            p = SOME_P[(i + j) % len(SOME_P)]
            x = numbers(n, dtype, seed=i)
            off = dtype.itemsize * (i % 9)
            assert_dropped(x, p, window=window, mirror=bool((i + j) % 2), misaligned=off)


@over_types
@pytest.mark.parametrize("shape", [(5, 6, 7), (3, 40, 33), (2, 3, 5, 17)], ids=str)
def test_shared_axes_of_every_combination(kernel_name, dtype, shape):
    arrays = list(layouts(numbers(shape, dtype)).values())
    for i, shared in enumerate(subsets(len(shape))):
        for x in (arrays[0], arrays[i % len(arrays)], arrays[(i + 4) % len(arrays)]):
            assert_dropped(x, SOME_P[i % len(SOME_P)], shared, mirror=bool(i % 2))


@over_types
@pytest.mark.parametrize("shape", [(60,), (7, 9), (3, 50, 70), (2, 3, 4, 9, 5)], ids=str)
def test_layouts_of_every_kind(kernel_name, dtype, shape):
    for i, x in enumerate(layouts(numbers(shape, dtype)).values()):
        assert_dropped(x, SOME_P[i % len(SOME_P)])
        assert_applied(x, draw(shape, 0.3, len(shape) - 1), 1.75, -0.25)


@over_types
def test_rows_long_enough_for_the_fused_pass(kernel_name, dtype):
    x = numbers((3, 6000), dtype)
    for array in (x, x[:, 3:5001], x[::2], x[::-1]):
        assert_dropped(array, 0.5)
        assert_dropped(array, 0.2, mirror=True)
        assert_dropped(array, 0.7, shared_axes=0)


@over_types
def test_arrays_larger_than_any_cache(kernel_name, dtype):
    # From 24 MB on stores pass the cache by, which asks for aligned memory: rows that begin at odd
    # addresses, as the fields of packed records do, have to go another way.
    rows, columns = 1300, 26 * 2**20 // (1300 * dtype.itemsize)
    x = np.ones((rows, columns), dtype)
    want = np.where(reference.keep(*draw(x.shape, 0.5)), dtype.type(2), dtype.type(0))
    for off, gap in [(0, 0), (dtype.itemsize, 3 * dtype.itemsize), (0, 1), (1, 0)]:
        stride = columns * dtype.itemsize + gap
        memory = np.full(off + rows * stride, 0xA5, np.uint8)
        out = np.ndarray(x.shape, dtype, memory, off, (stride, dtype.itemsize))
        thinned.dropout(x, 0.5, AT, out=out)
        assert (out == want).all()
        assert (memory[off:].reshape(rows, stride)[:, stride - gap :] == 0xA5).all() or gap == 0
        assert (memory[:off] == 0xA5).all()


@over_types
def test_a_broadcast_input(kernel_name, dtype):
    for shape, lengths in [((3, 1, 40), (3, 5, 40)), ((1,), (500,)), ((1, 9), (300, 9))]:
        x = np.broadcast_to(numbers(shape, dtype), lengths)
        backend.require_floating("apply", x)
        d = draw(lengths, 0.5)
        assert_same(backend.apply(x, d, 2.0, 0.0, None), expected(x, d, 2.0))


@over_types
@pytest.mark.parametrize("shift", [1, 3, 16, 1500])
def test_out_may_overlap_x_in_any_way(kernel_name, dtype, shift):
    for p in (0.5, 0.1):
        want = thinned.dropout(numbers(4000, dtype), p, AT)
        for x_first in (True, False):
            memory = numbers(4000 + shift, dtype)
            low, up = memory[:4000], memory[shift:]
            x, out = (low, up) if x_first else (up, low)
            x[...] = numbers(4000, dtype)
            thinned.dropout(x, p, AT, out=out)
            assert_same(out, want)
        memory = numbers(4000, dtype)
        thinned.dropout(memory, p, AT, out=memory[::-1])
        assert_same(memory[::-1], want)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_the_other_byte_order(kernel_name, name):
    swapped = TYPES[name].newbyteorder()
    native = numbers((5, 300), TYPES[name], strange=False)
    fill = numbers((5, 300), TYPES[name], seed=1, strange=False)
    d = draw(native.shape, 0.5)
    backend.require_floating("apply", native)
    backend.require_floating("apply", native.astype(swapped))
    for value in (0.0, 0.5, fill, fill.astype(swapped), fill[0]):
        want = expected(native, d, 2.0, value).astype(swapped)
        assert_same(backend.apply(native.astype(swapped), d, 2.0, value, None), want)
        x = native.astype(swapped)
        assert_same(backend.apply(x, d, 2.0, value, x), want)
    # Both orders may meet: the values count.
    out = np.zeros(native.shape, swapped)
    thinned.dropout(native, 0.5, AT, out=out)
    assert_same(out.astype(TYPES[name]), thinned.dropout(native, 0.5, AT))
    x = native.astype(swapped)
    out = np.zeros_like(native)
    thinned.dropout(x, 0.5, AT, out=out)
    assert_same(out, thinned.dropout(native, 0.5, AT))


@over_types
def test_no_axes_no_elements_and_one_element(kernel_name, dtype):
    for shape in [(), (1,), (1, 1, 1), (0,), (3, 0, 4), (0, 0)]:
        for p in (0.5, 0.0, 1.0):
            assert_dropped(numbers(shape, dtype), p)
    for seed in range(20):  # a scalar comes back as a scalar, kept or dropped
        at = AT.replace(seed=seed)
        y = thinned.dropout(dtype.type(3.0), 0.5, at)
        assert isinstance(y, dtype.type)
        assert float(y) == 6.0 * float(reference.keep_range(at, 2**31, 0, 1)[0])


def test_many_axes(kernel_name):
    shape = (2,) * 11 + (1,) * 20
    x = numbers(shape, np.dtype(np.float32))
    assert_dropped(x, 0.5)
    assert_dropped(x.T, 0.5)
    assert_dropped(x, 0.25, shared_axes=tuple(range(0, 31, 2)))
