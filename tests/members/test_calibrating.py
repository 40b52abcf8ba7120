"""Temperature, adaptive sets, quantile intervals, PIT and error bars: against scikit-learn,
torchmetrics and SciPy, and by definition."""

import math
from functools import cache

import numpy as np
import pytest
from libraries import library
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

import thinned
from thinned import reference
from thinned.members import calibration
from thinned.members.calibration import (
    adaptive_conformal_sets,
    area_under_risk_coverage,
    brier_score,
    classwise_calibration_error,
    conformal_quantile_interval,
    crps,
    fit_temperature,
    gaussian_pit,
    negative_log_likelihood,
    pit,
    risk_coverage,
    scale_by_temperature,
    with_error,
)

scipy_stats = library("scipy.stats")
torch = library("torch")
torchmetrics = library("torchmetrics.functional.classification")


@cache
def material(rows=800, classes=5, sharpness=2.5):
    """Logits that claim too much by a known factor, and labels drawn from the honest ones."""
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(rows, classes)) * 1.5
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((rows, 1))).sum(1)
    return sharpness * honest, labels


class Stored(ClassifierMixin, BaseEstimator):
    """A classifier whose logits are its inputs."""

    def fit(self, x, y):
        self.classes_ = np.arange(x.shape[1])
        return self

    def decision_function(self, x):
        return x

    def predict_proba(self, x):
        return scale_by_temperature(x, 1.0)

    def predict(self, x):
        return x.argmax(1)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "classes_")


# ------------------------------------------------------------------------------------ temperature


def test_the_temperature_is_the_factor_of_what_is_claimed_too_much():
    logits, labels = material(rows=40_000)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_the_temperature_is_scikit_learns():
    logits, labels = material()
    stored = FrozenEstimator(Stored().fit(logits, labels))
    theirs = CalibratedClassifierCV(stored, method="temperature").fit(logits, labels)
    ours = scale_by_temperature(logits, fit_temperature(logits, labels))
    np.testing.assert_allclose(ours, theirs.predict_proba(logits), atol=1e-3)
    # Ours is the minimum, and no worse than theirs.
    assert log_loss(labels, ours) <= log_loss(labels, theirs.predict_proba(logits)) + 1e-12


def test_the_temperature_is_a_minimum():
    logits, labels = material()
    best = fit_temperature(logits, labels)
    losses = [
        negative_log_likelihood(scale_by_temperature(logits, best * factor), labels)
        for factor in (0.99, 1.0, 1.01)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_two_classes_and_probabilities():
    logits, labels = material(classes=2)
    one = logits[:, 1] - logits[:, 0]
    assert fit_temperature(one, labels) == pytest.approx(fit_temperature(logits, labels))
    p = scale_by_temperature(logits, 1.0)
    assert fit_temperature(np.log(p), labels) == pytest.approx(fit_temperature(logits, labels))
    np.testing.assert_allclose(scale_by_temperature(one, 3.0), scale_by_temperature(logits, 3.0))


def test_what_has_no_best_temperature_ends_at_the_edge():
    z = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(z, [0, 1]) == pytest.approx(math.exp(-6), rel=1e-6)
    assert fit_temperature(z, [1, 0]) == pytest.approx(math.exp(6), rel=1e-6)
    assert np.isfinite(scale_by_temperature(z * 1e3, math.exp(-6))).all()


# ----------------------------------------------------------------------------- classes and coverage


def test_the_classwise_error_is_torchmetrics_of_each_class():
    logits, labels = material()
    p = scale_by_temperature(logits, 1.0)
    theirs = [
        float(
            torchmetrics.binary_calibration_error(
                torch.tensor(p[:, k]), torch.tensor((labels == k).astype(int)), n_bins=15
            )
        )
        for k in range(p.shape[1])
    ]
    assert classwise_calibration_error(p, labels) == pytest.approx(np.mean(theirs), abs=1e-6)


def test_the_classwise_error_sees_what_the_largest_probability_hides():
    p = np.tile([[0.5, 0.4, 0.1]], (1000, 1))
    labels = np.repeat([0, 1, 2], [500, 100, 400])
    assert calibration.expected_calibration_error(p, labels) == pytest.approx(0.0)
    assert classwise_calibration_error(p, labels) == pytest.approx((0 + 0.3 + 0.3) / 3)


def test_aurc_is_the_mean_risk():
    logits, labels = material()
    p = scale_by_temperature(logits, 1.0)
    wrong = (p.argmax(1) != labels).astype(float)
    sure = 1 - p.max(1)
    ordered = wrong[np.argsort(sure)]
    by_hand = np.mean(np.cumsum(ordered) / np.arange(1, len(wrong) + 1))
    assert area_under_risk_coverage(sure, wrong) == pytest.approx(by_hand)
    assert area_under_risk_coverage(sure, wrong) == risk_coverage(sure, wrong).area


# -------------------------------------------------------------------------------- adaptive sets


def halves():
    logits, labels = material()
    p = scale_by_temperature(logits, 1.0)
    return (p[:400], labels[:400]), (p[400:], labels[400:])


def by_definition(p, known, labels, alpha, penalty, free):
    """Row by row, class by class."""

    def score(row, k):
        rank = 1 + sum(other > row[k] for other in row)
        return sum(other for other in row if other >= row[k]) + penalty * max(rank - free, 0)

    scores = sorted(score(row, k) for row, k in zip(known, labels, strict=True))
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    limit = scores[rank - 1] if rank <= len(scores) else math.inf
    return np.array(
        [
            [score(row, k) <= limit + 1e-12 or k == row.argmax() for k in range(len(row))]
            for row in p
        ]
    )


@pytest.mark.parametrize(("penalty", "free"), [(0.0, 0), (0.1, 2), (0.5, 0)])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_adaptive_sets_are_their_definition(alpha, penalty, free):
    (known, labels), (p, _) = halves()
    found = adaptive_conformal_sets(p, known, labels, alpha, penalty=penalty, free=free)
    np.testing.assert_array_equal(found, by_definition(p, known, labels, alpha, penalty, free))


def mapies(p, known, labels, alpha, u, new_u, last):
    """APS as MAPIE 1.6 computes it (mapie.conformity_scores.sets.aps), at given uniform numbers."""
    order = np.argsort(-known, axis=1)
    place = (order == labels[:, None]).argmax(1)
    true = known[np.arange(len(labels)), labels]
    sums = np.take_along_axis(known, order, 1).cumsum(1)[np.arange(len(labels)), place]
    n = len(labels)
    limit = np.sort(sums - u * true)[math.ceil((n + 1) * (1 - alpha)) - 1]
    found = np.zeros(p.shape, bool)
    for row, probabilities in enumerate(p):
        by_size = np.argsort(-probabilities)
        total = probabilities[by_size].cumsum()
        if last is False:
            count = max(1, int((total <= limit + 1e-12).sum()))
        else:
            count = min(len(total), int((total < limit - 1e-12).sum()) + 1)
        if last == "randomized":
            over = (total[count - 1] - limit) / probabilities[by_size[count - 1]]
            count -= over > new_u[row] + 1e-12
        found[row, by_size[:count]] = True
    return found


def test_adaptive_sets_beside_mapies():
    """Measured with MAPIE 1.6: at the same u no row of 2,000 differs, in both of these modes."""
    (known, labels), (p, y) = halves()
    nothing = np.zeros(len(labels)), np.zeros(len(y))
    plain = mapies(p, known, labels, 0.1, *nothing, last=False)
    np.testing.assert_array_equal(adaptive_conformal_sets(p, known, labels, 0.1), plain)
    at = thinned.Address(seed=3, site="conformal")
    u, new_u = (
        reference.words(at.replace(step=step), np.arange(n, dtype=np.uint64)) / 2**32
        for step, n in ((0, len(labels)), (1, len(y)))
    )
    seeded = adaptive_conformal_sets(p, known, labels, 0.1, seed=3)
    theirs = {
        last: mapies(p, known, labels, 0.1, u, new_u, last) for last in (True, False, "randomized")
    }
    np.testing.assert_array_equal(seeded, theirs["randomized"])
    # Its other modes leave u in the calibration scores, and agree with neither.
    for last in (True, False):
        assert (theirs[last] != plain).any()
        assert (theirs[last] != seeded).any()
    assert seeded.sum() < plain.sum()
    assert 0.85 < seeded[np.arange(len(y)), y].mean() < plain[np.arange(len(y)), y].mean() + 1e-12


def test_adaptive_sets_cover():
    (known, labels), (p, y) = halves()
    for how in ({}, {"penalty": 0.1, "free": 1}):
        sets = adaptive_conformal_sets(p, known, labels, 0.1, **how)
        assert sets[np.arange(len(y)), y].mean() > 0.85
    assert adaptive_conformal_sets(p, known[:5], labels[:5], 0.1).all()  # too few to exclude any
    plain = adaptive_conformal_sets(p, known, labels, 0.1)
    fewer = adaptive_conformal_sets(p, known, labels, 0.1, penalty=1.0, free=2)
    assert fewer.sum(1).max() < plain.sum(1).max()


# ------------------------------------------------------------------------------------ regression


def quantiles(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 3, n)
    return -0.5 * x, 0.5 * x, rng.normal(size=n) * x


def test_quantile_intervals_are_their_definition_and_cover():
    low, high, y = quantiles(2000, 0)
    new_low, new_high, new_y = quantiles(2000, 1)
    lower, upper = conformal_quantile_interval(new_low, new_high, low, high, y, 0.2)
    scores = np.sort(np.maximum(low - y, y - high))
    moved = scores[math.ceil(2001 * 0.8) - 1]
    np.testing.assert_allclose(lower, new_low - moved)
    np.testing.assert_allclose(upper, new_high + moved)
    assert 0.77 < ((lower <= new_y) & (new_y <= upper)).mean() < 0.83


def test_quantiles_that_cover_too_much_move_inwards_and_do_not_cross():
    _, _, y = quantiles(2000, 0)
    wide = np.full(2000, 50.0)
    lower, upper = conformal_quantile_interval([-50.0, -0.1], [50.0, 0.1], -wide, wide, y, 0.2)
    assert lower[0] > -3
    assert upper[0] < 3
    assert lower[1] == upper[1] == 0.0


def test_too_few_rows_give_infinite_intervals():
    lower, upper = conformal_quantile_interval([0.0], [1.0], [0.0], [1.0], [0.5], 0.1)
    assert np.isinf([lower[0], upper[0]]).all()


def test_pit():
    rng = np.random.default_rng(0)
    y = rng.normal(size=4000)
    exact = gaussian_pit(np.zeros(4000), np.ones(4000), y)
    np.testing.assert_allclose(exact, scipy_stats.norm.cdf(y), rtol=1e-12)
    members = rng.normal(size=(400, 4000))
    assert abs(pit(members, y) - exact).max() < 0.12
    assert pit([[0.0], [1.0], [1.0], [2.0]], [1.0]).tolist() == [0.5]
    assert scipy_stats.kstest(exact, "uniform").pvalue > 0.01
    narrow = pit(members / 2, y)
    assert np.mean((narrow < 0.05) | (narrow > 0.95)) > 0.25  # heaps at both ends


# ------------------------------------------------------------------------------------- error bars


def test_the_error_of_a_mean_is_known():
    x = np.random.default_rng(0).normal(size=300)
    found = with_error(np.mean, x, draws=2000)
    assert found.value == x.mean()
    assert found.standard_error == pytest.approx(x.std() / 300**0.5, rel=0.06)
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.upper - found.lower == pytest.approx(width, rel=0.1)
    assert found.lower < found.value < found.upper


def test_error_bars_of_scores_are_repeatable_and_keep_rows_together():
    logits, labels = material()
    p = scale_by_temperature(logits, 1.0)
    found = with_error(brier_score, p, labels, draws=200)
    assert found == with_error(brier_score, p, labels, draws=200)
    assert (
        found.standard_error != with_error(brier_score, p, labels, draws=200, seed=1).standard_error
    )
    assert abs(found.value - brier_score(p, labels)) < 1e-15
    # Shuffled apart, rows and labels would score far worse than any draw does.
    assert found.upper < brier_score(p, np.roll(labels, 1))
    members, y = np.random.default_rng(0).normal(size=(20, 100)), np.zeros(100)
    of_members = with_error(crps, members, y, draws=50, axis=(1, 0))
    assert of_members.value == pytest.approx(crps(members, y).mean())


WRONG = [
    (lambda: fit_temperature(np.zeros((3, 1)), [0, 0, 0]), "fit_temperature: logits must be"),
    (lambda: fit_temperature(np.zeros((3, 2)), [0, 1]), "fit_temperature: labels must be"),
    (lambda: scale_by_temperature([[1.0, 0.0]], 0.0), "temperature must be a positive number"),
    (lambda: adaptive_conformal_sets([[0.5, 0.5]], [[1, 0]], [0], penalty=-1), "penalty must be"),
    (lambda: adaptive_conformal_sets([[0.5, 0.5]], [[1, 0]], [0], free=-1), "free must be"),
    (lambda: adaptive_conformal_sets([[0.5, 0.5]], [[1, 0]], [0], seed=-1), "seed must be"),
    (lambda: adaptive_conformal_sets([[0.5, 0.5]], [[1, 0]], [0], alpha=1.0), "alpha must be"),
    (lambda: adaptive_conformal_sets([[1, 0, 0]], [[1, 0]], [0]), "probabilities must be of 2"),
    (lambda: conformal_quantile_interval([0.0], [1.0, 2.0], [0], [1], [0]), "upper must be"),
    (lambda: pit([1.0, 2.0], [1.0]), r"pit: members must be of shape \(M, 1\)"),
    (lambda: gaussian_pit([0.0], [0.0], [1.0]), "std must be positive"),
    (lambda: with_error(np.mean, [1.0, 2.0], [1.0]), "with_error: arrays must be"),
    (lambda: with_error(np.mean), "with_error: axis must be"),
    (lambda: with_error(np.mean, [1.0], draws=1), "draws must be"),
    (
        lambda: with_error(np.mean, [1.0], axis=1),
        r"with_error: axis must be an integer in \[-1, 1\)",
    ),
    (lambda: with_error(np.mean, None), "with_error: axis must be"),
    (
        lambda: with_error(lambda y: None, [1.0]),
        "score must be a function with numbers",
    ),
    (lambda: with_error("mean", [1.0]), "with_error: score must be a function"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()
