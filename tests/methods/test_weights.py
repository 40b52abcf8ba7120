"""Methods on weights, beyond the battery: masks by address, chunks, evaluation, targets."""

import numpy as np
import pytest
from libraries import library
from scipy import integrate, stats

import thinned
from thinned.methods import targeted, weights

from .trying import AT, inputs, row_named

torch = library("torch")

X, W, B = inputs(row_named("drop_connect"))


@pytest.fixture
def torch_arrays():
    return tuple(torch.tensor(a).requires_grad_() for a in (X, W, B))


def sums_by_hand(x, weight, bias, p, at):
    """Each example's own masks, written out."""
    rows, (out, into) = len(x), weight.shape
    keep = thinned.keep_mask((rows, out * into), p, at).reshape(rows, out, into)
    kept = thinned.keep_mask((rows, out), p, at.fold_in(1))
    return np.einsum("noi,ni->no", np.where(keep, weight, 0.0), x) + np.where(kept, bias, 0.0)


def chunks_are_the_whole(arrays, patch):
    """Values and gradients, however few examples are in memory at a time."""
    found = []
    for connections in (2**22, 2 * W.size, 1):
        patch.setattr(weights, "CONNECTIONS", connections)
        y = thinned.drop_connect(*arrays, 0.3, AT)
        found.append((y, *torch.autograd.grad(y.square().sum(), arrays)))
    np.testing.assert_allclose(found[0][0].detach(), sums_by_hand(X, W, B, 0.3, AT))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b)


def test_chunks_are_the_whole(torch_arrays, monkeypatch):
    chunks_are_the_whole(torch_arrays, monkeypatch)


def test_chunks_in_a_window(monkeypatch):
    monkeypatch.setattr(weights, "CONNECTIONS", W.size)
    whole = sums_by_hand(X, W, B, 0.3, AT)
    for window in (thinned.Window(2), thinned.Window((2, 0), (6, 5))):
        y = thinned.drop_connect(X[2:], W, B, 0.3, AT, window=window)
        np.testing.assert_allclose(y, whole[2:])


def test_no_mask_is_kept_for_backward(monkeypatch):
    x, weight = (torch.randn(*shape, requires_grad=True) for shape in ((64, 30), (20, 30)))
    monkeypatch.setattr(weights, "CONNECTIONS", 4 * weight.numel())
    memory = {}

    def keep(t):
        memory[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = thinned.drop_connect(x, weight, None, 0.3, AT)
    masks = len(x) * weight.numel()  # in bytes, a byte a connection
    assert sum(memory.values()) < masks // 2
    assert torch.isfinite(torch.autograd.grad(y.sum(), weight)[0]).all()


def test_leading_axes_and_a_missing_bias():
    x = np.stack([X, 2 * X])
    y = thinned.drop_connect(x, W, None, 0.3, AT)
    keep = thinned.keep_mask((2, 6, W.size), 0.3, AT).reshape(2, 6, *W.shape)
    np.testing.assert_allclose(y, np.einsum("bnoi,bni->bno", np.where(keep, W, 0.0), x))
    np.testing.assert_allclose(
        thinned.drop_connect(X[0], W, B, 0.3, AT), sums_by_hand(X[:1], W, B, 0.3, AT)[0]
    )


def normal_mean(a, mean, std):
    span = 12 * std
    found, _ = integrate.quad(
        lambda v: a(v) * stats.norm.pdf(v, mean, std), mean - span, mean + span, points=[0.0, mean]
    )
    return found


@pytest.mark.parametrize(
    ("activation", "a", "allowed"),
    [
        ("relu", lambda v: max(v, 0.0), 1e-9),
        (np.tanh, np.tanh, 1e-6),
        (lambda v: np.maximum(v, 0.0), lambda v: max(v, 0.0), 3e-3),
        (None, lambda v: v, 1e-9),
    ],
    ids=["relu", "tanh", "relu by nodes", "none"],
)
def test_evaluation_is_the_mean_under_the_normal(activation, a, allowed):
    p, q = 0.3, 0.7
    mean = q * (X @ W.T + B)
    std = np.sqrt(p * q * (X**2 @ W.T**2 + B**2))
    wanted = np.vectorize(lambda m, s: normal_mean(a, m, s))(mean, std)
    y = thinned.drop_connect(X, W, B, p, AT, False, activation=activation)
    np.testing.assert_allclose(y, wanted, atol=allowed)
    plain = thinned.drop_connect(X, W, B, p, AT, False, activation=activation, inference="mean")
    np.testing.assert_allclose(plain, np.vectorize(a)(mean))


def test_evaluation_of_an_input_without_variance():
    x, zeros = torch.zeros(2, 5, requires_grad=True), torch.zeros(3, 5)
    y = thinned.drop_connect(x, zeros, None, 0.3, AT, False, activation="relu")
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.isfinite(x.grad).all()


def test_the_normal_mean_is_near_the_mean_over_masks():
    ys = [
        thinned.drop_connect(X, W, B, 0.3, thinned.Address(seed), activation="relu")
        for seed in range(4000)
    ]
    average = np.mean(ys, 0)
    gaussian, plain = (
        thinned.drop_connect(X, W, B, 0.3, AT, False, activation="relu", inference=rule)
        for rule in ("gaussian", "mean")
    )
    assert abs(gaussian - average).max() < 0.5 * abs(plain - average).max()


def test_drop_connect_refuses():
    with pytest.raises(ValueError, match=r"weight must be of shape \(out, 5\) as x has it"):
        thinned.drop_connect(X, W[:, 1:], B, 0.3, AT)
    with pytest.raises(ValueError, match=r"bias must be of shape \(3,\) or None, got \(2,\)"):
        thinned.drop_connect(X, W, B[1:], 0.3, AT)
    with pytest.raises(ValueError, match="inference must be 'gaussian' or 'mean', got 'sample'"):
        thinned.drop_connect(X, W, B, 0.3, AT, False, inference="sample")
    with pytest.raises(ValueError, match="activation must be 'relu', a callable or None"):
        thinned.drop_connect(X, W, B, 0.3, AT, activation="tanh")
    with pytest.raises(ValueError, match="axis 1 must be whole"):
        thinned.drop_connect(X, W, B, 0.3, AT, window=thinned.Window((0, 5), (6, 10)))


def test_mixout_is_the_published_formula():
    w, u = inputs(row_named("mixout"))
    keep = thinned.keep_mask(w.shape, 0.3, AT)
    # Equation 5 of the paper: what the mask leaves out is u, and p u is taken off.
    paper = (np.where(keep, w, u) - 0.3 * u) / 0.7
    np.testing.assert_allclose(thinned.mixout(w, u, 0.3, AT), paper)
    np.testing.assert_array_equal(thinned.mixout(w, u, 1.0, AT), u)
    with pytest.raises(ValueError, match=r"u must be of w's shape \(6, 5\), got \(5,\)"):
        thinned.mixout(w, u[0], 0.3, AT)
    with pytest.raises(TypeError, match="u must be a numpy array or"):
        thinned.mixout(w, [1.0], 0.3, AT)


def the_smallest_are_targeted():
    w = np.random.default_rng(0).standard_normal((4, 10, 3))
    pruned = thinned.targeted_dropout(w, 1.0, AT, gamma=0.3)
    for row, kept in zip(w.reshape(4, -1), pruned.reshape(4, -1), strict=True):
        order = np.argsort(abs(row))
        assert (kept[order[:9]] == 0).all()
        np.testing.assert_array_equal(kept[order[9:]], row[order[9:]])
    units = thinned.targeted_dropout(w, 1.0, AT, gamma=0.5, target="units")
    order = np.argsort((w**2).sum((1, 2)))
    assert (units[order[:2]] == 0).all()
    np.testing.assert_array_equal(units[order[2:]], w[order[2:]])


def test_the_smallest_are_targeted(monkeypatch):
    the_smallest_are_targeted()
    smallest = targeted._smallest
    with monkeypatch.context() as patch:
        patch.setattr(targeted, "_smallest", lambda xp, s, axis, g: smallest(xp, -s, axis, g))
        with pytest.raises(AssertionError):
            the_smallest_are_targeted()


def test_targeted_dropout_at_its_ends():
    w = np.ones((2, 4))
    at = AT
    np.testing.assert_array_equal(thinned.targeted_dropout(w, 1.0, at, gamma=0.0), w)
    np.testing.assert_array_equal(thinned.targeted_dropout(w, 1.0, at, gamma=1.0), 0 * w)
    # Equal weights go by lower index.
    np.testing.assert_array_equal(
        thinned.targeted_dropout(w, 1.0, at, gamma=0.5), [[0, 0, 1, 1]] * 2
    )
    assert thinned.targeted_dropout(w, 0.5, at, False, prune=False) is w
    units = thinned.targeted_dropout(w, 0.5, at, gamma=1.0, target="units")
    assert all(len(set(row)) == 1 for row in units)
    with pytest.raises(ValueError, match="target must be 'weights' or 'units', got 'rows'"):
        thinned.targeted_dropout(w, 0.5, at, target="rows")
    with pytest.raises(ValueError, match="axis 0 must be whole"):
        thinned.targeted_dropout(w, 0.5, at, target="units", window=thinned.Window(2, (4, 4)))


def a_chunk_forgets_its_place(patch):
    patch.setattr(weights, "_moved", lambda window, first: window)


def test_a_chunk_that_forgets_its_place_is_caught(torch_arrays, monkeypatch):
    a_chunk_forgets_its_place(monkeypatch)
    with pytest.raises(AssertionError):
        chunks_are_the_whole(torch_arrays, monkeypatch)
