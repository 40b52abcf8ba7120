"""What the estimators refuse, in which words; and faults that their tests must see."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

import thinned
from thinned import DropoutMLPRegressor
from thinned.numpy import Dropout

from .material import classifier, regressor

# Training is cut short on purpose almost everywhere here; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ----------------------------------------------------------------------------------------- errors


X = np.arange(24.0).reshape(12, 2)
Y = np.arange(12) % 2


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"p": -0.5}, ValueError, "p must be a float in [0, 1], got -0.5."),
        (
            {"p": 50},
            ValueError,
            "p must be a float in [0, 1], got 50. Did you pass a percentage?",
        ),
        ({"p": float("nan")}, ValueError, "p must be a float in [0, 1], got nan."),
        ({"p": None}, TypeError, "p must be a float in [0, 1], got None (NoneType)."),
        (
            {"p": (0.1, 0.2)},
            ValueError,
            "p must be one number, or 3: for the input and for each hidden layer, got 2 numbers.",
        ),
        ({"p": (0.1, 0.2, -1)}, ValueError, "p[2] must be a float in [0, 1], got -1."),
        (
            {"hidden_layer_sizes": (10, 0)},
            ValueError,
            "hidden_layer_sizes[1] must be an integer in [1, 2147483648), got 0.",
        ),
        (
            {"hidden_layer_sizes": "100"},
            TypeError,
            "hidden_layer_sizes must be an integer in [1, 2147483648), got '100' (str).",
        ),
        (
            {"activation": "gelu"},
            ValueError,
            "activation must be 'relu' or 'tanh', got 'gelu'.",
        ),
        ({"solver": "lbfgs"}, ValueError, "solver must be 'adam' or 'sgd', got 'lbfgs'."),
        (
            {"learning_rate_init": 0},
            ValueError,
            "learning_rate_init must be a number in (0, inf), got 0.",
        ),
        (
            {"batch_size": 0},
            ValueError,
            (
                "batch_size must be an integer in [1, 9223372036854775808), got 0. "
                "'auto' takes min(200, n_samples)."
            ),
        ),
        ({"max_iter": 0}, ValueError, "max_iter must be an integer in [1, 2147483648), got 0."),
        ({"tol": -1}, ValueError, "tol must be a number in [0, inf), got -1."),
        (
            {"n_iter_no_change": 0.5},
            TypeError,
            "n_iter_no_change must be an integer in [1, 2147483648), got 0.5 (float).",
        ),
        ({"momentum": 1.0}, ValueError, "momentum must be a number in [0, 1), got 1.0."),
        ({"max_norm": 0}, ValueError, "max_norm must be a number in (0, inf), got 0."),
        ({"weight_decay": -1}, ValueError, "weight_decay must be a number in [0, inf), got -1."),
        (
            {"validation_fraction": 1.0},
            ValueError,
            "validation_fraction must be a number in (0, 1), got 1.0.",
        ),
        (
            {"early_stopping": 0.1},
            TypeError,
            "early_stopping must be True or False, got 0.1 (float).",
        ),
        (
            {"random_state": -1},
            ValueError,
            "random_state must be an integer in [0, 18446744073709551616), got -1.",
        ),
    ],
)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_error_texts_of_parameters(make, parameters, error, text):
    model = make(**parameters)  # scikit-learn's habit: nothing is checked before fit
    with pytest.raises(error) as caught:
        model.fit(X, Y)
    assert str(caught.value) == f"{type(model).__name__}: {text}"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: classifier().fit(X, np.zeros(12, int)),
            "DropoutMLPClassifier: y must be of at least 2 classes, got one class only: [0].",
        ),
        (
            lambda: classifier().partial_fit(X, Y),
            (
                "DropoutMLPClassifier.partial_fit: classes must be given in the first call, "
                "for later ones may bring labels that this y lacks."
            ),
        ),
        (
            lambda: classifier().partial_fit(X, Y, [0, 1]).partial_fit(X, Y, [0, 2]),
            (
                "DropoutMLPClassifier: classes must be what it was in the first call, [0, 1], "
                "got [0, 2]."
            ),
        ),
        (
            lambda: classifier().partial_fit(X, Y, [0, 1]).partial_fit(X, Y + 1),
            "DropoutMLPClassifier: y must be of the known classes [0, 1], got 2 in row 1.",
        ),
        (
            lambda: classifier(early_stopping=True).partial_fit(X, Y, [0, 1]),
            (
                "DropoutMLPClassifier.partial_fit: early_stopping must be False: one epoch has "
                "nothing to stop. Hold out validation rows yourself, or use fit."
            ),
        ),
        (
            lambda: regressor(early_stopping=True).fit(X[:5], Y[:5]),
            (
                "DropoutMLPRegressor: early_stopping needs at least 2 validation rows, got 1 of 5. "
                "Raise validation_fraction."
            ),
        ),
        (
            lambda: (
                classifier(warm_start=True).fit(X, Y).set_params(hidden_layer_sizes=(3,)).fit(X, Y)
            ),
            (
                "DropoutMLPClassifier: hidden_layer_sizes must stay (16, 12) while training goes "
                "on, got (3,). Set warm_start=False, or clone the estimator."
            ),
        ),
        (
            lambda: regressor(warm_start=True).fit(X, Y).fit(X, np.column_stack([Y, Y])),
            "DropoutMLPRegressor: y must be of 1 targets, got 2.",
        ),
        (
            lambda: classifier().fit(X * 1e300, Y),
            "DropoutMLPClassifier: X must fit into float32, got a value beyond 3.4e38. Scale it.",
        ),
        (
            lambda: classifier().fit(sparse.csr_matrix(X * 1e300), Y),
            "DropoutMLPClassifier: X must fit into float32, got a value beyond 3.4e38. Scale it.",
        ),
        (
            lambda: regressor().fit(X, Y * 1e300),
            "DropoutMLPRegressor: y must fit into float32, got a value beyond 3.4e38. Scale it.",
        ),
    ],
)
def test_error_texts_of_data(call, text):
    with pytest.raises(ValueError, match=r"^DropoutMLP") as caught:
        call()
    assert str(caught.value) == text


def test_divergence_is_an_error(diabetes):
    x, y = diabetes
    model = regressor(solver="sgd", learning_rate_init=1e6, p=0, max_iter=50)
    with pytest.raises(ValueError, match=r"DropoutMLPRegressor: training diverged: the loss in ep"):
        model.fit(x, 1e6 * y)


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import thinned
try:
    thinned.DropoutMLPClassifier
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "thinned.DropoutMLPClassifier and thinned.DropoutMLPRegressor need scikit-learn. "
        'Install it with: pip install "thinned[fit]"\n'
    )


# --------------------------------------------------------------------------------- planted faults


def check_training(x, y):
    """One step of gradient descent, against the same written out with masks from the addresses."""
    p, rate = (0.2, 0.5), 0.1
    model = DropoutMLPRegressor(
        8,
        p=p,
        solver="sgd",
        momentum=0,
        learning_rate_init=rate,
        batch_size=442,
        max_iter=1,
        shuffle=False,
        random_state=3,
    )
    model.fit(x, y)
    start = clone(model).set_params(learning_rate_init=1e-30).fit(x, y)
    (w1, w2), (b1, b2) = (
        [a.astype(float) for a in each] for each in (start.coefs_, start.intercepts_)
    )
    at = [thinned.Address(3, site, 0) for site in model.sites_]
    k1 = thinned.keep_mask(x.shape, p[0], at[0]) / (1 - p[0])
    k2 = thinned.keep_mask((442, 8), p[1], at[1]) / (1 - p[1])
    h = np.maximum((x * k1) @ w1 + b1, 0)
    e = ((h * k2) @ w2 + b2 - y[:, None]) / 442
    dh = (e @ w2.T) * k2 * (h > 0)
    expected = [w1 - rate * (x * k1).T @ dh, w2 - rate * (h * k2).T @ e]
    expected += [b1 - rate * dh.sum(axis=0), b2 - rate * e.sum(axis=0)]
    for found, wanted in zip(model.coefs_ + model.intercepts_, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    h = np.maximum(x @ model.coefs_[0] + model.intercepts_[0], 0)
    plain = h @ model.coefs_[1] + model.intercepts_[1]
    np.testing.assert_allclose(model.predict(x), plain[:, 0], rtol=1e-6, atol=1e-9)


def test_one_step_by_hand(diabetes):
    check_training(*diabetes)


def another_mask_in_backward(monkeypatch):
    def backward(self, dy):
        _, p, training = self._recall()
        return self._thin(dy, self.at.replace(call=1), p, training)

    monkeypatch.setattr(Dropout, "backward", backward)


def no_scale(monkeypatch):
    monkeypatch.setattr("thinned.reference.scale_for", lambda p: 1.0)
    monkeypatch.setattr(
        Dropout, "_thin", lambda self, x, at, p, training: x * thinned.keep_mask(x.shape, p, at)
    )


def mask_shared_across_the_batch(monkeypatch):
    plain = Dropout._thin

    def shared(self, *rest):
        self.shared_axes = 0
        return plain(self, *rest)

    monkeypatch.setattr(Dropout, "_thin", shared)


def no_dropout(monkeypatch):
    monkeypatch.setattr(Dropout, "_thin", lambda self, x, *rest: x)


def dropout_alive_in_predict(monkeypatch):
    plain = DropoutMLPRegressor._forward

    def alive(self, y, weights):
        return plain(self, thinned.dropout(y, 0.2, thinned.Address(3, "input")), weights)

    monkeypatch.setattr(DropoutMLPRegressor, "_forward", alive)


def scale_of_test_time_too(monkeypatch):
    plain = DropoutMLPRegressor._forward
    monkeypatch.setattr(
        DropoutMLPRegressor, "_forward", lambda self, y, weights: plain(self, 0.8 * y, weights)
    )


@pytest.mark.parametrize(
    "fault",
    [
        another_mask_in_backward,
        no_scale,
        mask_shared_across_the_batch,
        no_dropout,
        dropout_alive_in_predict,
        scale_of_test_time_too,
    ],
    ids=lambda fault: fault.__name__,
)
def test_planted_faults_are_caught(fault, diabetes, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check_training(*diabetes)
