"""Fast dropout's moments: against enumeration of all masks, and integrals done by quadrature."""

import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from libraries import library

import thinned
from thinned.methods import moments

torch = library("torch")

RNG = np.random.default_rng(0)
X, W, B = RNG.standard_normal((4, 6)), RNG.standard_normal((3, 6)), RNG.standard_normal(3)


def over_all_masks(x, w, b, p, inverted):
    """Mean and variance of the layer over the 2^n masks, each by its probability."""
    values, chances = [], []
    for mask in itertools.product((0, 1), repeat=x.shape[-1]):
        m = np.array(mask)
        values.append((x * m / ((1 - p) if inverted else 1)) @ w.T + b)
        chances.append((1 - p) ** m.sum() * p ** (len(m) - m.sum()))
    values, chances = np.stack(values), np.array(chances)[:, None, None]
    mean = (chances * values).sum(0)
    return mean, (chances * (values - mean) ** 2).sum(0)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("inverted", [False, True])
def test_moments_are_those_over_all_masks(p, inverted):
    mean, variance = thinned.fast_dropout_moments(X, W, B, p, inverted=inverted)
    expected = over_all_masks(X, W, B, p, inverted)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inverted", [False, True])
def test_nothing_is_left_at_one(inverted):
    mean, variance = thinned.fast_dropout_moments(X, W, B, 1.0, inverted=inverted)
    np.testing.assert_array_equal(mean, np.broadcast_to(B, (4, 3)))
    np.testing.assert_array_equal(variance, 0.0)


def test_moments_are_those_of_draws():
    y = np.stack([
        thinned.dropout(X, 0.3, thinned.Address(seed=s)) @ W.T + B for s in range(4000)
    ])  # fmt: skip
    mean, variance = thinned.fast_dropout_moments(X, W, B, 0.3, inverted=True)
    assert (abs(y.mean(0) - mean) < 6 * np.sqrt(variance / 4000)).all()
    np.testing.assert_allclose(y.var(0), variance, rtol=0.2)


@pytest.mark.parametrize("inverted", [False, True])
def test_inputs_that_vary_add_their_part(inverted):
    """Inputs of two values each: all of them and all masks enumerated."""
    x, deviation = X[:1, :4], np.array([[0.5, 1.0, 0.0, 2.0]])
    w, p = W[:, :4], 0.3
    values, chances = [], []
    for signs in itertools.product((-1, 1), repeat=4):
        for mask in itertools.product((0, 1), repeat=4):
            m = np.array(mask)
            z = (x + np.array(signs) * deviation) * m / ((1 - p) if inverted else 1)
            values.append(z @ w.T)
            chances.append((1 - p) ** m.sum() * p ** (4 - m.sum()) / 16)
    values, chances = np.stack(values), np.array(chances)[:, None, None]
    expected = (chances * values).sum(0)
    found = thinned.fast_dropout_moments(x, w, p=p, variance=deviation**2, inverted=inverted)
    np.testing.assert_allclose(found[0], expected)
    np.testing.assert_allclose(found[1], (chances * (values - expected) ** 2).sum(0))


def expectation(function, mean, variance):
    density = scipy.stats.norm(mean, variance**0.5).pdf
    width = 10 * variance**0.5
    return scipy.integrate.quad(
        lambda s: function(s) * density(s), mean - width, mean + width, limit=400, points=[0.0]
    )[0]


def test_the_sigmoids_mean_is_near():
    worst = 0.0
    for mean in (0.0, 0.3, 1.0, 2.0, 4.0, 8.0, 20.0):
        for variance in (0.1, 1.0, 4.0, 20.0, 100.0, 1000.0):
            exact = expectation(lambda s: 0.5 + 0.5 * np.tanh(s / 2), mean, variance)
            found = thinned.expected_sigmoid(np.float64(mean), np.float64(variance))
            worst = max(worst, abs(float(found) - exact))
    assert 0.005 < worst < 0.02


def test_the_sigmoid_is_itself_without_variance_and_overflows_nowhere():
    x = np.array([-1000.0, -3.0, 0.0, 3.0, 1000.0])
    y = thinned.expected_sigmoid(x, np.zeros(5))
    np.testing.assert_allclose(y, [0.0, 1 / (1 + np.e**3), 0.5, 1 / (1 + np.e**-3), 1.0])
    assert (thinned.expected_sigmoid(np.zeros(3), np.array([1.0, 10.0, 1e30])) == 0.5).all()


@pytest.mark.parametrize("mean", [-6.0, -1.0, 0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("variance", [0.01, 1.0, 9.0])
def test_the_rectified_moments_are_exact(mean, variance):
    first, second = thinned.expected_relu(np.float64(mean), np.float64(variance))
    exact = expectation(lambda s: max(s, 0.0), mean, variance)
    square = expectation(lambda s: max(s, 0.0) ** 2, mean, variance)
    np.testing.assert_allclose(first, exact, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(second, square - exact**2, rtol=1e-5, atol=1e-9)
    assert second >= 0


def test_a_certain_input_is_rectified_as_ever():
    mean, variance = thinned.expected_relu(np.array([-2.0, 0.0, 3.0]), np.zeros(3))
    np.testing.assert_array_equal(mean, [0.0, 0.0, 3.0])
    np.testing.assert_array_equal(variance, 0.0)


def test_torch_gives_the_same_and_has_gradients():
    x, w, b = (torch.from_numpy(a).requires_grad_() for a in (X, W, B))
    found = thinned.fast_dropout_moments(x, w, b, 0.3)
    expected = thinned.fast_dropout_moments(X, W, B, 0.3)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), e)
    through = thinned.expected_relu(*found)
    plain = thinned.expected_relu(*expected)
    for a, e in zip(through, plain, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), e)
    assert torch.autograd.gradcheck(
        lambda x, w, b: thinned.expected_sigmoid(*thinned.fast_dropout_moments(x, w, b, 0.3)),
        (x, w, b),
    )
    assert torch.autograd.gradcheck(
        lambda x, w, b: thinned.expected_relu(*thinned.fast_dropout_moments(x, w, b, 0.3)),
        (x, w, b),
    )
    zero = torch.zeros(3, requires_grad=True)
    mean, variance = thinned.expected_relu(zero, torch.zeros(3, requires_grad=True))
    (dx,) = torch.autograd.grad((mean + variance).sum(), zero)
    assert torch.isfinite(dx).all()


def test_a_network_goes_through_two_layers():
    """Within a few hundredths of draws: wide layers, the Gaussian assumed of every unit."""
    rng = np.random.default_rng(1)
    x, w, v = rng.standard_normal(200), *(rng.standard_normal(s) / 14 for s in ((200, 200),) * 2)
    v = v[:1]
    mean, variance = thinned.fast_dropout_moments(x, w, p=0.5, inverted=True)
    hidden, spread = thinned.expected_relu(mean, variance)
    mean, variance = thinned.fast_dropout_moments(hidden, v, p=0.5, variance=spread, inverted=True)
    ys = []
    for seed in range(3000):
        at = thinned.Address(seed=seed)
        h = np.maximum(w @ thinned.dropout(x, 0.5, at), 0.0)
        ys.append(v @ thinned.dropout(h, 0.5, at.replace(site=1)))
    deviation = np.std(ys)
    assert abs(np.mean(ys) - mean[0]) < 6 * deviation / np.sqrt(3000)
    assert abs(variance[0] ** 0.5 / deviation - 1) < 0.1


@pytest.mark.parametrize(("given", "named", "error", "words"), [
    ((X, W[:, :5]), {}, ValueError, r"weight must be of shape \(outputs, inputs\), got \(3, 5\)"),
    ((X, W[0]), {}, ValueError, "weight must be of shape"),
    ((X, W, B[:2]), {}, ValueError, r"bias must be of shape \(3,\), got \(2,\)"),
    ((X, W), {"variance": B}, ValueError, r"variance must be of x's shape \(4, 6\), got \(3,\)"),
    ((X, W), {"p": 1.5}, ValueError, "p must be a float in"),
    ((X, W), {"inverted": 1}, TypeError, "inverted must be True or False"),
    ((X.astype(int), W), {}, TypeError, "x must be of type"),
    ((X.tolist(), W), {}, TypeError, "x must be a numpy array"),
])  # fmt: skip
def test_wrong_layers_are_refused(given, named, error, words):
    with pytest.raises(error, match=f"^fast_dropout_moments: {words}"):
        thinned.fast_dropout_moments(*given, **named)


def test_a_weight_of_another_library_is_refused():
    weight = torch.from_numpy(W)
    with pytest.raises(TypeError, match=r"^fast_dropout_moments: weight must be an array of x's"):
        thinned.fast_dropout_moments(X, weight)


def test_activations_want_arrays_of_one_kind():
    for function in (thinned.expected_sigmoid, thinned.expected_relu):
        with pytest.raises(
            TypeError, match=f"^{function.__name__}: variance must be an array of mean's library"
        ):
            function(X, torch.from_numpy(X))
        with pytest.raises(TypeError, match=f"^{function.__name__}: mean must be a numpy array"):
            function(1.0, X)


def test_faults_in_the_moments_are_caught(monkeypatch):
    right = moments.fast_dropout_moments

    def of_the_mean_alone(*given, **named):
        mean, variance = right(*given, **named)
        return mean, variance / (1.0 - (given[3] if len(given) > 3 else named["p"]))

    monkeypatch.setattr(thinned, "fast_dropout_moments", of_the_mean_alone)
    with pytest.raises(AssertionError):
        test_moments_are_those_over_all_masks(0.5, False)
    monkeypatch.setattr(thinned, "fast_dropout_moments", lambda *g, variance, **n: right(*g, **n))
    with pytest.raises(AssertionError):
        test_inputs_that_vary_add_their_part(False)
    monkeypatch.setattr(thinned, "expected_sigmoid", lambda m, v: 0.5 + 0.5 * np.tanh(m / 2))
    with pytest.raises(AssertionError):
        test_the_sigmoids_mean_is_near()
    monkeypatch.setattr(thinned, "expected_relu", lambda m, v: (np.maximum(m, 0), v))
    with pytest.raises(AssertionError):
        test_the_rectified_moments_are_exact(0.5, 1.0)
