"""Optimizers against recursions written once more, number by number, in Python floats."""

import math

import numpy as np
import pytest

from thinned.numpy import SGD, Adam, Linear, Optimizer, ReLU, Sequential
from thinned.numpy.optimizers import BLOCK

RNG = np.random.default_rng(0)
SLOPES = [(RNG.normal(size=(2, 3)), RNG.normal(size=3)) for _ in range(12)]


def one_layer():
    network = Sequential(Linear(2, 3, dtype=np.float64), seed=1)
    network.layers[0].bias[:] = [0.5, -0.25, 1.0]
    return network


def run(make):
    network = one_layer()
    optimizer = make(network)
    layer = network.layers[0]
    for d_weight, d_bias in SLOPES:
        layer.d_weight, layer.d_bias = d_weight.copy(), d_bias.copy()
        optimizer.step()
    return layer.weight, layer.bias


def sgd_by_hand(w, slopes, rate, momentum, decay):
    v = 0.0
    for g in slopes:
        v = momentum * v - rate * g
        w = w - rate * decay * w + v
    return w


def adam_by_hand(w, slopes, rate, decay, b1=0.9, b2=0.999, epsilon=1e-8):
    m = v = 0.0
    for t, g in enumerate(slopes, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        w = w - rate * decay * w - rate * m_hat / (math.sqrt(v_hat) + epsilon)
    return w


def check(make, by_hand, decay):
    weight, bias = run(make)
    start = one_layer().layers[0]
    for i in np.ndindex(2, 3):
        slopes = [float(d_weight[i]) for d_weight, _ in SLOPES]
        assert weight[i] == pytest.approx(by_hand(float(start.weight[i]), slopes, decay), rel=1e-12)
    for i in range(3):  # biases never decay
        slopes = [float(d_bias[i]) for _, d_bias in SLOPES]
        assert bias[i] == pytest.approx(by_hand(float(start.bias[i]), slopes, 0.0), rel=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(decay, momentum):
    check(
        lambda network: SGD(network, 0.05, momentum, weight_decay=decay),
        lambda w, slopes, decay: sgd_by_hand(w, slopes, 0.05, momentum, decay),
        decay,
    )


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam(decay):
    check(
        lambda network: Adam(network, 0.05, weight_decay=decay),
        lambda w, slopes, decay: adam_by_hand(w, slopes, 0.05, decay),
        decay,
    )


class Coupled(Adam):
    """The fault that decoupled decay was invented against."""

    def step(self):
        layer, decay = self.network.layers[0], self.weight_decay
        layer.d_weight = layer.d_weight + decay * layer.weight
        self.weight_decay = 0.0
        super().step()
        self.weight_decay = decay


class DecayingBias(Adam):
    def step(self):
        self.network.layers[0].bias *= 1 - self.learning_rate * self.weight_decay
        super().step()


class Uncorrected(Adam):
    def step(self):
        self.steps += 1000
        super().step()


@pytest.mark.parametrize("fault", [Coupled, DecayingBias, Uncorrected])
def test_planted_faults_are_caught(fault):
    with pytest.raises(AssertionError):
        check(
            lambda network: fault(network, 0.05, weight_decay=0.3),
            lambda w, slopes, decay: adam_by_hand(w, slopes, 0.05, decay),
            0.3,
        )


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_max_norm_shortens_long_columns_and_leaves_the_others(optimizer):
    network = Sequential(Linear(40, 30, dtype=np.float64), seed=1)
    layer = network.layers[0]
    layer.weight[:, :10] *= 5
    layer.bias[:] = 100
    before = layer.weight.copy()
    layer.d_weight, layer.d_bias = np.zeros((40, 30)), np.zeros(30)
    optimizer(network, max_norm=3.0).step()
    lengths = np.linalg.norm(before, axis=0)
    assert (lengths[:10] > 3).all()
    assert (lengths[10:] < 3).all()
    np.testing.assert_allclose(np.linalg.norm(layer.weight, axis=0)[:10], 3, rtol=1e-12)
    directions = before / lengths
    np.testing.assert_allclose(layer.weight[:, :10], 3 * directions[:, :10], rtol=1e-12)
    np.testing.assert_array_equal(layer.weight[:, 10:], before[:, 10:])
    assert (layer.bias == 100).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_large_weight_goes_as_its_parts_do(optimizer, order):
    """A parameter of many numbers is changed by itself, and block by block."""
    rows, columns = 3 * BLOCK // 100, 100
    assert rows * columns % BLOCK
    whole = Sequential(Linear(rows, columns), ReLU(), Linear(columns, 3), seed=1)
    parts = [Sequential(Linear(rows, 1), ReLU(), Linear(columns, 3), seed=1) for _ in range(2)]
    large, last = whole.layers[0], whole.layers[2]
    for part, column in zip(parts, (0, columns - 1), strict=True):
        part.layers[0].weight[:] = large.weight[:, [column]]
    large.weight = np.asarray(large.weight, order=order)
    over_all, over_parts = optimizer(whole), [optimizer(part) for part in parts]
    rng = np.random.default_rng(0)
    for _ in range(3):
        slopes = rng.normal(size=(rows, columns)).astype(np.float32)
        large.d_weight, large.d_bias = slopes, np.ones(columns, np.float32)
        last.d_weight, last.d_bias = np.ones((columns, 3), np.float32), np.ones(3, np.float32)
        before = slopes.copy()
        over_all.step()
        np.testing.assert_array_equal(slopes, before)
        for part, one, column in zip(parts, over_parts, (0, columns - 1), strict=True):
            first = part.layers[0]
            first.d_weight, first.d_bias = slopes[:, [column]], np.ones(1, np.float32)
            part.layers[2].d_weight, part.layers[2].d_bias = last.d_weight, last.d_bias
            one.step()
    for part, column in zip(parts, (0, columns - 1), strict=True):
        np.testing.assert_array_equal(part.layers[0].weight[:, 0], large.weight[:, column])
        assert part.layers[0].bias[0] == large.bias[column]
    np.testing.assert_array_equal(parts[0].layers[2].weight, last.weight)


def test_float32_stays_float32():
    network = Sequential(Linear(4, 3), ReLU(), Linear(3, 2), seed=0)
    optimizer = Adam(network, weight_decay=0.1, max_norm=1.0)
    network.backward(network.forward(np.ones((5, 4)), True))  # float64 data
    optimizer.step()
    assert {parameter.value.dtype for parameter in network.parameters()} == {np.dtype(np.float32)}


def test_carry_on_is_as_if_never_stopped():
    def train(network, steps, before=None):
        optimizer = Adam(network, 0.01)
        if before is not None:
            optimizer.carry_on(before)
        for _ in range(steps):
            network.backward(network.forward(np.eye(2), True))
            optimizer.step()
        return optimizer

    whole, parts = one_layer(), one_layer()
    train(whole, 6)
    train(parts, 4, before=train(parts, 2))
    np.testing.assert_array_equal(whole.layers[0].weight, parts.layers[0].weight)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: SGD(one_layer(), 0.0),
            ValueError,
            "SGD: learning_rate must be a number in (0, inf), got 0.0.",
        ),
        (
            lambda: Adam(one_layer(), float("nan")),
            ValueError,
            "Adam: learning_rate must be a number in (0, inf), got nan.",
        ),
        (
            lambda: Adam(one_layer(), "fast"),
            TypeError,
            "Adam: learning_rate must be a number in (0, inf), got 'fast' (str).",
        ),
        (
            lambda: SGD(one_layer(), momentum=1),
            ValueError,
            "SGD: momentum must be a number in [0, 1), got 1.",
        ),
        (
            lambda: Adam(one_layer(), weight_decay=-0.1),
            ValueError,
            "Adam: weight_decay must be a number in [0, inf), got -0.1.",
        ),
        (
            lambda: Adam(one_layer(), max_norm=True),
            TypeError,
            "Adam: max_norm must be a number in (0, inf), got True (bool).",
        ),
        (
            lambda: SGD(one_layer()).step(),
            RuntimeError,
            "SGD.step: a parameter has no gradient. Call the network's backward first.",
        ),
        (
            lambda: Optimizer(one_layer(), 0.1)._update(np.ones(1), np.ones(1)),
            NotImplementedError,
            "Optimizer._update is not written.",
        ),
    ],
)
def test_error_texts(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
