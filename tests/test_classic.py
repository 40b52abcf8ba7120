# ruff: noqa: NPY002
"""The textbook interfaces: known answers, and plain formulas beside them."""

# The legacy generators are what the textbook interfaces are defined by.

import examples_of
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import thinned
from thinned import classic
from thinned.classic import (
    dropout_backward,
    dropout_forward,
    stochastic_deactivation,
    vanilla_dropout,
)

steady = settings(derandomize=True, database=None, deadline=None, max_examples=60)
FLOATING = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [(), (0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4, 5)]
seeds = st.integers(0, 2**32 - 1)


def nested(flat, shape):
    """A flat list folded into nested lists of this shape."""
    if not shape:
        return flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


# -------------------------------------------------------------------------- stochastic_deactivation


def test_the_known_vector():
    got = stochastic_deactivation([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], 0.5, True, 42)
    assert got == {"output": [0, 4, 6, 8], "grad_output": [0, 0.4, 0.6, 0.8]}
    assert all(type(v) is float for values in got.values() for v in values)


def test_the_known_matrix_of_which_nothing_is_dropped():
    got = stochastic_deactivation([[1, 2], [3, 4]], [[0.1, 0.2], [0.3, 0.4]], 0.3, True, 42)
    assert got["output"] == [[1.4286, 2.8571], [4.2857, 5.7143]]
    assert got["grad_output"] == [[0.1429, 0.2857], [0.4286, 0.5714]]


def by_hand(x, grad, p, training, seed):
    """The definition, one element at a time, for flat lists."""
    source = np.random.RandomState(seed)
    values, slopes = [], []
    for v, g in zip(x, grad, strict=True):
        u = source.rand()
        if not training:
            values.append(round(v, 4))
            slopes.append(round(g, 4))
        elif u >= p:
            values.append(round(v / (1 - p), 4))
            slopes.append(round(g / (1 - p), 4))
        else:
            values.append(0.0)
            slopes.append(0.0)
    return values, slopes


@steady
@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=24),
    st.floats(0.0, 0.999),
    st.booleans(),
    seeds,
)
def test_deactivation_by_hand(pairs, p, training, seed):
    x, grad = [v for v, _ in pairs], [g for _, g in pairs]
    got = stochastic_deactivation(x, grad, p, training, seed)
    values, slopes = by_hand(x, grad, p, training, seed)
    # numpy.round and Python's differ by one in the last of the four places, and only at ties.
    assert got["output"] == pytest.approx(values, rel=0, abs=1.01e-4)
    assert got["grad_output"] == pytest.approx(slopes, rel=0, abs=1.01e-4)
    assert [v == 0 for v in got["output"]] == [v == 0 for v in values]


@pytest.mark.parametrize("shape", SHAPES)
def test_deactivation_in_any_dimension(shape):
    flat = [float(i + 1) for i in range(int(np.prod(shape)))]
    x = nested(flat, shape)
    values, slopes = by_hand(flat, flat, 0.4, True, 7)
    expected = {"output": nested(values, shape), "grad_output": nested(slopes, shape)}
    assert stochastic_deactivation(x, x, 0.4, True, 7) == expected
    assert stochastic_deactivation(np.array(x), np.array(x), 0.4, True, 7) == expected
    if shape:
        assert stochastic_deactivation(tuple(x), np.array(x), 0.4, True, 7) == expected


def test_deactivation_at_both_ends():
    x, grad = [1.0, -2.0, 3.0], [0.5, 0.25, -0.5]
    assert stochastic_deactivation(x, grad, 0, True, 1) == {"output": x, "grad_output": grad}
    gone = {"output": [0, 0, 0], "grad_output": [0, 0, 0]}
    assert stochastic_deactivation(x, grad, 1, True, 1) == gone
    assert stochastic_deactivation([np.nan, np.inf, 1], grad, 1.0, True, 1) == gone


def test_deactivation_in_evaluation():
    x, grad = [1.23456, -2.0], [0.00004, 5.0]
    got = stochastic_deactivation(x, grad, 0.9, False, 1)
    assert got == {"output": [1.2346, -2.0], "grad_output": [0.0, 5.0]}


def test_deactivation_drops_nan_and_keeps_big_numbers():
    keep = np.random.RandomState(42).rand(4) >= 0.5  # the first is dropped
    assert keep.tolist() == [False, True, True, True]
    got = stochastic_deactivation([np.nan, np.inf, 8e307, 2.0**45 + 1], [0, 1, 2, 3], 0.5, True, 42)
    assert got["output"] == [0.0, np.inf, 1.6e308, 2.0**46 + 2]
    assert stochastic_deactivation([1, 1.7e308], [0, 0], 0.5, True, 42)["output"][1] == np.inf


def test_deactivation_writes_no_negative_zero():
    got = stochastic_deactivation([-1e-9, -0.0], [-1e-9, -1.0], 0.0, True, 0)
    assert not np.signbit(got["output"]).any()
    assert np.signbit(got["grad_output"]).tolist() == [False, True]


def test_deactivation_leaves_its_input_and_the_global_generator_alone():
    x = np.array([1.23456, 2.0, 3.0])
    state = np.random.get_state()[1].tolist()
    stochastic_deactivation(x, x, 0.5, True, 3)
    stochastic_deactivation(x, x, 0.5, False, 3)
    assert x.tolist() == [1.23456, 2.0, 3.0]
    assert np.random.get_state()[1].tolist() == state


# ------------------------------------------------------------------- dropout_forward and _backward


def assignment(x, p):
    """The assignment's training pass, as its solution is commonly written."""
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.2, 0.5, 0.75, 1.0])
def test_forward_with_the_global_generator(shape, p):
    x = np.random.default_rng(0).normal(size=shape)
    np.random.seed(231)
    expected, mask = assignment(x, p)
    after = np.random.rand()
    np.random.seed(231)
    out, (param, got) = dropout_forward(x, {"p": p, "mode": "train"})
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(got, mask)
    assert param == {"p": p, "mode": "train"}
    assert np.random.rand() == after  # as many draws as the assignment's: one for each element
    np.random.seed(231)
    again, _ = dropout_forward(x, {"p": p, "mode": "train", "seed": None})
    np.testing.assert_array_equal(again, expected)


@steady
@given(seeds, st.floats(0.01, 1.0))
def test_forward_with_a_seed(seed, p):
    x = np.random.default_rng(1).normal(size=(3, 5))
    before = np.random.get_state()[1].tolist()
    out, cache = dropout_forward(x, {"p": p, "mode": "train", "seed": seed})
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(seed)  # what the assignment does with a seed
    expected, mask = assignment(x, p)
    np.testing.assert_array_equal(out, expected)
    dout = np.random.default_rng(2).normal(size=(3, 5))
    np.testing.assert_array_equal(dropout_backward(dout, cache), dout * mask)


def test_forward_known_answer():
    param = {"p": 0.5, "mode": "train", "seed": 42}
    out, cache = dropout_forward([1, 2, 3, 4], param)
    assert out.tolist() == [2.0, 0.0, 0.0, 0.0]
    assert cache[0] == param
    assert cache[1].tolist() == [2.0, 0.0, 0.0, 0.0]
    assert dropout_backward([0.1, 0.2, 0.3, 0.4], cache).tolist() == [0.2, 0.0, 0.0, 0.0]


def test_forward_has_the_mean_of_x():
    x = np.full((500, 500), 10.0)
    for p in (0.25, 0.4, 0.7):
        out, _ = dropout_forward(x, {"p": p, "mode": "train", "seed": 3})
        assert out.mean() == pytest.approx(10.0, rel=5 * ((1 - p) / p / x.size) ** 0.5)
        assert (out == 0).mean() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / x.size) ** 0.5)


def test_test_mode_draws_nothing():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    before = np.random.get_state()
    out, cache = dropout_forward(x, {"p": 0.5, "mode": "test"})
    assert out is x
    assert cache == ({"p": 0.5, "mode": "test"}, None)
    assert dropout_backward(x, cache) is x
    after = np.random.get_state()
    assert after[2] == before[2]
    assert after[1].tolist() == before[1].tolist()


def test_a_mode_that_changes_later_does_not_reach_the_cache():
    param = {"p": 0.5, "mode": "train", "seed": 42}
    _, cache = dropout_forward(np.ones(4), param)
    param["mode"] = "test"
    assert dropout_backward(np.ones(4), cache).tolist() == [2.0, 0.0, 0.0, 0.0]


def test_a_cache_made_by_hand():
    param = {"p": 0.5, "mode": "train"}
    mask = [[2, 0], [0, 2]]
    assert dropout_backward([[1, 2], [3, 4]], (param, mask)).tolist() == [[2, 0], [0, 8]]
    assert dropout_backward([1.0], ({"p": 0.5, "mode": "test"}, np.ones(5))).tolist() == [1.0]


@pytest.mark.parametrize("dtype", FLOATING)
def test_the_dtype_is_kept(dtype):
    x = np.arange(1.0, 25.0).reshape(4, 6).astype(dtype)
    out, cache = dropout_forward(x, {"p": 0.7, "mode": "train", "seed": 1})
    keep = np.random.RandomState(1).rand(4, 6) < 0.7
    expected = np.where(keep, x.astype(np.float64) / 0.7, 0.0)
    for y in (out, dropout_backward(x, cache)):
        assert y.dtype == dtype
        error = np.abs(y.astype(np.float64) - expected)
        assert (error <= expected * float(ml_dtypes.finfo(dtype).eps)).all()
    assert dropout_forward(x, {"p": 0.7, "mode": "test"})[0].dtype == dtype
    assert vanilla_dropout(x, 0.7, True, np.random.RandomState(1)).dtype == dtype
    assert vanilla_dropout(x, 0.7, False, None).dtype == dtype


def test_integers_become_float64():
    x = np.arange(1, 4)
    for y in (
        dropout_forward(x, {"p": 1.0, "mode": "train"})[0],
        dropout_forward(x, {"p": 0.3, "mode": "test"})[0],
        vanilla_dropout([1, 2, 3], 1.0, True, np.random.default_rng(0)),
    ):
        assert y.dtype == np.float64
        assert y.tolist() == [1.0, 2.0, 3.0]


def test_dropped_nan_and_infinity_are_zero():
    x = [1.0, np.nan, np.inf, -np.inf]  # all but the first are dropped at this seed
    out, cache = dropout_forward(x, {"p": 0.5, "mode": "train", "seed": 42})
    assert out.tolist() == [2.0, 0.0, 0.0, 0.0]
    assert dropout_backward(x, cache).tolist() == [2.0, 0.0, 0.0, 0.0]
    out = vanilla_dropout(x, 0.5, True, np.random.RandomState(42))
    assert out.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert vanilla_dropout(x, 0.0, False, None).tolist() == [0.0] * 4


def test_half_types_overflow_to_infinity_without_a_warning():
    x = np.full(4, 60000.0, np.float16)
    out, _ = dropout_forward(x, {"p": 0.5, "mode": "train", "seed": 42})
    assert out.tolist() == [np.inf, 0.0, 0.0, 0.0]


def test_inputs_of_any_layout_stay_as_they_were():
    x = np.arange(1.0, 25.0).reshape(4, 6)
    for view in (x[::2, ::-1], x.T, np.asfortranarray(x)):
        frozen = view.copy(order="K")
        frozen.flags.writeable = False
        param = {"p": 0.5, "mode": "train", "seed": 0}
        expected, _ = dropout_forward(np.ascontiguousarray(view), param)
        for array in (view, frozen):
            old = array.copy()
            np.testing.assert_array_equal(dropout_forward(array, param)[0], expected)
            vanilla_dropout(array, 0.5, True, np.random.RandomState(0))
            stochastic_deactivation(array, array, 0.5, True, 0)
            np.testing.assert_array_equal(array, old)
    assert param == {"p": 0.5, "mode": "train", "seed": 0}


# ---------------------------------------------------------------------------------- vanilla_dropout


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.5, 1.0])
def test_vanilla(make, shape, keep):
    x = np.random.default_rng(0).normal(size=shape)
    u = make(5).random(shape)
    expected = np.where(u < keep, x, 0.0)
    rng = make(5)
    np.testing.assert_array_equal(vanilla_dropout(x, keep, True, rng), expected)
    follower = make(5)
    follower.random(shape)
    assert rng.random() == follower.random()  # as many draws as elements, and no more
    np.testing.assert_array_equal(vanilla_dropout(x, keep, False, make(5)), x * keep)
    np.testing.assert_array_equal(vanilla_dropout(x, keep, False, None), x * keep)


def test_vanilla_leaves_the_generator_alone_in_evaluation():
    rng = np.random.default_rng(5)
    vanilla_dropout(np.ones(100), 0.5, False, rng)
    assert rng.random() == np.random.default_rng(5).random()


def test_vanilla_gradient_is_the_same_call():
    x, g = np.random.default_rng(0).normal(size=(2, 50))
    y = vanilla_dropout(x, 0.5, True, np.random.default_rng(7))
    dx = vanilla_dropout(g, 0.5, True, np.random.default_rng(7))
    np.testing.assert_array_equal(dx * x, y * g)


# --------------------------------------------------------------------- how the conventions relate


def test_vanilla_is_keep_times_inverted():
    x = np.random.default_rng(0).normal(size=(20, 30))
    inverted, _ = dropout_forward(x, {"p": 0.25, "mode": "train", "seed": 9})
    vanilla = vanilla_dropout(x, 0.25, True, np.random.RandomState(9))
    np.testing.assert_array_equal(vanilla, 0.25 * inverted)
    tested, _ = dropout_forward(x, {"p": 0.25, "mode": "test"})
    np.testing.assert_array_equal(vanilla_dropout(x, 0.25, False, None), 0.25 * tested)


def test_dropping_and_keeping_add_up_to_one():
    """The same law; and with u mirrored to 1 - u, the very same elements."""
    n, p = 4000, 0.25
    dropped = stochastic_deactivation(np.ones(n), np.ones(n), p, True, 3)["output"]
    u = np.random.RandomState(3).rand(n)
    kept = (1.0 - u <= 1.0 - p) / (1.0 - p)
    np.testing.assert_array_equal(dropped, np.round(kept, 4))
    out, _ = dropout_forward(np.ones(n), {"p": 1 - p, "mode": "train", "seed": 3})
    assert set(np.round(out, 4)) == set(dropped)
    sigma = (p * (1 - p) / n) ** 0.5
    assert np.count_nonzero(out) / n == pytest.approx(1 - p, abs=5 * sigma)
    assert np.count_nonzero(dropped) / n == pytest.approx(1 - p, abs=5 * sigma)


def test_the_catalogues_vanilla_dropout_takes_the_rest_to_1():
    """The course's number is what is kept, and the library's what is dropped."""
    x, at = np.ones(20_000), thinned.Address(0, "both")
    tested = vanilla_dropout(x, keep=0.75, training=False, rng=None)
    np.testing.assert_array_equal(thinned.vanilla_dropout(x, 0.25, at, training=False), tested)
    drawn = vanilla_dropout(x, keep=0.75, training=True, rng=np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(0.75, abs=0.02)
    assert thinned.vanilla_dropout(x, 0.25, at).mean() == pytest.approx(0.75, abs=0.02)


def test_the_boundary_is_as_defined():
    """At p = u: not below, hence kept by the first convention and not kept by the other two."""
    u = np.random.RandomState(42).rand()
    assert stochastic_deactivation([1.0], [1.0], u, True, 42)["output"] != [0.0]
    assert dropout_forward([1.0], {"p": u, "mode": "train", "seed": 42})[0].tolist() == [0.0]
    assert vanilla_dropout([1.0], u, True, np.random.RandomState(42)).tolist() == [0.0]


def test_the_examples_run():
    failed, tried = examples_of.run(classic)
    assert tried == 8
    assert failed == 0
