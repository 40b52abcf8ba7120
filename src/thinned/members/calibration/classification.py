"""Scores and curves of predicted probabilities."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinned import checks
from thinned.checks import one_of
from thinned.foreign_arguments import answering
from thinned.members.calibration.arguments import Array, classes, same_length

__all__ = [
    "Reliability",
    "RiskCoverage",
    "adaptive_calibration_error",
    "area_under_risk_coverage",
    "brier_score",
    "classwise_calibration_error",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability",
    "risk_coverage",
]

# More would be memory, and no more information.
MOST_BINS = 2**20


class Reliability(NamedTuple):
    """One bin of confidence a row: what was claimed, and what came true. NaN in empty bins.

    Attributes
    ----------
    edges : (bins + 1,). Bin b holds confidences in (edges[b], edges[b + 1]], the first one also its
        left end.
    confidence, accuracy : (bins,). Means over the bin.
    rows : (bins,). How many there are in the bin.
    """

    edges: Array
    confidence: Array
    accuracy: Array
    rows: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Mean over rows of |accuracy - confidence| of their bins."""
        filled = self.rows > 0
        gap = abs(self.accuracy[filled] - self.confidence[filled])
        return float((gap * self.rows[filled]).sum() / self.rows.sum())


@answering
def reliability(
    probabilities: ArrayLike, labels: Any, bins: int = 15, binning: str = "width"
) -> Reliability:
    """Confidence against accuracy, bin by bin: the data of a reliability diagram.

    Parameters
    ----------
    probabilities : (N, C), rows of sum 1; or (N,), of class 1. Confidence is the largest of a row.
    labels : (N,) integers in [0, C).
    bins : int >= 1.
    binning : "width" for bins of equal width on [0, 1], "mass" for bins of equal numbers of rows.

    Returns
    -------
    Reliability.

    Raises
    ------
    ValueError for shapes that do not fit, rows that are no probabilities, or another binning.
    TypeError for labels that are no integers.
    """
    return _reliability("reliability", probabilities, labels, bins, binning)


def _reliability(who: str, p: ArrayLike, labels: Any, bins: int, binning: str) -> Reliability:
    binning = one_of(who, "binning", binning, ("width", "mass"))
    p, y = classes(who, p, labels)
    bins = checks.integer(who, "bins", bins, 1, MOST_BINS)
    confidence = p.max(1)
    right = (p.argmax(1) == y).astype(np.float64)
    if binning == "width":
        edges = np.linspace(0.0, 1.0, bins + 1)
        where = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    else:
        # By rank, so that every row is in one bin and bins differ by one row at most.
        order = np.argsort(confidence, kind="stable")
        where = np.empty(len(order), np.intp)
        where[order] = np.arange(len(order)) * bins // len(order)
        inner = np.quantile(confidence, np.arange(1, bins) / bins)
        edges = np.concatenate([[confidence.min()], inner, [confidence.max()]])
    count = np.bincount(where, minlength=bins)
    with np.errstate(invalid="ignore"):
        claimed = np.bincount(where, confidence, bins) / count
        true = np.bincount(where, right, bins) / count
    return Reliability(edges, claimed, true, count)


@answering
def expected_calibration_error(probabilities: ArrayLike, labels: Any, bins: int = 15) -> float:
    """Expected calibration error: mean over rows of |accuracy - confidence| of their bins.

    Bins of equal width on [0, 1], open on the left, by the confidence (the largest probability).

    Parameters
    ----------
    probabilities, labels, bins : as in `reliability`.

    Returns
    -------
    float in [0, 1]. It is biased upwards in small samples, and depends on the bins: say them.

    Raises
    ------
    ValueError, TypeError as `reliability`.

    References
    ----------
    Naeini, Cooper, Hauskrecht, 2015, AAAI; Guo et al., 2017, arXiv:1706.04599.
    """
    return _reliability("expected_calibration_error", probabilities, labels, bins, "width").error


@answering
def adaptive_calibration_error(probabilities: ArrayLike, labels: Any, bins: int = 15) -> float:
    """The same over bins that hold equal numbers of rows.

    Parameters
    ----------
    probabilities, labels, bins : as in `reliability`.

    Returns
    -------
    float in [0, 1].

    Raises
    ------
    ValueError, TypeError as `reliability`.

    References
    ----------
    Nguyen and O'Connor, 2015, arXiv:1508.05154; Nixon et al., 2019, arXiv:1904.01685, who do it
    class by class as well; here the confidence alone is binned.
    """
    return _reliability("adaptive_calibration_error", probabilities, labels, bins, "mass").error


@answering
def classwise_calibration_error(probabilities: ArrayLike, labels: Any, bins: int = 15) -> float:
    """Classwise ECE: the mean over classes of |frequency - probability| of the bins of that class.

    Every probability of a row counts, and not the largest alone: for each class the rows are binned
    by its probability, in bins of equal width, and compared with how often the class came true.

    Parameters
    ----------
    probabilities, labels, bins : as in `reliability`.

    Returns
    -------
    float in [0, 1].

    Raises
    ------
    ValueError, TypeError as `reliability`.

    References
    ----------
    Kull et al., 2019, arXiv:1910.12656; Nixon et al., 2019, arXiv:1904.01685.
    """
    who = "classwise_calibration_error"
    p, y = classes(who, probabilities, labels)
    bins = checks.integer(who, "bins", bins, 1, MOST_BINS)
    edges = np.linspace(0.0, 1.0, bins + 1)
    errors = []
    for k in range(p.shape[1]):
        where = np.clip(np.searchsorted(edges, p[:, k], side="left") - 1, 0, bins - 1)
        gap = np.bincount(where, (y == k) - p[:, k], bins)
        errors.append(abs(gap).sum() / len(y))
    return float(np.mean(errors))


@answering
def brier_score(probabilities: ArrayLike, labels: Any) -> float:
    """Mean over rows of the squared distance between probabilities and the true class's indicator.

    Parameters
    ----------
    probabilities, labels : as in `reliability`.

    Returns
    -------
    float in [0, 2]. For two classes it is twice what scikit-learn's `brier_score_loss` gives for
    the probabilities of class 1.

    Raises
    ------
    ValueError, TypeError as `reliability`.

    References
    ----------
    Brier, 1950, Monthly Weather Review 78.
    """
    p, y = classes("brier_score", probabilities, labels)
    distance = p.copy()
    distance[np.arange(len(y)), y] -= 1.0
    return float((distance**2).sum(1).mean())


@answering
def negative_log_likelihood(probabilities: ArrayLike, labels: Any) -> float:
    """Mean over rows of -ln of the true class's probability, in nats.

    Parameters
    ----------
    probabilities, labels : as in `reliability`. Probabilities below 2.2e-16 count as that.

    Returns
    -------
    float >= 0.

    Raises
    ------
    ValueError, TypeError as `reliability`.
    """
    p, y = classes("negative_log_likelihood", probabilities, labels)
    true = p[np.arange(len(y)), y]
    return float(-np.log(np.maximum(true, np.finfo(np.float64).eps)).mean())


class RiskCoverage(NamedTuple):
    """The error rate when only the surest rows are answered.

    Attributes
    ----------
    coverage : (N,), rising to 1. The share of rows that is answered.
    risk : (N,). The mean loss of those rows.
    """

    coverage: Array
    risk: Array

    @property
    def area(self) -> float:
        """Mean risk over all coverages: 0 is perfect, and the whole error rate is no better than
        chance in its order."""
        return float(self.risk.mean())


@answering
def risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Risk against coverage, the surest rows first.

    Parameters
    ----------
    uncertainty : (N,). Larger is less sure: an entropy, a standard deviation, 1 - confidence.
    loss : (N,). 0 or 1 for right and wrong answers, or any loss of a row.

    Returns
    -------
    RiskCoverage. Rows of equal uncertainty share their mean loss, so that their order does not
    matter.

    Raises
    ------
    ValueError for shapes that differ, NaN, or nothing.

    References
    ----------
    El-Yaniv and Wiener, 2010, JMLR 11; Geifman and El-Yaniv, 2017, arXiv:1705.08500.
    """
    u, losses = same_length("risk_coverage", uncertainty=uncertainty, loss=loss)
    u, losses = u.ravel(), losses.ravel()
    _, group = np.unique(u, return_inverse=True)
    mean = np.bincount(group, losses) / np.bincount(group)
    ordered = mean[np.sort(group)]
    n = np.arange(1, len(u) + 1)
    return RiskCoverage(n / len(u), np.cumsum(ordered) / n)


@answering
def area_under_risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """AURC: the mean risk over all coverages, `risk_coverage(uncertainty, loss).area`.

    Parameters
    ----------
    uncertainty, loss : as in `risk_coverage`.

    Returns
    -------
    float. With losses of 0 and 1 it lies in [0, 1]; smaller is better.

    Raises
    ------
    ValueError as `risk_coverage`.

    References
    ----------
    Geifman, Uziel, El-Yaniv, 2019, arXiv:1805.08206.
    """
    return risk_coverage(uncertainty, loss).area
