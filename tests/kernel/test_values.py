"""What becomes of the values: fills, scales, the ends of p, the mirror, numbers that are none."""

import numpy as np
import pytest

import thinned
from thinned import reference
from thinned.backends.numpy import backend

from .against import (
    AT,
    ENDS,
    SOME_P,
    TYPES,
    assert_applied,
    assert_dropped,
    assert_same,
    bits_of,
    draw,
    expected,
    numbers,
)

over_types = pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)

# The lowest value of SELU, numbers that a half type rounds, ties, overflows or loses, and the ends.
FILLS = (
    -1.7580993408473766,
    1.0,
    1 + 2.0**-11 + 2.0**-40,
    1 + 2.0**-8,
    70000.0,
    1e-9,
    1e39,
    -np.inf,
)


@over_types
@pytest.mark.parametrize("p", [*ENDS, *SOME_P])
def test_every_p(kernel_name, dtype, p):
    x = numbers((40, 70), dtype)
    for mirror in (False, True):
        assert_dropped(x, p, mirror=mirror)
        assert_dropped(x, p, shared_axes=0, mirror=mirror)
        assert_dropped(x, p, shared_axes=1, mirror=mirror)
        assert_dropped(numbers(5000, dtype), p, mirror=mirror)


def test_a_tiny_p_drops_what_lies_below_its_threshold(kernel_name):
    # In a million draws a few are as small as this; threshold 1 drops nothing but a draw of zero.
    n, t = 2**20, 2**14
    d = draw((n,), t / 2**32)
    keep = backend.keep(d)
    assert (keep == reference.keep(*d)).all()
    index = np.flatnonzero(~keep)
    assert 0 < index.size < 20
    for i in map(int, index):
        u = reference.uniform32(AT, i)
        at_it, above = (
            draw((1,), 0.5, window=thinned.Window(i)),
            draw((1,), 0.5, window=thinned.Window(i)),
        )
        assert backend.keep(at_it._replace(threshold=u)).all()
        assert not backend.keep(above._replace(threshold=u + 1)).any()


@over_types
@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_that_is_one_number(kernel_name, dtype, fill):
    for i, shape in enumerate([(3000,), (30, 41), ()]):
        x = numbers(shape, dtype)
        for scale in (1.0, 2.0, 1.1):
            assert_applied(x, draw(shape, 0.5), scale, fill)
            assert_applied(x, draw(shape, 0.3, tuple(range(i % 2, len(shape)))), scale, fill)


@over_types
def test_numbers_of_every_kind_are_a_fill(kernel_name, dtype):
    x = numbers(300, dtype)
    for fill in (
        0,
        3,
        -0.0,
        np.float32(0.1),
        np.float64(0.1),
        np.float16(0.1),
        np.array(0.1),
        dtype.type(2),
    ):
        assert_applied(x, draw((300,), 0.5), 1.5, fill)


@over_types
def test_a_fill_that_is_an_array(kernel_name, dtype):
    for shape in [(3000,), (30, 41), (3, 5, 60)]:
        x, f = numbers(shape, dtype), numbers(shape, dtype, seed=1)
        for array in (f, np.asfortranarray(f), f[0], f[..., :1], np.broadcast_to(f[:1], shape)):
            for shared in ((), 0):
                d = draw(shape, 0.5, shared)
                assert_applied(x, d, 1.0, array)  # zoneout: s = 1, the previous state where dropped
                assert_applied(x, d, 2.0, array)  # Mixout: f + s (x - f)
                assert_applied(np.asfortranarray(x), d, 1.25, array)


@over_types
def test_a_fill_of_another_type_is_taken_in_the_type_of_x(kernel_name, dtype):
    x = numbers(2000, dtype)
    for name, other in TYPES.items():
        f = numbers(2000, other, seed=2, strange=False) * other.type(
            1.001 if name != "float64" else 1e6
        )
        assert_applied(x, draw((2000,), 0.5), 1.5, f)


@over_types
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_out_may_be_the_fill_or_overlap_it(kernel_name, dtype, scale):
    n, shift = 4000, 5
    d = draw((n,), 0.5)
    x, f = numbers(n, dtype), numbers(n, dtype, seed=3)
    want = expected(x, d, scale, f)
    backend.require_floating("apply", x)
    state = f.copy()
    assert backend.apply(x, d, scale, state, state) is state  # a state that is brought up to date
    assert_same(state, want)
    memory = np.zeros(n + shift, dtype)
    for first, second in ((memory[:n], memory[shift:]), (memory[shift:], memory[:n])):
        first[...] = f
        assert_same(backend.apply(x, d, scale, first, second), want)
    inside = x.copy()
    assert_same(
        backend.apply(inside, d, scale, inside[::-1], inside), expected(x, d, scale, x[::-1])
    )


@over_types
def test_a_scale_of_one_keeps_every_bit(kernel_name, dtype):
    # Payloads and signs of NaN among them: numbers would lose them.
    x = numbers(20000, dtype)
    d = draw((20000,), 0.5)
    backend.require_floating("apply", x)
    keep = reference.keep(*d)
    for fill in (0.0, 0.5, numbers(20000, dtype, seed=4)):
        y = backend.apply(x, d, 1.0, fill, None)
        assert (bits_of(y)[keep] == bits_of(x)[keep]).all()
        dropped = np.broadcast_to(np.asarray(fill, dtype), x.shape)
        assert (bits_of(y)[~keep] == bits_of(dropped)[~keep]).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_number_of_a_half_type(kernel_name, name):
    x = np.arange(65536, dtype=np.uint16).view(TYPES[name])
    for scale in (2.0, 1.0 / 0.9, 1.0 + 2.0**-11, 2.0**-14, 3.0 * 2.0**-12, 2.0**-25, 1e4, -0.3):
        assert_applied(x, draw((65536,), 2.0**-32), scale)


@over_types
def test_dropped_infinities_and_nan_are_zero(kernel_name, dtype):
    for value in (np.nan, np.inf, -np.inf):
        x = np.full(3000, value, dtype)
        y = thinned.dropout(x, 0.5, AT)
        keep = thinned.keep_mask(3000, 0.5, AT)
        assert not bits_of(y)[~keep].any()
        assert not np.isfinite(y[keep].astype(np.float64)).any()


@over_types
def test_the_mirror_of_half_is_the_opposite(kernel_name, dtype):
    one = thinned.dropout(np.ones(5000, dtype), 0.5, AT)
    other = thinned.dropout(np.ones(5000, dtype), 0.5, AT, mirror=True)
    assert (one + other == 2).all()
