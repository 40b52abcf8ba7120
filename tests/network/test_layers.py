import subprocess
import sys

import numpy as np
import pytest

import thinned
from thinned import reference
from thinned.numpy import Dropout, Layer, Linear, ReLU, Sequential, Tanh

AT = thinned.Address(seed=3, site="here", step=5)
TIGHT = {"rtol": 1e-7, "atol": 1e-8}


def batch(shape=(6, 5), seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check_layer(layer, x, slope, training=True):
    """dx and every parameter's gradient against central differences of sum(c * layer(x))."""
    c = batch(layer.forward(x, training).shape, seed=1)

    def total():
        return float((c * layer.forward(x, training)).sum())

    # The slopes come first, so that they are right even of a layer that backward spoils.
    expected = [slope(total, x), *(slope(total, each.value) for each in layer.parameters())]
    total()
    found = [layer.backward(c), *(each.gradient for each in layer.parameters())]
    for gradient, numeric in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, numeric, **TIGHT)


DROPOUTS = [
    Dropout(p, AT, rescale, shared)
    for p in (0, 0.3, 0.5, 1)
    for rescale in ("train", "test")
    for shared in ((), (0,), 1, (0, 1))
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", DROPOUTS, ids=lambda d: f"{d.p}-{d.rescale}-{d.shared_axes}")
def test_gradients_of_dropout(layer, training, slope):
    check_layer(layer, batch(), slope, training)


@pytest.mark.parametrize("layer", [ReLU(), Tanh()], ids=["relu", "tanh"])
def test_gradients_of_activations(layer, slope):
    check_layer(layer, batch(), slope)


@pytest.mark.parametrize("init", ["he", "glorot"])
def test_gradients_of_linear(init, slope):
    layer = Linear(5, 4, init, AT, np.float64)
    layer.bias[:] = batch(4)
    check_layer(layer, batch(), slope)


class AnotherMask(Dropout):
    def backward(self, dy):
        self.tick()
        return self.forward(dy, True)


class NoScale(Dropout):
    def backward(self, dy):
        return dy * (self.forward(np.ones_like(dy), True) != 0)


class InvertedMask(Dropout):
    def backward(self, dy):
        return dy * 2 - super().backward(dy)


class UnsharedMask(Dropout):
    def backward(self, dy):
        self.shared_axes = ()
        return super().backward(dy)


class NothingComesBack(Dropout):
    def backward(self, dy):
        return np.zeros_like(dy)


class ScaledTwice(Dropout):
    def backward(self, dy):
        return super().backward(dy) * 2


class LeakyReLU(ReLU):
    def backward(self, dy):
        return np.where(self._recall() > 0, dy, 0.01 * dy)


class TanhOfTheOutput(Tanh):
    def backward(self, dy):
        return dy * (1 - np.tanh(self._recall()) ** 2)


class NoBias(Linear):
    def gradients(self, dy):
        super().gradients(dy)
        self.d_bias = np.zeros_like(self.d_bias)


class MeanInsteadOfSum(Linear):
    def gradients(self, dy):
        super().gradients(dy)
        self.d_weight = self.d_weight / len(dy)


PLANTED = [
    AnotherMask(0.5, AT),
    NoScale(0.5, AT),
    InvertedMask(0.5, AT),
    UnsharedMask(0.5, AT, shared_axes=0),
    NothingComesBack(0.5, AT),
    ScaledTwice(0.5, AT),
    LeakyReLU(),
    TanhOfTheOutput(),
    NoBias(5, 4, at=AT, dtype=np.float64),
    MeanInsteadOfSum(5, 4, at=AT, dtype=np.float64),
]


@pytest.mark.parametrize("layer", PLANTED, ids=lambda layer: type(layer).__name__)
def test_planted_faults_are_caught(layer, slope):
    with pytest.raises(AssertionError):
        check_layer(layer, batch(), slope)


# ------------------------------------------------------------------------------ what dropout does


@pytest.mark.parametrize("shared", [(), (0,), (1,)])
def test_dropout_is_the_addressed_one(shared):
    x = batch((40, 30))
    y = Dropout(0.3, AT, shared_axes=shared).forward(x, True)
    np.testing.assert_array_equal(y, thinned.dropout(x, 0.3, AT, shared_axes=shared))
    keep = thinned.keep_mask(x.shape, 0.3, AT, shared_axes=shared)
    plain = Dropout(0.3, AT, "test", shared_axes=shared).forward(x, True)
    np.testing.assert_array_equal(plain, np.where(keep, x, 0))


def test_evaluation():
    x = batch()
    assert Dropout(0.3, AT).forward(x, False) is x
    np.testing.assert_array_equal(Dropout(0.3, AT, "test").forward(x, False), x * (1 - 0.3))


@pytest.mark.parametrize("rescale", ["train", "test"])
@pytest.mark.parametrize("training", [True, False])
def test_p_0_copies_nothing_and_draws_nothing(rescale, training, monkeypatch):
    monkeypatch.setattr(reference, "philox", None)
    x = batch()
    layer = Dropout(0, AT, rescale)
    assert layer.forward(x, training) is x
    assert layer.backward(x) is x


def test_p_1_leaves_nothing():
    x = np.array([[1.0, np.inf, np.nan]])
    assert not Dropout(1, AT).forward(x, True).any()
    assert not Dropout(1, AT, "test").forward(x, True).any()
    assert not Dropout(1, AT, "test").forward(x, False).any()


def test_dropped_nan_is_gone():
    keep = thinned.keep_mask((1, 64), 0.5, AT)
    x = np.where(keep, 1.0, np.nan)
    assert np.isfinite(Dropout(0.5, AT).forward(x, True)).all()


@pytest.mark.parametrize("rescale", ["train", "test"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_are_kept_and_inputs_are_not_changed(rescale, training, dtype):
    x = batch().astype(dtype)
    x.flags.writeable = False
    layer = Dropout(0.3, AT, rescale)
    assert layer.forward(x, training).dtype == dtype
    assert layer.backward(x).dtype == dtype


def test_half_types_round_once():
    x = batch((30, 30)).astype(np.float16)
    y = Dropout(0.1, AT, "test").forward(x, False)
    once = (x.astype(np.float32) * np.float32(0.9)).astype(np.float16)
    assert (once != x * np.float16(0.9)).any()
    np.testing.assert_array_equal(y, once)


def test_both_scalings_mean_the_same_network():
    """Over many steps either layer's mean in training is what it gives in evaluation."""
    x = np.ones((50, 40))
    for rescale in ("train", "test"):
        layer = Dropout(0.3, AT, rescale)
        means = []
        for _ in range(50):
            means.append(layer.forward(x, True).mean())
            layer.tick()
        kept = 1 / 0.7 if rescale == "train" else 1.0
        error = kept * np.sqrt(0.3 * 0.7 / (50 * 2000))
        assert abs(np.mean(means) - layer.forward(x, False).mean()) < 4 * error


def test_the_clock_of_a_layer():
    layer, x = Dropout(0.5, AT), np.ones((20, 20))
    first = layer.forward(x, True)
    np.testing.assert_array_equal(layer.forward(x, True), first)
    layer.tick()
    assert layer.at == AT.replace(step=6)
    # The backward pass belongs to the last forward pass, whatever the clock says now.
    np.testing.assert_array_equal(layer.backward(x), first)
    assert (layer.forward(x, True) != first).any()


def test_backward_goes_with_its_forward_pass_whatever_p_is_now():
    layer, x = Dropout(0.5, AT), np.ones((20, 20))
    y = layer.forward(x, True)
    layer.p = 0.9
    np.testing.assert_array_equal(layer.backward(x), y)
    layer.forward(x, False)
    assert layer.backward(x) is x


def test_a_layer_of_ones_own(slope):
    class Square(Layer):
        def forward(self, x, training):
            self._kept = x
            return x * x

        def backward(self, dy):
            return 2 * dy * self._recall()

    check_layer(Square(), batch(), slope)
    network = Sequential(Linear(5, 4, dtype=np.float64), Square(), seed=0)
    network.forward(batch(), True)
    network.backward(batch((6, 4)))
    assert network.layers[0].d_weight.shape == (5, 4)


def test_the_room_needs_numpy_alone():
    code = """
import sys
import thinned.numpy
print([name for name in ("scipy", "sklearn", "pandas", "torch", "jax") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------------------------- first weights


def test_he_and_glorot_moments():
    n_in, n_out = 400, 300
    n = n_in * n_out
    w = Linear(n_in, n_out, "he", AT, np.float64).weight
    sd = np.sqrt(2 / n_in)
    assert abs(w.mean()) < 4 * sd / np.sqrt(n)
    assert abs(w.var() - sd**2) < 4 * sd**2 * np.sqrt(2 / n)
    assert abs((w**4).mean() / sd**4 - 3) < 4 * np.sqrt(96 / n)
    w = Linear(n_in, n_out, "glorot", AT, np.float64).weight
    a = np.sqrt(6 / (n_in + n_out))
    assert 0.999 * a < np.abs(w).max() < a
    assert abs(w.mean()) < 4 * a / np.sqrt(3 * n)
    assert abs(w.var() - a**2 / 3) < 4 * a**2 * np.sqrt(4 / 45 / n)


@pytest.mark.parametrize("init", ["he", "glorot"])
def test_first_weights_are_a_function_of_the_address(init):
    one, two = (Linear(20, 30, init, AT) for _ in range(2))
    np.testing.assert_array_equal(one.weight, two.weight)
    assert one.weight.dtype == np.float32
    double = Linear(20, 30, init, AT, np.float64)
    np.testing.assert_array_equal(one.weight, double.weight.astype(np.float32))
    for other in (AT.replace(site="there"), AT.replace(seed=4), AT.replace(step=6)):
        correlation = np.corrcoef(double.weight.flat, Linear(20, 30, init, other).weight.flat)
        assert abs(correlation[0, 1]) < 4 / np.sqrt(600)
    assert not one.bias.any()
    assert one.bias.shape == (30,)


def test_glorot_is_the_word_of_the_spec():
    layer = Linear(3, 5, "glorot", AT, np.float64)
    a = np.sqrt(6 / 8)
    for i in range(15):
        word = int(reference.words(AT, np.array([i], np.uint64))[0])
        assert layer.weight.flat[i] == ((2 * (word >> 9) + 1) / 2**24 * 2 - 1) * a


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("layer", [ReLU(), Tanh(), Dropout(0.5, AT), Linear(3, 2, at=AT)])
def test_backward_before_forward(layer):
    expected = (
        f"^{type(layer).__name__}.backward: there is no forward pass to go back through. "
        "Call forward first.$"
    )
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(np.ones((1, 2)))
    layer.forward(np.ones((1, 3)), True)
    layer.forget()
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Dropout(1.5), ValueError, "Dropout: p must be a float in [0, 1], got 1.5."),
        (lambda: Dropout("a half"), TypeError, "Dropout: p must be a float in [0, 1]"),
        (
            lambda: Dropout(0.5, rescale="later"),
            ValueError,
            "Dropout: rescale must be 'train' or 'test', got 'later'.",
        ),
        (
            lambda: Dropout(0.5).forward(np.ones((1, 2)), True),
            TypeError,
            "Dropout: at must be a thinned.Address, got NoneType. Give a mask its address",
        ),
        (
            lambda: Dropout(0.5, AT, shared_axes=2).forward(np.ones((1, 2)), True),
            ValueError,
            "Dropout: an axis in shared_axes must be",
        ),
        (
            lambda: Dropout(0.5, AT).forward(np.ones((1, 2), int), True),
            TypeError,
            "Dropout: x must be of type",
        ),
        (
            lambda: Linear(3, 2).forward(np.ones((1, 3)), True),
            RuntimeError,
            "Linear: the weights are not drawn yet, for want of an address. Pass at=",
        ),
        (
            lambda: Linear(3, 2, at=AT).forward(np.ones((1, 4)), True),
            ValueError,
            "Linear: x must be of shape (N, 3), got (1, 4).",
        ),
        (
            lambda: Linear(3, 2, at=AT).forward(np.ones(3), True),
            ValueError,
            "Linear: x must be of shape (N, 3), got (3,).",
        ),
        (lambda: Linear(0, 2), ValueError, "Linear: n_in must be an integer in [1, 2147483648)"),
        (lambda: Linear(3, 2.0), TypeError, "Linear: n_out must be an integer in"),
        (lambda: Linear(3, 2, "xavier"), ValueError, "Linear: init must be 'he' or 'glorot', got"),
        (lambda: Layer().forward(np.ones(1), True), NotImplementedError, "Layer.forward is not"),
        (lambda: Layer().backward(np.ones(1)), NotImplementedError, "Layer.backward is not"),
    ],
)
def test_error_texts(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(text)
