"""Calibration: against scikit-learn and torchmetrics, and by definition where they have nothing."""

import math
from functools import cache

import numpy as np
import pytest
from libraries import library
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import train_test_split

from thinned.members import calibration
from thinned.members.calibration import (
    adaptive_calibration_error,
    brier_score,
    conformal_interval,
    conformal_sets,
    crps,
    expected_calibration_error,
    gaussian_crps,
    interval_coverage,
    interval_width,
    negative_log_likelihood,
    reliability,
    risk_coverage,
)

torch = library("torch")
classification = library("torchmetrics.functional.classification")
regression = library("torchmetrics.functional.regression")


@cache
def digits():
    """Real probabilities of a real model: (probabilities, labels), calibration rows, test rows."""
    x, y = load_digits(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(x / 16, y, train_size=120, random_state=0)
    model = LogisticRegression(C=10.0, max_iter=500).fit(x_train, y_train)
    p = model.predict_proba(x_rest)
    half = len(p) // 2
    return (p[:half], y_rest[:half]), (p[half:], y_rest[half:])


def two_classes():
    p, y = digits()[0]
    return p[:, 3] / (p[:, 3] + p[:, 8]), (y == 3).astype(int)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_expected_calibration_error_is_torchmetrics(bins):
    p, y = digits()[0]
    theirs = classification.multiclass_calibration_error(
        torch.tensor(p), torch.tensor(y), num_classes=10, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(p, y, bins) == pytest.approx(float(theirs), abs=1e-6)


def test_brier_score_and_likelihood_are_scikit_learns():
    p, y = digits()[0]
    assert negative_log_likelihood(p, y) == pytest.approx(log_loss(y, p), rel=1e-12)
    assert brier_score(p, y) == pytest.approx(
        brier_score_loss(y, p, scale_by_half=False), rel=1e-12
    )
    one, is_three = two_classes()
    assert brier_score(one, is_three) == pytest.approx(2 * brier_score_loss(is_three, one))


def test_reliability_is_scikit_learns_curve():
    p, y = digits()[0]
    confidence, right = p.max(1), (p.argmax(1) == y).astype(int)
    true, claimed = calibration_curve(right, confidence, n_bins=10)
    found = reliability(p, y, 10)
    filled = found.rows > 0
    np.testing.assert_allclose(found.accuracy[filled], true)
    np.testing.assert_allclose(found.confidence[filled], claimed)
    assert found.rows.sum() == len(y)
    assert np.isnan(found.accuracy[~filled]).all()
    assert found.error == pytest.approx(expected_calibration_error(p, y, 10))


def test_bins_of_equal_mass_hold_equal_rows():
    p, y = digits()[0]
    found = reliability(p, y, 15, binning="mass")
    assert found.rows.max() - found.rows.min() <= 1
    assert adaptive_calibration_error(p, y) == pytest.approx(found.error)
    assert (np.diff(found.confidence) >= 0).all()


def test_a_calibrated_forecast_has_no_error_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 200_000)
    y = (rng.random(len(p)) < p).astype(int)
    assert expected_calibration_error(p, y) < 0.01
    # 10 points more than is true is claimed everywhere.
    sure = np.clip(p, 0.5, 0.9) + 0.1
    y = (rng.random(len(p)) < sure - 0.1).astype(int)
    assert expected_calibration_error(sure, y) == pytest.approx(0.1, abs=0.01)


def test_risk_rises_with_coverage_where_uncertainty_knows():
    p, y = digits()[0]
    wrong = (p.argmax(1) != y).astype(float)
    known = risk_coverage(1 - p.max(1), wrong)
    assert known.risk[-1] == pytest.approx(wrong.mean())
    assert known.coverage[-1] == 1.0
    assert risk_coverage(wrong, wrong).area < known.area < risk_coverage(-wrong, wrong).area
    assert risk_coverage(np.zeros(len(y)), wrong).risk == pytest.approx(wrong.mean())
    by_hand = [np.mean([0, 1][:k]) for k in (1, 2)]
    np.testing.assert_allclose(risk_coverage([0.1, 0.2], [0, 1]).risk, by_hand)


def test_crps_of_an_ensemble_is_its_definition_and_torchmetrics():
    rng = np.random.default_rng(1)
    m, y = rng.normal(size=(7, 5)), rng.normal(size=5)
    by_hand = [
        abs(m[:, j] - y[j]).mean() - abs(m[:, j, None] - m[None, :, j]).mean() / 2 for j in range(5)
    ]
    np.testing.assert_allclose(crps(m, y), by_hand, rtol=1e-12)
    theirs = regression.continuous_ranked_probability_score(torch.tensor(m.T), torch.tensor(y))
    assert crps(m, y).mean() == pytest.approx(float(theirs))
    np.testing.assert_allclose(crps(m[:1], y), abs(m[0] - y))


def test_fair_crps_is_its_definition_and_has_no_bias():
    rng = np.random.default_rng(4)
    m, y = rng.normal(size=(6, 5)), rng.normal(size=5)
    others = ~np.eye(6, dtype=bool)
    by_hand = [
        abs(m[:, j] - y[j]).mean() - abs(m[:, j, None] - m[None, :, j])[others].mean() / 2
        for j in range(5)
    ]
    np.testing.assert_allclose(crps(m, y, fair=True), by_hand, rtol=1e-12)
    # Two members -1 and 1, truth 0: 1 - 2 / 2, where the biased form has 1 - 1 / 2.
    assert (crps([[-1], [1]], [0], fair=True)[0], crps([[-1], [1]], [0])[0]) == (0.0, 0.5)
    # Of 3 standard normal members about 0: the fair form has the mean of infinitely many, which
    # is (sqrt(2) - 1) / sqrt(pi), and the biased one E|m_i - m_j| / (2 M) = 1 / (3 sqrt(pi)) more.
    truth = (math.sqrt(2.0) - 1.0) / math.sqrt(math.pi)
    few = rng.standard_normal((3, 100_000))
    zero = np.zeros(few.shape[1])
    assert crps(few, zero, fair=True).mean() == pytest.approx(truth, abs=0.008)
    biased = truth + 1.0 / (3.0 * math.sqrt(math.pi))
    assert crps(few, zero).mean() == pytest.approx(biased, abs=0.008)


def test_crps_of_a_gaussian_is_that_of_many_draws():
    rng = np.random.default_rng(2)
    mean, std, y = np.array([0.0, 1.0]), np.array([1.0, 0.3]), np.array([0.7, -1.0])
    draws = mean + std * rng.standard_normal((20_000, 2))
    np.testing.assert_allclose(gaussian_crps(mean, std, y), crps(draws, y), rtol=0.02)


def test_gals_log_likelihood_is_a_mixture_of_gaussians():
    rng = np.random.default_rng(3)
    m, y, tau = rng.normal(size=(6, 4)), rng.normal(size=4), 2.5
    density = np.sqrt(tau / (2 * np.pi)) * np.exp(-tau * (y - m) ** 2 / 2)
    found = calibration.test_log_likelihood(m, y, tau)
    np.testing.assert_allclose(found, np.log(density.mean(0)), rtol=1e-12)
    far = calibration.test_log_likelihood(m, y + 1000.0, tau)
    assert np.isfinite(far).all()


def test_interval_coverage_and_width():
    assert interval_coverage([0, 0, 0], [1, 1, 1], [0.5, 2, 1]) == pytest.approx(2 / 3)
    assert interval_width([0, 1], [1, 4]) == 2.0


def test_conformal_sets_cover_real_rows():
    (known, labels), (p, y) = digits()
    for alpha in (0.05, 0.1, 0.3):
        sets = conformal_sets(p, known, labels, alpha)
        covered = sets[np.arange(len(y)), y].mean()
        # The coverage over draws of both parts has this spread about its least value.
        spread = math.sqrt(alpha * (1 - alpha) * (1 / len(y) + 1 / len(labels)))
        assert abs(covered - (1 - alpha)) < 4 * spread
        assert sets.shape == p.shape
    assert (
        conformal_sets(p, known, labels, 0.01).sum() > conformal_sets(p, known, labels, 0.3).sum()
    )
    assert conformal_sets(p, known[:5], labels[:5], 0.01).all()


def test_conformal_intervals_cover_real_rows():
    x, y = load_diabetes(return_X_y=True)
    inside, wide = [], []
    for split in range(40):
        x_train, x_rest, y_train, y_rest = train_test_split(
            x, y, train_size=140, random_state=split
        )
        model = Ridge(0.1).fit(x_train, y_train)
        mean = model.predict(x_rest)
        ends = conformal_interval(mean[150:], mean[:150], y_rest[:150], alpha=0.2)
        inside.append(interval_coverage(*ends, y_rest[150:]))
        std = 1.0 + abs(mean)
        scaled = conformal_interval(mean[150:], mean[:150], y_rest[:150], 0.2, std[150:], std[:150])
        wide.append(interval_coverage(*scaled, y_rest[150:]))
    for coverage in (inside, wide):
        assert abs(np.mean(coverage) - 0.8) < 4 * np.std(coverage) / math.sqrt(len(coverage)) + 0.01
    low, high = conformal_interval([1.0], [0.0, 0.0], [0.5, 0.2], alpha=0.1)
    assert (low[0], high[0]) == (-math.inf, math.inf)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: brier_score([[0.9, 0.9]], [0]), ValueError, "probabilities must be rows in"),
    (lambda: brier_score([[2.0, -1.0]], [0]), ValueError, "Pass probabilities, not logits."),
    (lambda: brier_score([[0.5, 0.5]], [0.0]), TypeError, "labels must be integers"),
    (lambda: brier_score([[0.5, 0.5]], [2]), ValueError, r"labels must be in \[0, 2\)"),
    (lambda: brier_score([[0.5, math.nan]], [1]), ValueError, "probabilities must be finite"),
    (lambda: brier_score([], []), ValueError, "probabilities is empty"),
    (lambda: reliability([0.5], [1], bins=0), ValueError, "bins must be an integer in"),
    (lambda: reliability([0.5], [1], 3, "rank"), ValueError, "binning must be 'width' or 'mass'"),
    (lambda: crps([1.0], [1.0]), ValueError, r"members must be of shape \(M, 1\)"),
    (lambda: crps("many", [1.0]), TypeError, "members must be an array of numbers, got str"),
    (lambda: crps([[1.0]], [1.0], fair=True), ValueError, "members must be at least 2 with fair"),
    (lambda: crps([[1.0]], [1.0], fair=1), TypeError, "fair must be "),
    (lambda: gaussian_crps([1.0], [0.0], [1.0]), ValueError, "std must be positive, got 0"),
    (lambda: gaussian_crps([1.0], [1.0, 2.0], [1.0]), ValueError, "std must be of mean's shape"),
    (lambda: interval_width([1.0], [0.0]), ValueError, "upper must be no less than lower"),
    (lambda: calibration.test_log_likelihood([[1.0]], [1.0], 0), ValueError, "tau must be a pos"),
    (lambda: conformal_interval([1.0], [1.0], [1.0], 1.0), ValueError, "alpha must be inside"),
    (lambda: conformal_interval([1.0], [1.0], [1.0], std=[1.0]), ValueError, "belong together"),
    (lambda: conformal_sets([[1, 0, 0]], [[1, 0]], [0]), ValueError, "of 2 classes"),
    (lambda: risk_coverage([1.0], [1.0, 2.0]), ValueError, "loss must be of uncertainty's shape"),
])  # fmt: skip
def test_bad_input_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_faults_are_caught(monkeypatch):
    """A wrong quantile, and bins that are not those asked for."""
    module = calibration.conformal
    right = module.conformal_quantile
    monkeypatch.setattr(module, "conformal_quantile", lambda s, a: right(s, min(2 * a, 0.9)))
    with pytest.raises(AssertionError):
        test_conformal_sets_cover_real_rows()
    curve = calibration.classification._reliability
    monkeypatch.setattr(
        calibration.classification, "_reliability", lambda w, p, y, n, b: curve(w, p, y, n + 3, b)
    )
    with pytest.raises(AssertionError):
        test_reliability_is_scikit_learns_curve()
