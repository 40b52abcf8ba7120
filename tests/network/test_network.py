import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

import thinned
from thinned import Address, reference
from thinned.numpy import (
    SGD,
    Adam,
    Dropout,
    Linear,
    ReLU,
    Sequential,
    Tanh,
    batches,
    softmax_cross_entropy,
    squared_error,
)


def deep(seed=0):
    """Every kind of layer, both scalings, draws of each element and shared ones; in float64."""
    double = {"dtype": np.float64}
    return Sequential(
        Dropout(0.2),
        Linear(6, 9, **double),
        ReLU(),
        Dropout(0.5, rescale="test", shared_axes=(0,)),
        Linear(9, 8, "glorot", **double),
        Tanh(),
        Dropout(0.4, rescale="test"),
        Dropout(0.3, shared_axes=1),
        Linear(8, 3, "glorot", **double),
        seed=seed,
    )


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 6)), rng.integers(0, 3, 7), rng.normal(size=(7, 3))


def check_network(network, loss, target, slope, training=True):
    x, *_ = data()

    def total():
        return loss(network.forward(x, training), target)[0]

    expected = [slope(total, x), *(slope(total, each.value) for each in network.parameters())]
    _, dy = loss(network.forward(x, training), target)
    found = [network.backward(dy), *(each.gradient for each in network.parameters())]
    for gradient, numeric in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("step", [0, 3])
def test_gradients_of_a_whole_network(training, step, slope):
    """The mask is pinned, for nobody ticks."""
    _, labels, targets = data()
    for loss, target in ((softmax_cross_entropy, labels), (squared_error, targets)):
        network = deep()
        for _ in range(step):
            network.tick()
        check_network(network, loss, target, slope, training)


@pytest.mark.parametrize("which", [0, 3, 6, 7])
def test_another_mask_in_backward_is_caught(which, slope):
    network = deep()
    layer = network.layers[which]
    layer.backward = lambda dy: thinned.dropout(
        dy, layer.p, layer.at.replace(call=1), shared_axes=layer.shared_axes
    )
    with pytest.raises(AssertionError):
        check_network(network, softmax_cross_entropy, data()[1], slope)


def test_gradients_without_dx_are_the_same():
    x, labels, _ = data()
    network = deep()
    _, dy = softmax_cross_entropy(network.forward(x, True), labels)
    network.backward(dy)
    whole = [parameter.gradient for parameter in network.parameters()]
    network.gradients(dy)
    for a, b in zip(whole, network.parameters(), strict=True):
        assert a is not b.gradient
        np.testing.assert_array_equal(a, b.gradient)


# ------------------------------------------------------------------------- addresses and the clock


def test_sites_by_position():
    at = Address(9, "mine", 4)
    network = Sequential(Linear(2, 3), Dropout(0.5), Dropout(0.5, at), Linear(3, 2), seed=7)
    assert [layer.at for layer in network.layers] == [
        Address(7, "layers.0"),
        Address(7, "layers.1"),
        at,
        Address(7, "layers.3"),
    ]
    network.tick()
    steps = [layer.at.step for layer in network.layers]
    assert steps == [0, 1, 5, 0]


def test_the_seed_is_the_network():
    x, *_ = data()
    np.testing.assert_array_equal(deep(1).forward(x, True), deep(1).forward(x, True))
    assert (deep(1).forward(x, True) != deep(2).forward(x, True)).any()
    assert (deep(1).layers[1].weight != deep(2).layers[1].weight).all()


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_step_of_the_optimizer_is_a_step_of_the_clock(optimizer):
    x, labels, _ = data()
    network = deep()
    stepper = optimizer(network)
    for step in range(3):
        assert {layer.at.step for layer in network.layers if isinstance(layer, Dropout)} == {step}
        for _ in range(2):  # two passes of one step have one mask
            scores = network.forward(x, training=True)
        network.backward(softmax_cross_entropy(scores, labels)[1])
        stepper.step()


def test_layers_draw_apart():
    """Two dropout layers of one network, and two steps of one, agree as often as chance has it."""
    x = np.ones((100, 100))
    network = Sequential(Dropout(0.5), Dropout(0.5), seed=0)
    masks = []
    for _ in range(3):
        masks += [layer.forward(x, True) > 0 for layer in network.layers]
        network.tick()
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert abs((a == b).mean() - 0.5) < 4 * 0.5 / 100


def test_forget_and_pickle():
    network = deep()
    x, labels, _ = data()
    before = len(pickle.dumps(network))
    network.backward(softmax_cross_entropy(network.forward(x, True), labels)[1])
    network.forget()
    assert len(pickle.dumps(network)) < before + 100
    again = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(again.forward(x, True), network.forward(x, True))


SAME = Dropout(0.5)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Sequential(), ValueError, "Sequential: no layers were given."),
        (
            lambda: Sequential([ReLU()]),
            TypeError,
            (
                "Sequential: layers must be Layers, got list at position 0. "
                "Pass layers one by one, not as a list."
            ),
        ),
        (
            lambda: Sequential(ReLU(), np.tanh),
            TypeError,
            "Sequential: layers must be Layers, got ufunc at position 1.",
        ),
        (
            lambda: Sequential(SAME, ReLU(), SAME),
            ValueError,
            (
                "Sequential: layer 2 is layer 0 again. A layer remembers one forward pass; "
                "make another one."
            ),
        ),
        (
            lambda: Sequential(Dropout(0.5, Address(0, "a")), Dropout(0.1, Address(0, "a"))),
            ValueError,
            (
                "Sequential: layers 0 and 1 share the Address(seed=0, site='a', step=0, call=0), "
                "and would draw the same. Give each a site of its own."
            ),
        ),
        (
            lambda: Sequential(Linear(2, 2), seed=-1),
            ValueError,
            "Address: seed must be an integer in",
        ),
        (
            lambda: Sequential(ReLU()).forward(np.ones((1, 1)), training=0.5),
            TypeError,
            "Sequential.forward: training must be True or False, got 0.5 (float).",
        ),
    ],
)
def test_error_texts(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(text)


# ---------------------------------------------------------------------------------------- batches


def test_batches():
    assert [rows.tolist() for rows in batches(7, 3, None)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches(0, 3, Address())) == []
    orders = []
    for step in range(3):
        rows = list(batches(100, 32, Address(1, "shuffle", step)))
        assert [len(part) for part in rows] == [32, 32, 32, 4]
        orders.append(np.concatenate(rows).tolist())
        assert sorted(orders[-1]) == list(range(100))
    assert orders[0] != orders[1] != orders[2]
    at = Address(1, "shuffle", 2)
    assert np.concatenate(list(batches(100, 7, at))).tolist() == orders[2]
    words = reference.words(at, np.arange(100, dtype=np.uint64)).tolist()
    assert orders[2] == sorted(range(100), key=words.__getitem__)
    with pytest.raises(ValueError, match=r"batches: size must be an integer in \[1, "):
        next(batches(3, 0, None))


# ------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("rescale", ["train", "test"])
def test_digits(optimizer, rescale):
    x, labels = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    train, test = np.split(np.concatenate(list(batches(len(x), 100, Address(0, "split")))), [1400])
    network = Sequential(
        Linear(64, 128),
        ReLU(),
        Dropout(0.3, rescale=rescale),
        Linear(128, 10, "glorot"),
        seed=0,
    )
    stepper = optimizer(network, learning_rate=0.05 if optimizer is SGD else 0.003)
    for epoch in range(15):
        for rows in batches(len(train), 100, Address(0, "shuffle", epoch)):
            rows = train[rows]
            _, dy = softmax_cross_entropy(network.forward(x[rows], training=True), labels[rows])
            network.backward(dy)
            stepper.step()
    predicted = network.forward(x[test], training=False).argmax(axis=1)
    assert (predicted == labels[test]).mean() > 0.95


def test_dropout_on_the_inputs_of_a_linear_model_is_ridge_regression():
    """Mean over all masks of |y - (X m / (1 - p)) w|^2 = |y - X w|^2 + r sum_j (X'X)_jj w_j^2."""
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()).reshape(-1, 1)
    n, p = len(x), 0.5
    r = p / (1 - p)
    w = np.linalg.solve(x.T @ x + r * np.diag((x * x).sum(axis=0)), x.T @ y)
    network = Sequential(Dropout(p), Linear(10, 1, dtype=np.float64), seed=0)
    network.layers[1].weight[...] = w
    losses, slopes = [], []
    for _ in range(400):
        loss, dy = squared_error(network.forward(x, training=True), y)
        network.backward(dy)
        losses.append(2 * n * loss)
        slopes.append(2 * n * network.layers[1].d_weight[:, 0])
        network.tick()
    closed = ((y - x @ w) ** 2).sum() + r * ((x * x).sum(axis=0) * w[:, 0] ** 2).sum()
    assert closed == pytest.approx(1700059.1029, abs=1e-3)
    error = np.std(losses, ddof=1) / np.sqrt(len(losses))
    assert error < 0.005 * closed
    assert abs(np.mean(losses) - closed) < 4 * error
    # w is the optimum of the penalised loss, so over the masks the gradient has mean 0.
    errors = np.std(slopes, axis=0, ddof=1) / np.sqrt(len(slopes))
    assert (np.abs(np.mean(slopes, axis=0)) < 4 * errors).all()
    # A fault this oracle must see: no scale in training.
    unscaled = np.mean(
        [
            ((y - (x * (np.random.default_rng(i).random(x.shape) < p)) @ w) ** 2).sum()
            for i in range(50)
        ]
    )
    assert abs(unscaled - closed) > 4 * error
