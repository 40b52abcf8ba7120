"""Heads and keys: every head dropped, every key of a row dropped, half types, masked keys."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address
from thinned.methods.attention import DROPPED

torch = library("torch")

AT = Address(seed=3, site="attention")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_heads_that_are_left_are_scaled_by_their_count():
    x = np.ones((200, 4, 3, 2))
    y = thinned.drop_head(x, 0.5, AT)
    kept = (y[:, :, 0, 0] != 0).sum(1)
    assert set(kept) == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(y.sum(1)[kept > 0], 4.0)
    assert (y[kept == 0] == 0).all()


def test_the_scale_is_of_each_samples_own_count():
    x = np.ones((50, 4, 1, 1))
    y = thinned.drop_head(x, 0.5, AT)[:, :, 0, 0]
    for row in y:
        if row.any():
            assert set(row[row != 0]) == {4 / (row != 0).sum()}


def test_what_stands_in_a_dropped_head_does_not_matter():
    x = np.ones((50, 4, 3, 2))
    dropped = thinned.drop_head(x, 0.5, AT) == 0
    x[dropped] = np.nan
    assert np.isfinite(thinned.drop_head(x, 0.5, AT)).all()


def test_heads_may_lie_on_another_axis():
    x = np.random.default_rng(0).standard_normal((6, 3, 4, 2))
    y = thinned.drop_head(x, 0.5, AT, head_axis=2)
    moved = thinned.drop_head(np.moveaxis(x, 2, 1), 0.5, AT)
    # The draws of (sample, head) go by their own index: the other axes have none.
    np.testing.assert_array_equal(np.moveaxis(y, 2, 1), moved)
    np.testing.assert_array_equal(thinned.drop_head(x, 0.5, AT, head_axis=-2), y)


@pytest.mark.parametrize(("shape", "axis", "error", "words"), [
    ((4,), 0, ValueError, r"x must be of shape \(N, H, ...\), got shape \(4,\)"),
    ((4, 3), 0, ValueError, "head_axis must be any axis but 0, got 0. Samples lie on axis 0"),
    ((4, 3), 2, ValueError, r"head_axis must be an integer in \[-2, 2\), got 2"),
    ((4, 3), 1.0, TypeError, "head_axis must be an integer"),
])  # fmt: skip
def test_heads_that_are_nowhere_are_refused(shape, axis, error, words):
    for training in (True, False):
        with pytest.raises(error, match=f"^drop_head: {words}"):
            thinned.drop_head(np.ones(shape), 0.5, AT, training, head_axis=axis)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_dropped_key_has_no_weight_and_rows_sum_to_one(dtype):
    x = (8 * np.random.default_rng(1).standard_normal((40, 6, 7))).astype(dtype)
    y = thinned.drop_key(x, 0.4, AT)
    assert y.dtype == dtype
    assert np.isfinite(y).all()
    keep = thinned.keep_mask(x.shape, 0.4, AT)
    weights = softmax(y.astype(np.float64))
    np.testing.assert_allclose(weights.sum(-1), 1.0)
    some = keep.any(-1, keepdims=True)
    assert (weights[~keep & some] == 0).all()
    assert (y[keep] == x[keep]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_row_without_a_key_is_uniform(dtype):
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    for p in (1.0, 0.8):
        y = thinned.drop_key(x.requires_grad_(), p, AT)
        weights = torch.softmax(y, -1)
        none = (y == DROPPED).all(-1)
        assert none.any()
        assert torch.isfinite(weights).all()
        assert (weights[none] == weights.new_tensor(1 / 6)).all()
        (dx,) = torch.autograd.grad(weights.square().sum(), x)
        assert torch.isfinite(dx).all()
        assert (dx[none] == 0).all()


def test_a_masked_key_stays_masked():
    x = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    x[:, 3] = -np.inf
    y = thinned.drop_key(x, 0.6, AT)
    assert (y[:, 3] == -np.inf).all()
    weights = softmax(y)
    assert (weights[:, 3] == 0).all()
    none = (y[:, :3] == DROPPED).all(1)
    assert none.any()
    np.testing.assert_allclose(weights[none][:, :3], 1 / 3, rtol=1e-6)


def test_a_dropped_nan_does_not_leak():
    x = np.full((20, 5), np.nan, np.float32)
    y = thinned.drop_key(x, 0.5, AT)
    keep = thinned.keep_mask(x.shape, 0.5, AT)
    assert (y[~keep] == DROPPED).all()
    assert np.isnan(y[keep]).all()


def test_rows_of_attention_dropout_sum_to_one_on_average_only():
    weights = softmax(np.random.default_rng(3).standard_normal((3, 8)))
    sums = np.stack([
        thinned.attention_dropout(weights, 0.2, AT.replace(step=i)).sum(-1) for i in range(4000)
    ])  # fmt: skip
    expected = (weights**2).sum(-1) * 0.2 / 0.8
    assert (abs(sums.mean(0) - 1.0) < 6 * np.sqrt(expected / 4000)).all()
    np.testing.assert_allclose(sums.var(0), expected, rtol=0.15)


def test_keys_that_are_scaled_or_masked_anew_are_caught(monkeypatch):
    right = thinned.drop_key

    def scaled(x, p, at):
        y = right(x, p, at)
        return np.where(y == DROPPED, y, y / np.float64(1 - p)).astype(x.dtype)

    monkeypatch.setattr(thinned, "drop_key", scaled)
    with pytest.raises(AssertionError):
        test_a_dropped_key_has_no_weight_and_rows_sum_to_one(np.float32)
    monkeypatch.setattr(thinned, "drop_key", lambda x, p, at: np.maximum(right(x, p, at), DROPPED))
    with pytest.raises(AssertionError):
        test_a_masked_key_stays_masked()


def test_a_head_without_a_scale_of_its_own_is_caught(monkeypatch):
    monkeypatch.setattr(
        thinned, "drop_head", lambda x, p, at: thinned.dropout(x, p, at, shared_axes=(2, 3))
    )
    with pytest.raises(AssertionError):
        test_heads_that_are_left_are_scaled_by_their_count()
    with pytest.raises(AssertionError):
        test_the_scale_is_of_each_samples_own_count()
