import math

import numpy as np
import pytest

from thinned.numpy import softmax, softmax_cross_entropy, squared_error


def test_cross_entropy_by_the_definition():
    scores = np.array([[1.0, 2.0, -1.0], [0.5, 0.5, 3.0]])
    labels = np.array([0, 2])
    loss, _ = softmax_cross_entropy(scores, labels)
    by_hand = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        by_hand -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / 2
    assert loss == pytest.approx(by_hand, rel=1e-14)


def test_squared_error_by_the_definition():
    loss, _ = squared_error(np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0.0, 2.0], [3.0, 1.0]]))
    assert loss == (1 + 16) / 4


def test_gradients(slope):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(5, 4)), rng.integers(0, 4, 5)
    _, gradient = softmax_cross_entropy(scores, labels)
    found = slope(lambda: softmax_cross_entropy(scores, labels)[0], scores)
    np.testing.assert_allclose(gradient, found, rtol=1e-7, atol=1e-9)
    target = rng.normal(size=(5, 4))
    _, gradient = squared_error(scores, target)
    found = slope(lambda: squared_error(scores, target)[0], scores)
    np.testing.assert_allclose(gradient, found, rtol=1e-7, atol=1e-9)


def test_large_scores_neither_overflow_nor_vanish():
    scores = np.array([[1e4, 0.0, -1e4]])
    loss, gradient = softmax_cross_entropy(scores, np.array([2]))
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1.0, 0.0, -1.0]])
    np.testing.assert_array_equal(softmax(scores), [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(softmax(scores[:, :2] / 1e4).sum(), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept(dtype):
    scores = np.ones((3, 2), dtype)
    assert softmax(scores).dtype == dtype
    assert softmax_cross_entropy(scores, np.array([0, 1, 1]))[1].dtype == dtype
    assert squared_error(scores, np.zeros((3, 2), dtype))[1].dtype == dtype


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0, 3])),
            ValueError,
            "softmax_cross_entropy: labels must be integers in [0, 3), got [0, 3].",
        ),
        (
            lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])),
            TypeError,
            "softmax_cross_entropy: labels must be integers, got float64.",
        ),
        (
            lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([[0], [1]])),
            ValueError,
            "softmax_cross_entropy: labels must be of shape (2,), got (2, 1).",
        ),
        (
            lambda: softmax_cross_entropy(np.ones((0, 3)), np.array([], int)),
            ValueError,
            "softmax_cross_entropy: scores must be of shape (N, outputs) with N >= 1, got (0, 3).",
        ),
        (
            lambda: squared_error(np.ones((4, 1)), np.ones(4)),
            ValueError,
            (
                "squared_error: target must be of the prediction's shape (4, 1), got (4,). "
                "Use target.reshape(-1, 1) for one output."
            ),
        ),
    ],
)
def test_error_texts(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
