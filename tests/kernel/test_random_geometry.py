"""Geometry that nobody thought of."""

import numpy as np
from hypothesis import given, settings, strategies as st

import thinned
from thinned import _native, kernel

from .against import TYPES, assert_applied, assert_drawn, draw, numbers

lengths = st.one_of(st.integers(0, 9), st.sampled_from([1, 1, 16, 64, 127, 130]))


@st.composite
def layouts(draw_, shape, dtype):
    """Numbers in this shape, with any order of axes in memory, gaps between them, any direction."""
    order = draw_(st.permutations(range(len(shape))))
    gaps = [draw_(st.integers(1, 3)) for _ in shape]
    memory = np.zeros([shape[axis] * gaps[axis] for axis in order], dtype)
    x = memory.transpose(np.argsort(order))
    x = x[(..., *(slice(None, None, gap) for gap in gaps))]
    x = x[(..., *(slice(None, None, -1 if draw_(st.booleans()) else 1) for _ in shape))]
    x[...] = numbers(shape, dtype, seed=draw_(st.integers(0, 2**32 - 1)))
    return x


@st.composite
def windows(draw_, shape, room):
    """Where an array may stand in a logical array of fewer than `room` elements, or None."""
    kind = draw_(st.sampled_from(["none", "leading", "inner"]))
    if kind == "none" or not shape:
        return None
    if kind == "leading":
        row = int(np.prod(shape[1:], dtype=object)) or 1
        return thinned.Window(draw_(st.integers(0, room // row - shape[0] - 1)))
    whole, left = [], room
    for n in reversed(shape):
        most = max(n + 1, min(left // 2**12, 2**20)) if left > 2**13 else n
        whole.insert(0, draw_(st.integers(max(n, 1), max(most, n, 1))))
        left //= whole[0]
    start = tuple(draw_(st.integers(0, w - n)) for n, w in zip(shape, whole, strict=True))
    return thinned.Window(start, tuple(whole))


@st.composite
def cases(draw_, room=2**47):
    dtype = TYPES[draw_(st.sampled_from(sorted(TYPES)))]
    shape = tuple(draw_(st.lists(lengths, max_size=4)))
    while np.prod(shape, dtype=object) > 20000:
        shape = shape[1:]
    shared = tuple(axis for axis in range(len(shape)) if draw_(st.booleans()))
    p = draw_(st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.5, 1.0, 2.0**-32])))
    at = thinned.Address(
        seed=draw_(st.integers(0, 2**64 - 1)),
        site=draw_(st.integers(0, 2**32 - 1)),
        step=draw_(st.integers(0, 2**32 - 2)),
        call=draw_(st.integers(0, 2**16 - 1)),
    )
    window = draw_(windows(shape, room))
    x = draw_(layouts(shape, dtype))
    kernel.use_kernel(draw_(st.sampled_from(_native.runnable())))
    return x, draw(shape, p, shared, window, draw_(st.booleans()), at)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(cases(), st.sampled_from([1.0, 2.0, 1.1]), st.data())
def test_any_array_anywhere(case, scale, data):
    x, d = case
    kind = data.draw(st.sampled_from(["zero", "number", "array"]))
    fill = {"zero": 0.0, "number": -1.7}.get(kind)
    if fill is None:
        fill = data.draw(layouts(x.shape, x.dtype))
    assert_applied(x, d, scale, fill, misaligned=data.draw(st.integers(0, 64)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases(room=2**42))
def test_any_words_and_noise(case):
    x, d = case
    assert_drawn(d, x)
