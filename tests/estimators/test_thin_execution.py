"""execution="thin": the training of a network whose minibatches share their masks, and no other."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array

import thinned
from thinned.estimators import layers, thin

from .material import assert_different, assert_same, classifier, regressor

# Training is cut short on purpose; the warning has a test elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def shared(monkeypatch):
    """A function that trains elementwise under masks that all rows of a minibatch share."""

    class Shared(layers.Dropout):
        def __init__(self, p, at):
            super().__init__(p, at, shared_axes=(0,))

    def fit(estimator, X, y):
        with monkeypatch.context() as patched:
            patched.setattr(layers, "SparseDropout", Shared)
            patched.setattr(layers, "Dropout", Shared)
            return estimator.fit(X, y)

    return fit


def assert_close(a, b):
    for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("p", [0.5, (0.2, 0.5, 0.3), (0, 0.5, 0), 0.0, (0, 1, 0)])
def test_it_is_the_elementwise_training_of_shared_masks(solver, activation, p, digits, shared):
    options = {"solver": solver, "activation": activation, "p": p, "weight_decay": 0.01}
    assert_close(
        classifier(execution="thin", **options).fit(*digits),
        shared(classifier(**options), *digits),
    )


def test_the_regressor_the_linear_model_and_a_whole_batch(diabetes, shared):
    for options in ({}, {"hidden_layer_sizes": ()}, {"batch_size": 10**6}, {"max_norm": 1.0}):
        options = {"p": 0.4, **options}
        assert_close(
            regressor(execution="thin", **options).fit(*diabetes),
            shared(regressor(**options), *diabetes),
        )


def test_sparse_is_dense(digits):
    X, y = digits
    dense = classifier(execution="thin", p=0.3).fit(X, y)
    assert_close(classifier(execution="thin", p=0.3).fit(csr_array(X), y), dense)


def test_the_default_is_elementwise_and_other_masks(digits):
    assert classifier().execution == "elementwise"
    assert_same(classifier().fit(*digits), classifier(execution="elementwise").fit(*digits))
    assert_different(classifier().fit(*digits), classifier(execution="thin").fit(*digits))


def test_it_goes_on_as_if_never_stopped(digits):
    X, y = digits
    whole = classifier(execution="thin", max_iter=4).fit(X, y)
    parts = classifier(execution="thin", max_iter=2, warm_start=True).fit(X, y)
    parts = pickle.loads(pickle.dumps(parts)).fit(X, y)
    assert_same(whole, parts)


def test_an_unknown_execution(digits):
    with pytest.raises(ValueError, match="execution must be 'elementwise' or 'thin', got 'quick'"):
        classifier(execution="quick").fit(*digits)


def test_dropped_units_do_not_learn(digits):
    X, y = digits
    model = classifier(execution="thin", p=(0.5, 0.5, 0), max_iter=1, batch_size=400, solver="sgd")
    before = classifier(execution="thin", p=1.0, max_iter=1, batch_size=400, solver="sgd")
    model.fit(X, y), before.fit(X, y)
    kept = [
        thinned.keep_mask(units, 0.5, thinned.Address(model.seed_, site, 0))
        for units, site in ((64, "input"), (16, "hidden.1"))
    ]
    learnt = model.coefs_[0] != before.coefs_[0]
    assert not learnt[~kept[0]].any()
    assert not learnt[:, ~kept[1]].any()
    assert learnt[np.ix_(*kept)].any()


# ----------------------------------------------------------------------------------- planted faults


def no_scale(monkeypatch):
    monkeypatch.setattr(thin.UnitDropout, "_scale", lambda self, dtype: dtype.type(1))


def rows_of_another_order(monkeypatch):
    right = thin._taken
    monkeypatch.setattr(thin, "_taken", lambda weight, place: right(weight, place[::-1]))


def gradient_put_elsewhere(monkeypatch):
    right = thin._put
    monkeypatch.setattr(thin, "_put", lambda part, whole, place: right(part[::-1], whole, place))


def gradients_of_the_last_step_stay(monkeypatch):
    def whole(self, part, place):
        found = self.linear.d_weight
        if found is None:
            found = np.zeros((self.linear.n_in, self.linear.n_out), part.dtype)
        thin._put(part, found, place)
        return found

    monkeypatch.setattr(thin.ThinLinear, "_whole", whole)


def one_mask_for_all_steps(monkeypatch):
    monkeypatch.setattr(thin.UnitDropout, "tick", lambda self: None)


@pytest.mark.parametrize(
    "fault",
    [
        no_scale,
        rows_of_another_order,
        gradient_put_elsewhere,
        gradients_of_the_last_step_stay,
        one_mask_for_all_steps,
    ],
)
def test_faults_are_caught(fault, digits, shared, monkeypatch):
    expected = shared(classifier(p=0.5), *digits)
    with monkeypatch.context() as patched:
        fault(patched)
        found = classifier(execution="thin", p=0.5).fit(*digits)
    with pytest.raises(AssertionError):
        assert_close(found, expected)
