"""What the estimators learn, from which draws, and how they go on and stop."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import thinned
from thinned import DropoutMLPClassifier
from thinned.numpy import Dropout, batches

from .material import assert_different, assert_same, classifier, regressor

# Training is cut short on purpose almost everywhere here; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ----------------------------------------------------------------------------- it learns, and how


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_learns_digits(solver, activation):
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, random_state=0)
    # At .1 steps of momentum are chaotic: another processor's rounding can end at .90.
    rate = {"adam": 0.003, "sgd": 0.05}[solver]
    model = classifier(
        solver=solver, activation=activation, learning_rate_init=rate, max_iter=25, p=(0, 0.1, 0.1)
    )
    model.set_params(hidden_layer_sizes=(64, 64)).fit(x, y)
    assert model.score(x_test, y_test) > 0.94
    assert model.loss_curve_[-1] < 0.3 * model.loss_curve_[0]


def test_learns_two_classes_and_two_targets(diabetes):
    x, y = load_wine(return_X_y=True)
    x, y = scale(x), np.array(["red", "white"])[(y > 0).astype(int)]
    model = classifier(max_iter=60, learning_rate_init=0.01).fit(x, y)
    assert model.n_outputs_ == 2
    assert model.out_activation_ == "softmax"
    assert model.score(x, y) > 0.95
    assert set(model.predict(x)) == {"red", "white"}
    x, y = diabetes
    both = np.column_stack([y, -2 * y])
    model = regressor(max_iter=60, learning_rate_init=0.01).fit(x, both)
    assert model.predict(x).shape == (442, 2)
    assert model.score(x, both) > 0.4
    assert model.n_outputs_ == 2
    assert model.out_activation_ == "identity"
    assert regressor().fit(x, y).predict(x).shape == (442,)


def test_linear_model(digits):
    x, y = digits
    model = classifier(hidden_layer_sizes=(), p=0.1, max_iter=40, learning_rate_init=0.01).fit(x, y)
    assert model.n_layers_ == 2
    assert model.sites_ == ["input"]
    assert model.score(x, y) > 0.9


def test_probabilities(digits):
    x, y = digits
    model = classifier().fit(x, y)
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(x))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(x)), probabilities, rtol=1e-12)
    far = model.predict_log_proba(1e6 * x[:3])
    assert np.isfinite(far).all()


def test_prediction_runs_in_the_type_of_its_input(digits):
    x, y = digits
    model = classifier().fit(x, y)
    assert model.predict_proba(x).dtype == np.float64
    single = model.predict_proba(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, model.predict_proba(x), rtol=1e-4)


def test_prediction_in_pieces_is_prediction(digits, monkeypatch):
    x, y = digits
    model = classifier().fit(x, y)
    whole = model.predict_proba(x)
    monkeypatch.setattr("thinned.estimators.perceptron.PREDICT_ROWS", 33)
    np.testing.assert_allclose(model.predict_proba(x), whole, rtol=1e-13)


def test_p_0_equals_a_network_without_dropout(digits, monkeypatch):
    x, y = digits
    a = classifier(p=0).fit(x, y)
    monkeypatch.setattr(Dropout, "_thin", lambda self, x, *rest: x)
    assert_same(a, classifier(p=0.5).fit(x, y))


def test_the_same_loss_as_the_prediction_at_p_0(digits):
    """Of weights that hardly move; the last batch, with 16 rows for 64, counts for its 16."""
    x, y = digits
    model = classifier(p=0, max_iter=1, learning_rate_init=1e-12).fit(x, y)
    assert model.loss_ == pytest.approx(log_loss(y, model.predict_proba(x)), rel=1e-5)


# ---------------------------------------------------------------------------- seeds and addresses


def test_same_seed_same_weights(digits):
    x, y = digits
    a = classifier().fit(x, y)
    assert_same(a, classifier().fit(x, y))
    assert_same(a, a.fit(x, y))
    assert_different(a, classifier(random_state=1).fit(x, y))
    assert a.seed_ == 0
    assert_same(
        classifier(random_state=np.random.RandomState(5)).fit(x, y),
        classifier(random_state=np.random.RandomState(5)).fit(x, y),
    )
    one, two = (classifier(random_state=None).fit(x, y) for _ in range(2))
    assert one.seed_ != two.seed_


def test_layout_and_type_of_the_input_do_not_matter(digits):
    x, y = digits
    x = x.astype(np.float32)
    a = classifier().fit(x, y)
    assert_same(a, classifier().fit(np.asfortranarray(x), y))
    assert_same(a, classifier().fit(x.astype(np.float64), y))
    assert_same(a, classifier().fit(np.repeat(x, 2, axis=1)[:, ::2], y.astype(float)))


def test_masks_are_where_the_docstring_says(digits, monkeypatch):
    x, y = digits
    seen = []

    class Spy:
        def __init__(self, wrapped):
            self.wrapped = wrapped

        def __call__(self, layer, x, at, p, training):
            out = self.wrapped(layer, x, at, p, training)
            seen.append((x.shape, p, at, out != 0, x != 0))
            return out

    spy = Spy(Dropout._thin)
    monkeypatch.setattr(Dropout, "_thin", lambda layer, *rest: spy(layer, *rest))
    model = classifier(max_iter=2, p=(0.1, 0.3, 0.5)).fit(x, y)
    assert model.p_ == (0.1, 0.3, 0.5)
    assert model.sites_ == ["input", "hidden.1", "hidden.2"]
    assert model.step_ == 14
    assert model.t_ == 800
    expected = []
    for step in range(14):
        for i in range(3):
            at = thinned.Address(model.seed_, model.sites_[i], step)
            expected += [(model.p_[i], at)] * (1 if i == 0 else 2)  # forward, backward but for dx
    assert sorted(map(repr, expected)) == sorted(repr((p, at)) for _, p, at, *_ in seen)
    for shape, p, at, survived, alive in seen:
        keep = thinned.keep_mask(shape, p, at)
        np.testing.assert_array_equal(survived, keep & alive)


def test_batches_are_where_the_docstring_says(digits):
    """The weights change with the order of the rows, so equal weights show an equal order."""
    x, y = digits
    a = classifier(max_iter=2, p=0).fit(x, y)
    b = classifier(max_iter=2, p=0, shuffle=False, warm_start=True)
    for epoch in range(2):
        order = np.concatenate(list(batches(400, 64, thinned.Address(0, "shuffle", epoch))))
        b.set_params(max_iter=1).fit(x[order], y[order])
    assert_same(a, b)
    assert_different(a, classifier(max_iter=2, p=0, shuffle=False).fit(x, y))


# ------------------------------------------------------------------------------- p for each layer


def test_p_per_layer(digits):
    x, y = digits
    a = classifier(p=0.3).fit(x, y)
    for same in ([0.3, 0.3, 0.3], (0.3,) * 3, np.full(3, 0.3), np.float64(0.3), np.array(0.3)):
        assert_same(a, classifier(p=same).fit(x, y))
    assert_different(a, classifier(p=(0, 0.3, 0.3)).fit(x, y))
    assert classifier(p=0).fit(x, y).p_ == (0.0, 0.0, 0.0)


def test_p_changes_while_training_goes_on(digits):
    x, y = digits
    model = classifier(warm_start=True).fit(x, y)
    model.set_params(p=0.5).fit(x, y)
    assert model.p_ == (0.5, 0.5, 0.5)
    assert len(model.loss_curve_) == 8


# -------------------------------------------------------------------------- training that goes on


def test_partial_fit_is_an_epoch(digits):
    x, y = digits
    for solver in ("adam", "sgd"):
        whole = classifier(solver=solver, max_iter=3, weight_decay=0.1).fit(x, y)
        parts = classifier(solver=solver, weight_decay=0.1)
        for _ in range(3):
            parts.partial_fit(x, y, classes=np.arange(10))
            assert parts.n_iter_ == 1
        assert_same(whole, parts)
        assert parts.loss_curve_ == whole.loss_curve_
        assert (parts.t_, parts.step_) == (1200, 21)


def test_partial_fit_of_the_regressor(diabetes):
    x, y = diabetes
    parts = regressor()
    for _ in range(3):
        parts.partial_fit(x, y)
    assert_same(regressor(max_iter=3).fit(x, y), parts)


def test_partial_fit_goes_on_after_pickling_and_fit(digits):
    x, y = digits
    whole = classifier(max_iter=4).fit(x, y)
    part = classifier(max_iter=2).fit(x, y)
    buffer = io.BytesIO()
    joblib.dump(part, buffer)
    buffer.seek(0)
    for again in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part), joblib.load(buffer)):
        again.partial_fit(x, y)
        again.partial_fit(x, y)
        assert_same(whole, again)


def test_warm_start_is_as_if_never_stopped(digits):
    x, y = digits
    whole = classifier(max_iter=5).fit(x, y)
    parts = classifier(max_iter=2, warm_start=True).fit(x, y)
    parts.set_params(max_iter=3).fit(x, y)
    assert_same(whole, parts)
    assert parts.n_iter_ == 3
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.best_loss_ == whole.best_loss_
    cold = classifier(max_iter=2).fit(x, y)
    cold.set_params(max_iter=5).fit(x, y)
    assert_same(whole, cold)


def test_weights_may_be_set_between_calls(digits):
    x, y = digits
    a = classifier(warm_start=True, learning_rate_init=1e-9).fit(x, y)
    a.coefs_ = [np.zeros_like(coef) for coef in a.coefs_]
    a.fit(x, y)
    assert all(np.abs(coef).max() < 1e-6 for coef in a.coefs_)


def test_settings_of_the_optimizer(digits):
    x, y = digits
    plain = classifier().fit(x, y)
    held = classifier(max_norm=0.5).fit(x, y)
    assert max(np.linalg.norm(coef, axis=0).max() for coef in held.coefs_) < 0.5 + 1e-6
    assert np.linalg.norm(plain.coefs_[0], axis=0).max() > 0.5
    decayed = classifier(weight_decay=20.0).fit(x, y)
    assert np.abs(decayed.coefs_[0]).sum() < 0.8 * np.abs(plain.coefs_[0]).sum()
    a, b = (classifier(solver="sgd", momentum=m).fit(x, y) for m in (0.0, 0.9))
    assert_different(a, b)


# --------------------------------------------------------------------------------------- stopping


def test_early_stopping(digits):
    x, y = digits
    model = classifier(
        early_stopping=True, max_iter=300, n_iter_no_change=3, learning_rate_init=0.01, tol=0.0
    ).fit(x, y)
    scores = model.validation_scores_
    assert len(scores) == len(model.loss_curve_) == model.n_iter_ < 300
    assert model.best_validation_score_ == max(scores)
    assert model.best_loss_ is None
    assert model.t_ == 360 * model.n_iter_
    # The weights are those of the best epoch, the first of them: train again, and stop there.
    again = clone(model).set_params(max_iter=int(np.argmax(scores)) + 1).fit(x, y)
    assert again.validation_scores_[-1] == max(scores)
    assert_same(model, again)
    _, held, _, y_held = train_test_split(
        x, y, test_size=0.1, random_state=model.seed_ % 2**32, stratify=y
    )
    assert model.score(held, y_held) == max(scores)


def test_validation_rows_are_stratified(digits, monkeypatch):
    x, y = digits
    held = []
    monkeypatch.setattr(
        DropoutMLPClassifier, "_validation_score", lambda self, s, y, w: held.append(y) or 0.0
    )
    classifier(early_stopping=True, validation_fraction=0.25).fit(x, y)
    assert all((labels == held[0]).all() for labels in held)
    assert np.abs(np.bincount(held[0]) - np.bincount(y) / 4).max() < 1


def test_small_gains_of_the_validation_score_do_not_count(digits, monkeypatch):
    x, y = digits
    scores = iter(np.arange(100) / 100)
    monkeypatch.setattr(DropoutMLPClassifier, "_validation_score", lambda *_: float(next(scores)))
    model = classifier(early_stopping=True, max_iter=50, tol=0.05, n_iter_no_change=3).fit(x, y)
    assert model.n_iter_ == 5
    assert model.best_validation_score_ == 0.04


def test_early_stopping_may_be_switched_when_training_goes_on(digits):
    x, y = digits
    model = classifier(warm_start=True).fit(x, y)
    model.set_params(early_stopping=True).fit(x, y)
    assert len(model.validation_scores_) == 4
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_loss_ is None
    model.set_params(early_stopping=False).partial_fit(x, y)
    assert model.validation_scores_ is None
    assert model.best_loss_ == model.loss_curve_[-1]
    assert len(model.loss_curve_) == 9


def test_early_stopping_keeps_the_best_when_it_goes_on(digits):
    x, y = digits
    model = classifier(early_stopping=True, max_iter=30, warm_start=True, learning_rate_init=0.01)
    model.fit(x, y)
    best, kept = model.best_validation_score_, [coef.copy() for coef in model.coefs_]
    model.set_params(max_iter=1, learning_rate_init=10.0).fit(x, y)
    assert model.validation_scores_[-1] < best == model.best_validation_score_
    for coef, before in zip(model.coefs_, kept, strict=True):
        np.testing.assert_array_equal(coef, before)


def test_stopping_without_validation(digits):
    x, y = digits
    model = classifier(p=0, max_iter=1000, tol=0.05, n_iter_no_change=2).fit(x, y)
    curve = model.loss_curve_
    assert model.n_iter_ == len(curve) < 1000
    assert model.best_loss_ == min(curve)
    best, without = np.inf, 0
    for epoch, loss in enumerate(curve, 1):
        without = 0 if loss <= best - 0.05 else without + 1
        best = min(best, loss)
        assert (without > 2) == (epoch == len(curve))


def test_convergence_warning(digits):
    x, y = digits
    with pytest.warns(ConvergenceWarning, match=r"DropoutMLPClassifier: max_iter \(4 epochs\) was"):
        classifier().fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier().partial_fit(x, y, classes=np.arange(10))
        classifier(max_iter=50, tol=1e6, n_iter_no_change=1).fit(x, y)


def test_verbose(digits, capsys):
    x, y = digits
    classifier(max_iter=2).fit(x, y)
    assert capsys.readouterr().out == ""
    model = classifier(max_iter=2, verbose=True, early_stopping=True).fit(x, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        f"epoch 2: loss {model.loss_:.6f}, validation score {model.validation_scores_[1]:.6f}"
    )
    assert len(lines) == 2
    classifier(max_iter=50, verbose=True, tol=1e6, n_iter_no_change=1).fit(x, y)
    assert "stopped: no gain of 1e+06 in 2 epochs" in capsys.readouterr().out


# ----------------------------------------------------------------------------------- sparse input


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix])
def test_sparse_is_dense(kind, digits):
    x, y = digits
    dense = classifier(p=(0.4, 0.2, 0.2)).fit(x, y)
    model = classifier(p=(0.4, 0.2, 0.2)).fit(kind(x), y)
    for a, b in zip(dense.coefs_, model.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(
        model.predict_proba(kind(x)), dense.predict_proba(x), rtol=1e-2, atol=1e-4
    )


def test_sparse_input_is_never_made_dense(monkeypatch):
    n, features = 50, 200_000
    rng = np.random.default_rng(0)
    x = sparse.random(n, features, density=2e-5, format="csr", random_state=0, dtype=np.float32)
    y = rng.integers(0, 2, n)

    def refuse(*args, **kwargs):
        raise AssertionError("made dense")

    for kind in (sparse.csr_matrix, sparse.csr_array):
        monkeypatch.setattr(kind, "toarray", refuse)
        monkeypatch.setattr(kind, "todense", refuse, raising=False)
    model = classifier(hidden_layer_sizes=(1,), max_iter=1).fit(x, y)
    assert model.predict(x).shape == (n,)
