"""Several labels that each are there or not."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import f1_score
from sklearn.neural_network import MLPClassifier

from thinned.numpy import sigmoid_cross_entropy

from .material import assert_same, classifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LONG = {"max_iter": 60, "learning_rate_init": 0.01, "p": (0, 0.2, 0.2)}


@pytest.fixture(scope="module")
def data():
    x, y = make_multilabel_classification(300, 8, n_classes=4, random_state=0)
    return x / 10, y


def test_it_learns_as_scikit_learns_does(data):
    x, y = data
    ours = classifier(**LONG).fit(x[:200], y[:200])
    theirs = MLPClassifier((16, 12), max_iter=60, learning_rate_init=0.01, random_state=0)
    theirs.fit(x[:200], y[:200])
    found = f1_score(y[200:], ours.predict(x[200:]), average="macro")
    assert found > f1_score(y[200:], theirs.predict(x[200:]), average="macro") - 0.1
    assert ours.out_activation_ == theirs.out_activation_ == "logistic"
    assert ours.n_outputs_ == theirs.n_outputs_ == 4
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def test_answers(data):
    x, y = data
    model = classifier(**LONG).fit(x, y)
    shares = model.predict_proba(x)
    assert shares.shape == y.shape
    assert (np.abs(shares.sum(axis=1) - 1) > 0.01).any()  # each has a probability of its own
    np.testing.assert_array_equal(model.predict(x), shares > 0.5)
    np.testing.assert_allclose(model.predict_log_proba(x), np.log(shares), rtol=1e-6)
    assert np.isfinite(model.predict_log_proba(1e6 * x)).all()
    assert model.score(x, y) == (model.predict(x) == y).all(axis=1).mean()
    mean = sigmoid_cross_entropy(np.log(shares / (1 - shares)), y)[0]
    plain = classifier(**LONG | {"p": 0}).fit(x, y)
    assert mean < 2
    assert plain.loss_ < plain.loss_curve_[0]


def test_layouts_and_kinds_do_not_matter(data):
    x, y = data
    model = classifier().fit(x, y)
    assert_same(classifier().fit(x, csr_array(y)), model)
    assert_same(classifier().fit(x, y.astype(bool)), model)
    assert_same(classifier().fit(x, np.asfortranarray(y.astype(float))), model)
    once = classifier(max_iter=1).fit(x, y)
    assert_same(classifier().partial_fit(x, y), once)
    weights = np.arange(len(x)) % 3
    assert_same(
        classifier().fit(x, y, sample_weight=weights),
        classifier().fit(x[weights > 0], y[weights > 0], sample_weight=weights[weights > 0]),
    )
    early = classifier(early_stopping=True).fit(x, y)
    assert early.best_validation_score_ == max(early.validation_scores_)
    assert classifier(execution="thin").fit(x, y).predict(x).shape == y.shape


def test_the_loss_and_its_gradient():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(5, 3)) * 4, rng.integers(0, 2, (5, 3))
    loss, gradient = sigmoid_cross_entropy(scores, labels)
    shares = 1 / (1 + np.exp(-scores))
    expected = -(labels * np.log(shares) + (1 - labels) * np.log(1 - shares)).sum() / 5
    assert loss == pytest.approx(expected)
    step = np.zeros_like(scores)
    step[2, 1] = 1e-6
    slope = (
        sigmoid_cross_entropy(scores + step, labels)[0]
        - sigmoid_cross_entropy(scores - step, labels)[0]
    )
    assert gradient[2, 1] == pytest.approx(slope / 2e-6, rel=1e-4)
    loss, gradient = sigmoid_cross_entropy(np.array([[1e4, -1e4]]), np.array([[0, 1]]))
    assert loss == pytest.approx(2e4)
    np.testing.assert_array_equal(gradient, [[1.0, -1.0]])
    for wrong in (np.full((5, 3), 2), np.full((5, 2), 1), np.full((5, 3), np.nan)):
        with pytest.raises(ValueError, match="sigmoid_cross_entropy: labels must be"):
            sigmoid_cross_entropy(scores, wrong)


def test_refusals(data):
    x, y = data
    with pytest.raises(ValueError, match="0 and 1 with a column for each label"):
        classifier().fit(x, y + y)
    with pytest.raises(ValueError, match="class_weight must be None for several labels"):
        classifier(class_weight="balanced").fit(x, y)
    model = classifier().fit(x, y)
    with pytest.raises(ValueError, match="members are not defined"):
        model.predict_members(x)
    with pytest.raises(ValueError, match="y must be of 4 labels, got 3"):
        model.partial_fit(x, y[:, :3])
    with pytest.raises(ValueError, match="as many columns"):
        model.partial_fit(x, y[:, 0])
    with pytest.raises(ValueError, match="as many columns"):
        classifier().fit(x, y[:, 0]).partial_fit(x, y)
