"""What becomes of values: scale, rounding, the ends of p, NaN and infinity, the backward pass."""

import numpy as np

import thinned

from . import twin
from .checks_draw import HARD, PLAIN, address, vectors

RATES = (0.1, 0.3, 0.5, 0.9)


def numbers(kind, shape, seed=0):
    """Ordinary numbers, exact in this kind's type."""
    return kind.array(np.random.default_rng(seed).normal(0.0, 3.0, shape))


def assert_same(actual, expected):
    """The same numbers to the bit, zeros with their signs; NaN equals NaN."""
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


# ------------------------------------------------------------------------------------------- checks


def values_are_exact(kind):
    """Nominal scale, product in the arithmetic's type, one rounding: element by element."""
    awkward = [1.0, -1.0, 1 / 3, 0.1, 65504.0, -65504.0, 6e-8, 1e-40, 3e38, 2.0**-24, 1e-300, 0.0]
    for at in (PLAIN, HARD):
        for p in (*RATES, 0.001, 0.999):
            x = kind.array([*awkward, *np.random.default_rng(1).normal(0.0, 100.0, 200)])
            old = kind.read(x)
            expected = [
                twin.value(float(v), p, twin.kept(at, p, i), kind.dtype) for i, v in enumerate(old)
            ]
            expected = np.array(expected)
            if getattr(kind, "flushes", False):
                expected[abs(expected) < np.finfo(np.float32).tiny] *= 0.0
            assert_same(kind.read(thinned.dropout(x, p, at)), expected)


def values_are_the_published_ones(kind):
    for entry in vectors()["values"]:
        if entry["dtype"] != kind.dtype:
            continue
        stored = np.dtype(entry["dtype"]).newbyteorder("<")
        x = np.frombuffer(bytes.fromhex(entry["x"]), stored).astype(np.float64)
        y = np.frombuffer(bytes.fromhex(entry["y"]), stored).astype(np.float64)
        assert_same(kind.read(thinned.dropout(kind.array(x), entry["p"], address(entry))), y)


def evaluation_is_the_identity(kind):
    x = numbers(kind, (5, 6))
    for p in (0.0, 0.3, 1.0):
        assert thinned.dropout(x, p, PLAIN, training=False) is x
        assert thinned.dropout(x, p, PLAIN, False, shared_axes=0, mirror=True) is x


def p_zero_gives_the_input(kind):
    x = kind.array([1.0, -2.0, -0.0, np.inf, -np.inf, np.nan, 1e-40])
    assert_same(kind.read(thinned.dropout(x, 0.0, PLAIN)), kind.read(x))
    # So small that the threshold and the scale are those of 0.
    assert_same(kind.read(thinned.dropout(x, 1e-17, PLAIN)), kind.read(x))


def p_one_gives_zeros(kind):
    x = kind.array([1.0, -2.0, -0.0, np.inf, -np.inf, np.nan, 1e-40])
    assert_same(kind.read(thinned.dropout(x, 1.0, PLAIN)), np.zeros(7))
    # Below 1 by less than the threshold can say: everything dropped, at a scale of 2^53.
    assert_same(kind.read(thinned.dropout(x, 1.0 - 2.0**-53, PLAIN)), np.zeros(7))


def dropped_nonfinite_numbers_are_zero(kind):
    for p in (*RATES, 0.5):
        keep = thinned.keep_mask(64, p, PLAIN)
        assert 0 < keep.sum() < 64
        for bad in (np.nan, np.inf, -np.inf):
            y = kind.read(thinned.dropout(kind.array(np.full(64, bad)), p, PLAIN))
            assert_same(y[~keep], np.zeros((~keep).sum()))
            np.testing.assert_array_equal(y[keep], np.full(keep.sum(), bad))


def an_overflow_is_infinity(kind):
    largest = float(np.finfo(np.float64).max) if kind.dtype == "float64" else 3.38e38
    y = kind.read(thinned.dropout(kind.array(np.full(32, largest)), 0.5, PLAIN))
    assert set(y) == {0.0, np.inf}


def the_backward_pass_is_the_same_call(kind):
    """<g, D x> = <D g, x>, element by element, and exactly where every product is exact."""
    x, g = (kind.array(np.random.default_rng(n).integers(-9, 10, (30, 40))) for n in (1, 2))
    for how in ({}, {"shared_axes": 0}, {"mirror": True}, {"window": thinned.Window(3)}):
        forward = kind.read(thinned.dropout(x, 0.5, PLAIN, **how))
        backward = kind.read(thinned.dropout(g, 0.5, PLAIN, **how))
        np.testing.assert_array_equal(kind.read(g) * forward, backward * kind.read(x))
        assert (forward != 0.0).any()


def dropout_is_linear(kind):
    x, y = (kind.array(np.random.default_rng(n).integers(-9, 10, 500)) for n in (1, 2))
    both = kind.array(4.0 * kind.read(x) - kind.read(y))
    expected = 4.0 * kind.read(thinned.dropout(x, 0.5, PLAIN))
    expected -= kind.read(thinned.dropout(y, 0.5, PLAIN))
    np.testing.assert_array_equal(kind.read(thinned.dropout(both, 0.5, PLAIN)), expected)


def any_shape_works(kind):
    for shape in ((), (0,), (3, 0), (0, 3), (1,), (1, 1, 1), (2,) * 10):
        for p in (0.0, 0.5, 1.0):
            y = kind.read(thinned.dropout(kind.array(np.ones(shape)), p, PLAIN))
            assert y.shape == shape
            keep = thinned.keep_mask(shape, p, PLAIN)
            scale = 2.0 if p == 0.5 else 1.0
            np.testing.assert_array_equal(y, np.where(keep, scale, 0.0))


def p_arrives_at_its_own_precision(kind):
    """A binary32 p of 0.1 is its neighbour: threshold and scale are of the number that came."""
    x = numbers(kind, 4000)
    for p in (np.float32(0.1), np.float16(0.1), np.float64(0.1), np.array(0.1, np.float32)):
        y = thinned.dropout(x, p, PLAIN)
        np.testing.assert_array_equal(kind.read(y), kind.read(thinned.dropout(x, float(p), PLAIN)))
        expected = [
            twin.value(float(v), float(p), twin.kept(PLAIN, float(p), i), kind.dtype)
            for i, v in enumerate(kind.read(x)[:256])
        ]
        np.testing.assert_array_equal(kind.read(y)[:256], expected)


def the_input_stays_as_it_was(kind):
    x = numbers(kind, (20, 30))
    old = kind.read(x)
    for p in (0.0, 0.5, 1.0):
        for how in ({}, {"shared_axes": 0}, {"training": False}):
            thinned.dropout(x, p, PLAIN, **how)
            np.testing.assert_array_equal(kind.read(x), old)


CHECKS = [
    values_are_exact,
    values_are_the_published_ones,
    evaluation_is_the_identity,
    p_zero_gives_the_input,
    p_one_gives_zeros,
    dropped_nonfinite_numbers_are_zero,
    an_overflow_is_infinity,
    the_backward_pass_is_the_same_call,
    dropout_is_linear,
    any_shape_works,
    p_arrives_at_its_own_precision,
    the_input_stays_as_it_was,
]
