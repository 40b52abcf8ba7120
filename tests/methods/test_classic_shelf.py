"""The classics against slow versions written from their papers, on draws made at the same address.

The slow versions are loops over elements in binary64. They know the spec's plain NumPy draws, and
nothing of the methods' code.
"""

import math

import numpy as np
import pytest
from contract.kinds import NumpyKind, TorchKind
from libraries import library

import thinned
from thinned import reference
from thinned.methods import classic, every, find

from .trying import FASTEST, as_numpy

torch = library("torch")

AT = thinned.Address(seed=31, site="shelf", step=2)
KINDS = (
    NumpyKind("float64", FASTEST),
    NumpyKind("float32", "reference"),
    TorchKind("float64", FASTEST),
    TorchKind("float32", "reference"),
)
over_kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
over_ps = pytest.mark.parametrize("p", [0.0, 0.25, 0.7, 1.0])


def uniforms(shape, number=0):
    at = AT if number == 0 else AT.fold_in(number)
    words = reference.words(at, np.arange(math.prod(shape), dtype=np.uint64))
    return reference.uniform24(words).astype(np.float64).reshape(shape)


def kept(shape, p, number=0, **how):
    return thinned.keep_mask(shape, p, AT if number == 0 else AT.fold_in(number), **how)


def normals(shape, number=0):
    at = AT if number == 0 else AT.fold_in(number)
    return reference.gaussian(at, np.arange(math.prod(shape), dtype=np.uint64)).reshape(shape)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def agree(kind, method, inputs, slow, *rest, **options):
    """The method on a kind's arrays gives what the slow version gives, to the type's precision."""
    with kind.in_use():
        y = method(*(kind.array(a) for a in inputs), *rest, **options)
    tolerance = 1e-12 if kind.dtype == "float64" else 2e-5
    np.testing.assert_allclose(as_numpy(y), slow, rtol=tolerance, atol=tolerance)


def logistic(z):
    return 1.0 / (1.0 + math.exp(-z))


# ----------------------------------------------------------------------------------------- adaptive


@over_kinds
@over_ps
def test_standout(kind, p):
    x, s = arrays((5, 7), (5, 7))
    u, slow, mean = uniforms((5, 7)), np.zeros((5, 7)), np.zeros((5, 7))
    for i in np.ndindex(5, 7):
        k = 1.0 - p if p in (0.0, 1.0) else logistic(1.5 * s[i] + math.log((1 - p) / p))
        slow[i] = x[i] if u[i] >= 1.0 - k else 0.0
        mean[i] = k * x[i]
    agree(kind, classic.standout, (x, s), slow, p, AT, alpha=1.5)
    agree(kind, classic.standout, (x, s), mean, p, AT, training=False, alpha=1.5)


@over_kinds
def test_standout_on_steep_slopes_stays_finite(kind):
    s = np.array([[-1e4, -100.0, 0.0, 100.0, 1e4]])
    with kind.in_use():
        x, s = kind.array(np.ones((1, 5))), kind.array(s)
        for p in (0.0, 2.0**-32, 0.5, 1.0 - 2.0**-32, 1.0):
            k = as_numpy(classic.standout(x, s, p, AT, training=False))
            assert np.isfinite(k).all()
            assert (np.diff(k) >= 0).all()
            if p in (0.0, 1.0):
                assert (k == 1.0 - p).all()


@over_kinds
@over_ps
def test_excitation_dropout(kind, p):
    x, evidence = arrays((4, 3, 2), (4, 3, 2), seed=1)
    evidence[0] = 0.0  # nothing is known of this sample
    evidence[1] = 0.25  # equal shares
    evidence[2] = 0.0
    evidence[2, 1, 1] = 3.0  # one unit has it all
    u, slow = uniforms((4, 3, 2)), np.zeros((4, 3, 2))
    for i in range(4):
        positive = np.maximum(evidence[i], 0.0)
        share = positive / positive.sum() if positive.sum() else np.full((3, 2), 1 / 6)
        for j in np.ndindex(3, 2):
            e, keep_base = share[j], 1.0 - p
            below = ((1 - keep_base) * 6 - 1) * e + keep_base
            # The paper's formula, but where it is 0 / 0.
            drop = (1 - keep_base) * 5 * e / below if abs(below) > 1e-12 else p
            if u[(i, *j)] >= drop:
                slow[(i, *j)] = x[(i, *j)] * (1.0 / (1.0 - p) if p < 1 else 1.0)
    agree(kind, classic.excitation_dropout, (x, evidence), slow, p, AT)


def test_equal_evidence_is_dropout():
    x = np.ones((200, 50))
    y = classic.excitation_dropout(x, np.ones_like(x), 0.3, AT)
    assert set(np.unique(y)) == {0.0, 1.0 / 0.7}
    assert abs((y == 0).mean() - 0.3) < 6 * math.sqrt(0.3 * 0.7 / x.size)


# ------------------------------------------------------------------------------------------ weights


@over_kinds
@over_ps
@pytest.mark.parametrize("c", [0.0, 0.4])
def test_shakeout(kind, p, c):
    x, weight = arrays((5, 4), (3, 4), seed=2)
    weight[0, 0] = 0.0
    m, slow = kept((5, 4), p), np.zeros((5, 3))
    for n, o, i in np.ndindex(5, 3, 4):
        w, sign = weight[o, i], np.sign(weight[o, i])
        shaken = (w + c * p * sign) / (1 - p) if m[n, i] else -c * sign
        slow[n, o] += x[n, i] * shaken
    agree(kind, classic.shakeout, (x, weight), slow, p, AT, c=c)
    agree(kind, classic.shakeout, (x, weight), x @ weight.T, p, AT, training=False, c=c)


def test_shakeout_of_c_zero_is_dropout_before_the_layer():
    x, weight = arrays((2, 5, 4), (3, 4))
    expected = thinned.dropout(x, 0.4, AT) @ weight.T
    np.testing.assert_allclose(classic.shakeout(x, weight, 0.4, AT, c=0.0), expected, rtol=1e-12)
    x[0, 0, 0] = math.nan
    lost = classic.shakeout(x, weight, 1.0, AT, c=0.0)
    assert (lost == 0).all()


@over_kinds
@over_ps
@pytest.mark.parametrize("per_batch", [False, True])
def test_bridgeout(kind, p, per_batch):
    x, weight = arrays((5, 4), (3, 4), seed=3)
    m = np.broadcast_to(kept((1 if per_batch else 5, 12), p).reshape(-1, 3, 4), (5, 3, 4))
    slow = np.zeros((5, 3))
    for n, o, i in np.ndindex(5, 3, 4):
        w = weight[o, i]
        noise = (1.0 / (1.0 - p) if m[n, o, i] else 0.0) - 1.0
        slow[n, o] += x[n, i] * (w + abs(w) ** 0.65 * noise)
    how = {"norm": 1.3, "per_batch": per_batch}
    agree(kind, classic.bridgeout, (x, weight), slow, p, AT, **how)
    agree(kind, classic.bridgeout, (x, weight), x @ weight.T, p, AT, training=False, **how)


@pytest.mark.parametrize("method", [classic.shakeout, classic.bridgeout])
def test_weights_get_the_gradient_of_differences(method):
    x, weight = (torch.from_numpy(a) for a in arrays((5, 4), (3, 4), seed=3))
    for name in ("x", "weight"):
        given = {"x": x, "weight": weight}
        assert torch.autograd.gradcheck(
            lambda a, n=name, g=given: method(*{**g, n: a}.values(), 0.3, AT),
            (given[name].clone().requires_grad_(),),
        )


# ------------------------------------------------------------------------------------------ shaking

LEVELS = {"batch": (1, 1, 1), "image": (4, 1, 1), "channel": (4, 3, 1), "pixel": (4, 3, 2)}


@over_kinds
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_shake_drop_forward(kind, level, p):
    (x,) = arrays((4, 3, 2), seed=4)
    gate = bool(kept((1, 1, 1), p)[0, 0, 0])
    a, slow = -0.5 + 2.0 * uniforms(LEVELS[level], 1), np.zeros_like(x)
    for i in np.ndindex(x.shape):
        mine = a[tuple(k if n > 1 else 0 for k, n in zip(i, a.shape, strict=True))]
        slow[i] = x[i] if gate else mine * x[i]
    how = {"level": level, "alpha": (-0.5, 1.5), "beta": (0.25, 0.75)}
    agree(kind, classic.shake_drop, (x,), slow, p, AT, **how)
    agree(kind, classic.shake_drop, (x,), (1 - p + p * 0.5) * x, p, AT, training=False, **how)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("step", range(4))
def test_shake_drop_backward_is_the_papers_coefficient(level, step):
    at = AT.replace(step=step)
    gate = bool(thinned.keep_mask(1, 0.5, at)[0])
    shape = LEVELS[level]
    indices = np.arange(math.prod(shape), dtype=np.uint64)
    words = reference.words(at.fold_in(2), indices)
    b = 0.25 + 0.5 * reference.uniform24(words).astype(np.float64).reshape(shape)
    x, grad = (torch.from_numpy(a) for a in arrays((4, 3, 2), (4, 3, 2)))
    y = classic.shake_drop(x.requires_grad_(), 0.5, at, level=level, beta=(0.25, 0.75))
    (dx,) = torch.autograd.grad(y, x, grad)
    expected = grad.numpy() if gate else b * grad.numpy()
    np.testing.assert_allclose(dx.numpy(), expected, rtol=1e-12)


def test_steps_of_the_backward_test_open_and_shut_the_gate():
    gates = {bool(thinned.keep_mask(1, 0.5, AT.replace(step=i))[0]) for i in range(4)}
    assert gates == {True, False}


@over_kinds
def test_what_is_not_finite_passes_a_shaken_branch(kind):
    x = np.array([[1.0, math.inf, -math.inf, math.nan]])
    with kind.in_use():
        y = as_numpy(classic.shake_drop(kind.array(x), 1.0, AT, alpha=(0.5, 0.5)))
        np.testing.assert_array_equal(y, 0.5 * x)
    if kind.backend == "torch":
        given = kind.array(x).requires_grad_()
        classic.shake_drop(given, 1.0, AT, beta=(0.5, 0.5)).sum().backward()
        np.testing.assert_array_equal(as_numpy(given.grad), [[0.5, 0.0, 0.0, 0.0]])


COEFFICIENTS = {  # (forward, backward) -> from the draws a and b, the two coefficients
    ("shake", "shake"): lambda a, b: (a, b),
    ("shake", "even"): lambda a, b: (a, np.full_like(a, 0.5)),
    ("shake", "keep"): lambda a, b: (a, a),
    ("even", "shake"): lambda a, b: (np.full_like(a, 0.5), b),
    ("even", "even"): lambda a, b: (np.full_like(a, 0.5), np.full_like(a, 0.5)),
}


@pytest.mark.parametrize("level", ["image", "batch"])
@pytest.mark.parametrize("names", COEFFICIENTS, ids="-".join)
def test_shake_shake(names, level):
    x, other, grad = arrays((4, 3), (4, 3), (4, 3), seed=5)
    shape = (4, 1) if level == "image" else (1, 1)
    a, b = COEFFICIENTS[names](uniforms(shape), uniforms(shape, 1))
    how = {"level": level, "forward": names[0], "backward": names[1]}
    for kind in KINDS:
        agree(kind, classic.shake_shake, (x, other), a * x + (1 - a) * other, AT, **how)
        agree(kind, classic.shake_shake, (x, other), (x + other) / 2, AT, training=False, **how)
    first, second = (torch.from_numpy(z).requires_grad_() for z in (x, other))
    y = classic.shake_shake(first, second, AT, **how)
    dx, dother = torch.autograd.grad(y, (first, second), torch.from_numpy(grad))
    np.testing.assert_allclose(dx.numpy(), b * grad, rtol=1e-12)
    np.testing.assert_allclose(dother.numpy(), (1 - b) * grad, rtol=1e-12)


def test_shake_shake_has_the_rows_moments():
    row = find("Shake-Shake")
    x, other = arrays((3, 2), (3, 2), seed=6)
    n = 4000
    y = np.stack(
        [classic.shake_shake(x, other, thinned.Address(seed, "shelf")) for seed in range(n)]
    )
    moments_agree(y, *row.moments.of(x, other))


def moments_agree(y, mean, variance):
    n = len(y)
    assert (abs(y.mean(0) - mean) <= 6 * np.sqrt(variance / n) + 1e-12).all()
    spread = ((y - mean) ** 2).std(0) / math.sqrt(n)
    assert (abs(((y - mean) ** 2).mean(0) - variance) <= 6 * spread + 1e-12).all()


# ---------------------------------------------------------------------------------------- attention


def rows_of_softmax(shape, seed=7):
    e = np.exp(arrays(shape, seed=seed)[0])
    return e / e.sum(-1, keepdims=True)


def slow_attention(x, p, by, width):
    n, q, k = x.shape
    seeds = kept((n, 1, k) if by == "column" else (n, q, k), p / width)
    y, scales = np.zeros_like(x), np.zeros((n, q, 1))
    for i, j in np.ndindex(n, q):
        row = [True] * k
        for start in range(k):
            if not seeds[i, 0 if by == "column" else j, start]:
                for hit in range(start, min(start + width, k)):
                    row[hit] = False
        left = sum(x[i, j, t] for t in range(k) if row[t])
        scales[i, j] = x[i, j].sum() / left if left else 1.0
        for t in range(k):
            y[i, j, t] = x[i, j, t] * scales[i, j, 0] if row[t] else 0.0
    return y, scales


@over_kinds
@over_ps
@pytest.mark.parametrize("by", ["element", "column"])
@pytest.mark.parametrize("width", [1, 2, 6])
def test_drop_attention(kind, p, by, width):
    x = rows_of_softmax((3, 4, 6))
    slow, _ = slow_attention(x, p, by, width)
    agree(kind, classic.drop_attention, (x,), slow, p, AT, by=by, width=width)
    alive = slow.sum(-1) > 0
    np.testing.assert_allclose(slow.sum(-1)[alive], 1.0)


@pytest.mark.parametrize("by", ["element", "column"])
def test_drop_attentions_scale_has_no_gradient(by):
    x, (grad,) = rows_of_softmax((3, 4, 6)), arrays((3, 4, 6))
    slow, scales = slow_attention(x, 0.4, by, 2)
    given = torch.from_numpy(x).requires_grad_()
    y = classic.drop_attention(given, 0.4, AT, by=by, width=2)
    (dx,) = torch.autograd.grad(y, given, torch.from_numpy(grad))
    np.testing.assert_allclose(dx.numpy(), np.where(slow != 0, scales * grad, 0.0), rtol=1e-12)


def test_drop_attentions_wide_seeds_drop_what_the_docstring_says():
    x, p, width = np.ones((500, 4, 9)), 0.5, 3
    dropped = classic.drop_attention(x, p, AT, width=width) == 0
    share = dropped[..., width - 1 :].mean()
    expected = 1 - (1 - p / width) ** width
    assert abs(share - expected) < 6 * math.sqrt(expected * (1 - expected) * width / 14_000)


# ---------------------------------------------------------------------------- spectrum, information


def slow_cosines(n):
    d = np.zeros((n, n))
    for k, j in np.ndindex(n, n):
        d[k, j] = math.cos(math.pi * (2 * j + 1) * k / (2 * n)) * math.sqrt((2 if k else 1) / n)
    return d


@over_kinds
@over_ps
@pytest.mark.parametrize("weak", ["drawn", "cut"])
def test_spectral_dropout(kind, p, weak):
    (x,) = arrays((4, 6, 3), seed=8)
    d, m, slow = slow_cosines(6), kept((4, 6, 3), p), np.zeros((4, 6, 3))
    np.testing.assert_allclose(d @ d.T, np.eye(6), atol=1e-12)
    for n, place in np.ndindex(4, 3):
        c = d @ x[n, :, place]
        for k in range(6):
            strong, drawn = abs(c[k]) > 0.8, m[n, k, place]
            if not ((strong or drawn) if weak == "drawn" else (strong and drawn)):
                c[k] = 0.0
        slow[n, :, place] = d.T @ c
    agree(kind, classic.spectral_dropout, (x,), slow, p, AT, tau=0.8, axis=-2, weak=weak)


def test_long_transforms_keep_their_digits():
    x = arrays((2, 3000))[0].astype(np.float32)
    narrow = classic.spectral_dropout(x, 1.0, AT, tau=1e9)
    assert abs(narrow).max() < 2e-5  # every coefficient is weak and goes: nothing is left


@over_kinds
def test_information_dropout(kind):
    x, alpha = arrays((5, 4), (5, 4), seed=9)
    alpha, z, slow = abs(alpha), normals((5, 4)), np.zeros((5, 4))
    for i in np.ndindex(5, 4):
        slow[i] = x[i] * math.exp(alpha[i] * z[i])
    with kind.in_use():
        given = [kind.array(a) for a in (x, alpha)]
        y = classic.information_dropout(*given, AT)
        np.testing.assert_allclose(as_numpy(y), slow, rtol=5e-5)
        assert classic.information_dropout(*given, AT, training=False) is given[0]
        mirrored = as_numpy(classic.information_dropout(*given, AT, mirror=True))
    np.testing.assert_allclose(as_numpy(y) * mirrored, x**2, rtol=5e-5)


def test_information_dropout_has_the_rows_moments_and_parts():
    x, alpha = arrays((3, 2), (3, 2))
    alpha = 0.1 + 0.2 * abs(alpha)
    ats = [thinned.Address(seed, "shelf") for seed in range(4000)]
    y = np.stack([classic.information_dropout(x, alpha, at) for at in ats])
    moments_agree(y, *find("information dropout").moments.of(x, alpha))
    part = classic.information_dropout(x[1:], alpha[1:], ats[0], window=thinned.Window(1))
    np.testing.assert_allclose(part, y[0, 1:], rtol=1e-6)


def test_information_dropout_learns_its_alpha():
    x, alpha = (torch.from_numpy(abs(a)) for a in arrays((5, 4), (5, 4)))
    for which in (0, 1):
        given = [x, alpha]
        assert torch.autograd.gradcheck(
            lambda a, i=which, g=given: classic.information_dropout(
                *(a if j == i else b for j, b in enumerate(g)), AT
            ),
            (given[which].clone().requires_grad_(),),
        )


@over_kinds
def test_information_cost(kind):
    alpha = np.array([0.7, 0.35, 0.001])
    slow = [-math.log(a / 0.7) for a in alpha]
    agree(kind, classic.information_cost, (alpha,), slow)
    assert as_numpy(classic.information_cost(kind.array(alpha)))[0] == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------------------------------- the shelf


def test_the_shelf_is_loaded_and_apart():
    rows = {row.name: row for row in every() if row.rank == "classic"}
    assert set(rows) == set(classic.__all__) - {"information_cost"}
    for name, row in rows.items():
        assert getattr(classic, name) is row.function
        assert not hasattr(thinned, name)
    for waiting in ("jumpout", "guided dropout", "checkerboard dropout"):
        assert waiting in classic.__doc__.lower()
        with pytest.raises(KeyError):
            find(waiting)


def test_dropped_nan_does_not_leak():
    x = np.full((6, 5), math.nan)
    s = np.zeros((6, 5))
    for y in (
        classic.standout(x, s, 1.0, AT),
        classic.excitation_dropout(x, np.ones((6, 5)), 1.0, AT),
    ):
        assert (y == 0).all()
