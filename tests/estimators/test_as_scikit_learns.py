"""The estimators as scikit-learn's: its own checks, its names, its pipelines."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from thinned import DropoutMLPClassifier, DropoutMLPRegressor

from .material import assert_same, classifier, regressor

# Training is cut short on purpose almost everywhere here; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ------------------------------------------------------------------------- scikit-learn's verdict


def not_by_the_bit(estimator):
    """A repeated row draws a mask each time it comes, a row with weight 2 draws one; and training
    runs in float32. test_weights.py compares them without dropout, to float32's accuracy."""
    kinds = ("dense", "sparse")
    return {f"check_sample_weight_equivalence_on_{kind}_data": "masks" for kind in kinds}


@pytest.mark.one_in(2)
@parametrize_with_checks(
    [DropoutMLPClassifier(), DropoutMLPRegressor()], expected_failed_checks=not_by_the_bit
)
def test_check_estimator(estimator, check):
    check(estimator)


def test_check_estimator_with_array_api_dispatch():
    """The one check that runs only where SciPy was loaded with its array API switched on."""
    code = """
import sklearn.utils.estimator_checks as checks
from thinned import DropoutMLPClassifier, DropoutMLPRegressor
found = 0
for estimator in (DropoutMLPClassifier(max_iter=5), DropoutMLPRegressor(max_iter=5)):
    for estimator, check in checks.estimator_checks_generator(estimator):
        if "array_api" in str(check):
            check(estimator)
            found += 1
print(found)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = [str(check) for _, check in estimator_checks_generator(DropoutMLPClassifier())]
    assert int(done.stdout) == 2 * sum("array_api" in name for name in here)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(DropoutMLPClassifier, MLPClassifier), (DropoutMLPRegressor, MLPRegressor)],
)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_names_are_scikit_learns(ours, theirs, early_stopping, digits):
    x, y = digits
    common = {"hidden_layer_sizes": (8,), "max_iter": 2, "early_stopping": early_stopping}
    a, b = ours(**common).fit(x, y), theirs(**common).fit(x, y)

    def public(estimator):
        return {k for k in vars(estimator) if k.endswith("_") and not k.startswith("_")}

    assert public(b) <= public(a)
    assert public(a) - public(b) == {"p_", "seed_", "sites_", "step_"}
    extra = set(a.get_params()) - set(b.get_params())
    # scikit-learn's MLPClassifier has no class_weight yet.
    assert extra - {"class_weight"} == {"p", "weight_decay", "max_norm", "execution"}
    for name in ("n_iter_", "t_", "n_layers_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("loss_curve_", "validation_scores_"):
        assert np.shape(getattr(a, name)) == np.shape(getattr(b, name)), name
    for name in ("best_loss_", "best_validation_score_"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None), name
    for mine, its in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert mine.shape == its.shape
        assert mine.dtype == np.float32


# ----------------------------------------------------------------------- the rest of scikit-learn


def test_grid_search_in_a_pipeline(digits):
    x, y = digits
    pipeline = make_pipeline(StandardScaler(), classifier(max_iter=20, learning_rate_init=0.01))
    grid = {"dropoutmlpclassifier__p": [0.0, 0.2, (0.1, 0.5, 0.5), 0.9]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(x, y)
    assert search.best_params_["dropoutmlpclassifier__p"] != 0.9
    assert search.best_score_ > 0.8
    assert search.predict(x).shape == y.shape


def test_pickle_clone_and_what_stays_in_memory(digits):
    x, y = digits
    model = classifier().fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(x)
    # Weights and the optimizer's two memories; no batch, no gradient, nothing of the data's size.
    size = len(pickle.dumps(model))
    many = np.tile(x, (5, 1)), np.tile(y, 5)
    assert len(pickle.dumps(classifier(batch_size=2000).fit(*many))) < size + 2000
    model.predict(many[0])
    assert len(pickle.dumps(model)) < size + 2000


def test_column_of_targets(diabetes):
    x, y = diabetes
    with pytest.warns(DataConversionWarning, match=r"y has shape \(442, 1\), and predictions will"):
        model = regressor().fit(x, y.reshape(-1, 1))
    assert_same(model, regressor().fit(x, y))
    assert model.predict(x).shape == (442,)
