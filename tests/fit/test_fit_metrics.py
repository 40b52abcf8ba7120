"""The measures against scikit-learn's, and the standard errors of scores."""

import numpy as np
import pytest
from sklearn import metrics

from thinned.errors import InputError
from thinned.fit.metrics import METRICS, metric_for
from thinned.fit.network import MEASURES, log_softmax, measures
from thinned.fit.ranking import areas, mean_areas
from thinned.fit.scores import standard_errors


def classes(seed, n=120, k=2, share=0.15, ties=False):
    """Logits and labels; two classes are unbalanced."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int) if k == 2 else rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y]
    return (np.round(logits) if ties else logits), y


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_both_areas_are_scikit_learns(seed, ties):
    logits, y = classes(seed, ties=ties)
    scores = logits[:, 1] - logits[:, 0]
    under, precision = areas(scores, y == 1)
    assert under == pytest.approx(metrics.roc_auc_score(y, scores), abs=1e-12)
    assert precision == pytest.approx(metrics.average_precision_score(y, scores), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_measures_of_classes_are_scikit_learns(k):
    logits, y = classes(k, k=k)
    shares = np.exp(log_softmax(logits))
    found = dict(
        zip(MEASURES["classification"], measures("classification", logits, y), strict=True)
    )
    told = shares.argmax(axis=1)
    assert found["loss"] == pytest.approx(metrics.log_loss(y, shares))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, told))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, told))
    if k == 2:
        rare = metrics.average_precision_score(y, shares[:, 1])
        assert found["auc"] == pytest.approx(metrics.roc_auc_score(y, shares[:, 1]))
        assert found["average_precision"] == pytest.approx(rare)
        # The rarer class is meant, whichever number it has.
        turned = measures("classification", logits[:, ::-1], 1 - y)
        assert turned == pytest.approx(list(found.values()))
        return
    one = np.eye(k)[y]
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(y, shares, multi_class="ovr"))
    macro = metrics.average_precision_score(one, shares, average="macro")
    assert found["average_precision"] == pytest.approx(macro)


def test_classes_without_rows_are_not_judged():
    logits, y = classes(3, k=3)
    wide = np.column_stack([logits, np.full(len(y), -50.0)])
    assert mean_areas(np.exp(log_softmax(wide)), y) == pytest.approx(
        mean_areas(np.exp(log_softmax(logits)), y)
    )
    assert mean_areas(np.full((4, 2), 0.5), np.zeros(4, int)) == (0.5, 0.5)


def test_errors_of_means_are_the_textbooks():
    rng = np.random.default_rng(0)
    said, true = rng.normal(size=(60, 1)), rng.normal(size=60)
    off = said[:, 0] - true
    errors = standard_errors("regression", said, true)
    assert set(errors) == set(MEASURES["regression"])
    for name, values in (("loss", off**2), ("mae", np.abs(off))):
        assert errors[name] == pytest.approx(values.std(ddof=1) / 60**0.5, rel=1e-9)
    logits, y = classes(0, n=80)
    right = logits.argmax(axis=1) == y
    error = standard_errors("classification", logits, y)["accuracy"]
    assert error == pytest.approx(right.std(ddof=1) / 80**0.5, rel=1e-9)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_errors_are_how_much_scores_vary_between_test_parts(task):
    """Many test parts of one population: the spread of a score is what its error says."""

    def part(seed):
        if task == "classification":
            return classes(seed, n=250, share=0.3)
        rng = np.random.default_rng(seed)
        true = rng.normal(size=250)
        return (0.7 * true + 0.5 * rng.normal(size=250))[:, None], true

    parts = [part(seed) for seed in range(120)]
    scored = np.array([measures(task, *one) for one in parts])
    said = np.array([list(standard_errors(task, *one).values()) for one in parts[:25]])
    np.testing.assert_allclose(said.mean(axis=0), scored.std(axis=0, ddof=1), rtol=0.2)


def test_an_error_is_not_zero_where_all_rows_are_right():
    y = np.arange(30) % 2
    errors = standard_errors("classification", 9.0 * np.eye(2)[y], y)
    for name in ("accuracy", "balanced_accuracy", "auc", "average_precision"):
        assert errors[name] == pytest.approx(30**0.5 / 31**1.5)


def test_metric_names():
    assert metric_for("classification", "auc").higher
    assert not metric_for("regression", "mae").higher
    assert metric_for("regression", "r2").cost(0.25) == -0.25
    with pytest.raises(InputError) as caught:
        metric_for("regression", "auc")
    assert str(caught.value) == "--metric: a regression has no auc; write loss, rmse, r2 or mae."
    with pytest.raises(InputError) as caught:
        metric_for("classification", "f1")
    assert str(caught.value) == (
        "--metric: f1 is no measure; write loss, accuracy, balanced_accuracy, auc or "
        "average_precision."
    )
    assert list(METRICS["classification"]) == list(MEASURES["classification"])
