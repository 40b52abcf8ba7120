"""Weights of rows and classes: what they mean, and what is refused."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from thinned.numpy import softmax_cross_entropy, squared_error

from .material import assert_different, assert_same, classifier, regressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows(n=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    return x, np.arange(n) % 3, x[:, 0] + x[:, 1] ** 2, rng.integers(0, 4, n)


BOTH = [(classifier, 1), (regressor, 2)]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("make", "y"), BOTH)
def test_a_whole_weight_is_as_many_rows(make, y, sparse):
    data = rows()
    x, y, weights = data[0], data[y], data[3]
    again = np.repeat(np.arange(len(x)), weights)
    form = csr_array if sparse else np.asarray
    options = {"p": 0, "max_iter": 30, "batch_size": 1000, "shuffle": False}
    weighted = make(**options).fit(form(x), y, sample_weight=weights)
    repeated = make(**options).fit(form(x[again]), y[again])
    for one, other in zip(weighted.coefs_, repeated.coefs_, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-3)
    plain = make(**options).fit(form(x), y)  # planted: weights that nobody looks at
    assert max(abs(a - b).max() for a, b in zip(plain.coefs_, repeated.coefs_, strict=True)) > 1e-2


@pytest.mark.parametrize(("make", "y"), BOTH)
def test_rows_of_weight_0_are_not_there(make, y):
    data = rows()
    x, y, weights = data[0], data[y], (data[3] > 0) * 2.5
    some = weights > 0
    assert_same(make().fit(x, y, sample_weight=weights), make().fit(x[some], y[some]))


@pytest.mark.parametrize(("make", "y"), BOTH)
def test_equal_weights_are_none(make, y):
    data = rows()
    x, y = data[0], data[y]
    plain = make().fit(x, y)
    for weights in (3, [2.0] * len(x), np.full(len(x), 1e-3), np.ones(len(x), np.float16)):
        assert_same(make().fit(x, y, sample_weight=weights), plain)
    assert_different(make().fit(x, y, sample_weight=np.arange(len(x)) + 1), plain)


@pytest.mark.parametrize(("make", "y"), BOTH)
def test_partial_fit_and_early_stopping_take_them(make, y):
    data = rows()
    x, y, weights = data[0], data[y], data[3] + 1
    classes = {"classes": [0, 1, 2]} if make is classifier else {}
    once = make(max_iter=1).fit(x, y, sample_weight=weights)
    assert_same(make().partial_fit(x, y, **classes, sample_weight=weights), once)
    early = {"early_stopping": True, "validation_fraction": 0.3}
    stopped = make(**early).fit(x, y, sample_weight=weights)
    assert_different(stopped, make(**early).fit(x, y))
    scores = make(**early, max_iter=1).fit(x, y, sample_weight=weights).validation_scores_
    assert scores != make(**early, max_iter=1).fit(x, y).validation_scores_


def test_weights_of_classes_multiply_those_of_rows():
    x, y, _, weights = rows()
    weights = weights + 1.0
    given = {0: 3.0, 2: 0.5}
    by_row = np.array([3.0, 1.0, 0.5])[y]
    assert_same(
        classifier(class_weight=given).fit(x, y, sample_weight=weights),
        classifier().fit(x, y, sample_weight=weights * by_row),
    )
    assert_same(
        classifier(class_weight=given).partial_fit(x, y, [0, 1, 2]),
        classifier().partial_fit(x, y, [0, 1, 2], sample_weight=by_row),
    )
    # Of a class without rows, as scikit-learn has it.
    assert_same(classifier(class_weight={7: 2.0}).fit(x, y), classifier().fit(x, y))


def test_balanced_gives_each_class_the_same_sum():
    x, y, _, weights = rows()
    y = np.where(np.arange(len(y)) < 50, 0, y)
    sums = np.bincount(y, weights)
    balanced = classifier(class_weight="balanced").fit(x, y, sample_weight=weights)
    assert_same(balanced, classifier().fit(x, y, sample_weight=weights * (1 / sums)[y]))
    names = np.array(["a", "b", "c"])[y]
    assert_same(classifier(class_weight="balanced").fit(x, names, sample_weight=weights), balanced)


def test_losses_weigh_each_row():
    rng = np.random.default_rng(1)
    scores, labels, weights = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0]), rng.random(4)
    for loss, y in ((softmax_cross_entropy, labels), (squared_error, rng.normal(size=(4, 3)))):
        value, gradient = loss(scores, y, weights)
        single = [loss(scores[i : i + 1], y[i : i + 1]) for i in range(4)]
        assert value == pytest.approx(
            np.mean([w * one[0] for w, one in zip(weights, single, strict=True)])
        )
        expected = [w * one[1][0] / 4 for w, one in zip(weights, single, strict=True)]
        np.testing.assert_allclose(gradient, expected)
        with pytest.raises(ValueError, match="weights must be of shape"):
            loss(scores, y, np.ones(3))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones(3), "60 numbers in \\[0, inf\\), one for each row, got shape \\(3,\\)"),
        (np.ones((60, 2)), "got shape"),
        (-np.ones(60), "got -1 in row 0"),
        (np.r_[np.ones(59), np.nan], "got nan in row 59"),
        (np.r_[np.inf, np.ones(59)], "got inf in row 0"),
        (np.zeros(60), "weights of zero only"),
        (["a"] * 60, "got list"),
    ],
)
@pytest.mark.parametrize(("make", "y"), BOTH)
def test_what_weighs_nothing_is_refused(make, y, weights, said):
    data = rows()
    with pytest.raises(ValueError, match=said):
        make().fit(data[0], data[y], sample_weight=weights)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("even", 'None, "balanced" or a dict'),
        ([1, 2, 3], 'None, "balanced" or a dict'),
        ({0: -1}, "for class 0"),
        ({0: "much"}, "for class 0"),
        ({0: True}, "for class 0"),
        ({0: 0, 1: 0, 2: 0}, "above 0 for a class of y"),
    ],
)
def test_class_weights_that_are_none_are_refused(given, said):
    x, y, *_ = rows()
    with pytest.raises(ValueError, match=said):
        classifier(class_weight=given).fit(x, y)


def test_balanced_is_no_weight_for_a_part():
    x, y, *_ = rows()
    with pytest.raises(ValueError, match="class_weight must be None or a dict"):
        classifier(class_weight="balanced").partial_fit(x, y, [0, 1, 2])
