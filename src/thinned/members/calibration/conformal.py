"""Split conformal prediction: sets and intervals with a marginal coverage, whatever the model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinned import checks, reference
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.calibration.arguments import Array, classes, floats, level, same_length

__all__ = [
    "adaptive_conformal_sets",
    "conformal_interval",
    "conformal_quantile",
    "conformal_quantile_interval",
    "conformal_sets",
]


def conformal_quantile(scores: Array, alpha: float, weights: Array | None = None) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest score; infinite where n is too small for it.

    weights : of the scores, above 0; None for equal ones. The least score such that those up to it
        have a share of 1 - alpha or more of all weights and the new row's. That is taken for the
        largest of them: with a smaller one, the score is this one or less.

    References
    ----------
    Tibshirani, Barber, Candes, Ramdas, 2019, arXiv:1904.06019, section 2. Barber, Candes, Ramdas,
    Tibshirani, 2023, arXiv:2202.13415, section 3: weights up to 1, and 1 for the new row.
    """
    if weights is None:
        rank = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-12)
        return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])
    if not len(scores):
        return math.inf
    order = np.argsort(scores, kind="stable")
    shares = np.cumsum(weights[order]) / (weights.sum() + weights.max())
    place = int(np.searchsorted(shares, 1.0 - alpha - 1e-12))
    return math.inf if place == len(scores) else float(scores[order[place]])


def _known_and_asked(
    who: str, probabilities: ArrayLike, known: ArrayLike, labels: Any
) -> tuple[Array, NDArray[np.intp], Array]:
    """Calibration probabilities and labels, and the probabilities to answer, all checked."""
    calibration, y = classes(who, known, labels)
    asked = floats(who, "probabilities", probabilities)
    p, _ = classes(who, asked, np.zeros(asked.shape[:1], np.int64))
    if p.shape[1] != calibration.shape[1]:
        requirement = f"of {calibration.shape[1]} classes, as in calibration"
        raise ValueError(message(who, "probabilities", requirement, p.shape[1]))
    return calibration, y, p


@answering
def conformal_sets(
    probabilities: ArrayLike,
    calibration_probabilities: ArrayLike,
    calibration_labels: Any,
    alpha: float = 0.1,
) -> NDArray[np.bool_]:
    """Sets of classes that contain the true one with probability at least 1 - alpha on average.

    Split conformal prediction with the score 1 - probability of the true class. The coverage is
    marginal: it holds for any model, on average over rows and calibration sets, if the rows are
    exchangeable with the calibration rows. Single groups of rows may be covered less.

    Parameters
    ----------
    probabilities : (N, C). Of the rows to answer.
    calibration_probabilities, calibration_labels : (M, C), (M,). Rows that were not trained on.
    alpha : float inside (0, 1). The fraction of rows whose set may miss the true class.

    Returns
    -------
    (N, C) booleans: True where a class is in the row's set. All are True where M is too small for
    alpha.

    Raises
    ------
    ValueError, TypeError as `reliability`; ValueError for alpha outside (0, 1).

    References
    ----------
    Vovk, Gammerman, Shafer, 2005, Algorithmic learning in a random world; Sadinle, Lei, Wasserman,
    2019, arXiv:1609.00451.
    """
    who = "conformal_sets"
    alpha = level(who, "alpha", alpha)
    known, y, p = _known_and_asked(
        who, probabilities, calibration_probabilities, calibration_labels
    )
    limit = conformal_quantile(1.0 - known[np.arange(len(y)), y], alpha)
    found: NDArray[np.bool_] = 1.0 - p <= limit
    return found


@answering
def adaptive_conformal_sets(
    probabilities: ArrayLike,
    calibration_probabilities: ArrayLike,
    calibration_labels: Any,
    alpha: float = 0.1,
    *,
    penalty: float = 0.0,
    free: int = 0,
    seed: int | None = None,
) -> NDArray[np.bool_]:
    """APS and RAPS: sets that grow where a row is difficult.

    A class's score is the sum of the probabilities that are at least as large as its own, itself
    included; the set holds the classes of a score up to the conformal quantile. With a penalty each
    class beyond the `free` most probable ones costs it (RAPS), which keeps sets small.

    Without a seed there are no random numbers: each class counts in full, and sets cover 1 - alpha
    of rows or more. With a seed it is the papers' form: of a class's own probability the part u is
    left out, u uniform for each row. Coverage is then 1 - alpha to within 1 / (M + 1), by smaller
    sets, some of which may be empty.

    MAPIE (1.6) leaves out u in calibration in every mode. With include_last_label="randomized" its
    sets are those with a seed, at the same u. True and False leave out all or nothing in the sets
    alone, so that they cover more and less than they should; at u = 0 False is the form without a
    seed.

    Parameters
    ----------
    probabilities, calibration_probabilities, calibration_labels, alpha : as in `conformal_sets`.
    penalty : float >= 0. 0 is APS; .01 to .1 are usual for RAPS.
    free : int >= 0. How many classes are free of the penalty.
    seed : int >= 0, or None. Of u.

    Returns
    -------
    (N, C) booleans: True where a class is in the row's set. Without a seed each row has its most
    probable class.

    Raises
    ------
    ValueError, TypeError as `conformal_sets`; ValueError for a penalty or free below 0.

    References
    ----------
    Romano, Sesia, Candès, 2020, arXiv:2006.02544 (APS); Angelopoulos, Bates, Malik, Jordan, 2021,
    arXiv:2009.14193 (RAPS).
    """
    who = "adaptive_conformal_sets"
    alpha = level(who, "alpha", alpha)
    cost = checks.real(who, "penalty", penalty, "a number of at least 0")
    if not 0.0 <= cost < math.inf:
        raise ValueError(message(who, "penalty", "a number of at least 0", cost))
    free = checks.integer(who, "free", free, 0, 2**31)
    known, y, p = _known_and_asked(
        who, probabilities, calibration_probabilities, calibration_labels
    )
    scores, asked = _adaptive_scores(known, cost, free), _adaptive_scores(p, cost, free)
    if seed is not None:
        at = Address(seed=checks.integer(who, "seed", seed, 0, 2**64), site="conformal")
        scores -= _uniform(at, len(known)) * known
        asked -= _uniform(at.replace(step=1), len(p)) * p
    found: NDArray[np.bool_] = asked <= conformal_quantile(scores[np.arange(len(y)), y], alpha)
    if seed is None:
        found[np.arange(len(p)), p.argmax(1)] = True
    return found


def _uniform(at: Address, n: int) -> Array:
    """(n, 1) numbers in [0, 1)."""
    found: Array = reference.words(at, np.arange(n, dtype=np.uint64))[:, None] / 2.0**32
    return found


def _adaptive_scores(p: Array, penalty: float, free: int) -> Array:
    order = np.argsort(-p, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(p, order, 1), axis=1)
    rank = np.arange(1, p.shape[1] + 1)
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, sums + penalty * np.maximum(rank - free, 0), 1)
    return scores


@answering
def conformal_quantile_interval(
    lower: ArrayLike,
    upper: ArrayLike,
    calibration_lower: ArrayLike,
    calibration_upper: ArrayLike,
    calibration_y: ArrayLike,
    alpha: float = 0.1,
) -> tuple[Array, Array]:
    """CQR: predicted quantiles, moved outwards or inwards by one number until they cover.

    Split conformal prediction with the score max(lower - y, y - upper). The intervals keep the
    widths that the model gave them, row by row. The coverage is marginal, as `conformal_interval`
    says.

    Parameters
    ----------
    lower, upper : (N,). Predicted quantiles of the rows to answer, alpha / 2 and 1 - alpha / 2: of
        a quantile regression, or of members with the noise added.
    calibration_lower, calibration_upper, calibration_y : (M,). Of rows that were not trained on.
    alpha : float inside (0, 1). The fraction of rows whose interval may miss y.

    Returns
    -------
    (lower, upper), each (N,); infinite where M is too small for alpha. Where quantiles move inwards
    beyond each other, both are their middle.

    Raises
    ------
    ValueError for shapes that do not fit, NaN, or alpha outside (0, 1).

    References
    ----------
    Romano, Patterson, Candès, 2019, arXiv:1905.03222.
    """
    who = "conformal_quantile_interval"
    alpha = level(who, "alpha", alpha)
    low, high = same_length(who, lower=lower, upper=upper)
    known_low, known_high, y = same_length(
        who,
        calibration_lower=calibration_lower,
        calibration_upper=calibration_upper,
        calibration_y=calibration_y,
    )
    limit = conformal_quantile(np.maximum(known_low - y, y - known_high), alpha)
    middle = (low + high) / 2.0
    crossed = low - limit > high + limit
    return np.where(crossed, middle, low - limit), np.where(crossed, middle, high + limit)


@answering
def conformal_interval(
    mean: ArrayLike,
    calibration_mean: ArrayLike,
    calibration_y: ArrayLike,
    alpha: float = 0.1,
    std: ArrayLike | None = None,
    calibration_std: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Intervals that contain y with probability at least 1 - alpha on average.

    Split conformal prediction with the score |y - mean|, or |y - mean| / std where standard
    deviations are given: then uncertain rows get wider intervals. The coverage is marginal: it
    holds on average over rows and calibration sets, if the rows are exchangeable with the
    calibration rows. Single groups of rows may be covered less.

    Parameters
    ----------
    mean : (N,). Predictions for the rows to answer.
    calibration_mean, calibration_y : (M,). Of rows that were not trained on.
    alpha : float inside (0, 1). The fraction of rows whose interval may miss y.
    std, calibration_std : (N,), (M,), positive; both or neither.

    Returns
    -------
    (lower, upper), each (N,); infinite where M is too small for alpha.

    Raises
    ------
    ValueError for shapes that do not fit, one std without the other, a std that is not positive, or
    alpha outside (0, 1).

    References
    ----------
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, 2018, arXiv:1604.04173.
    """
    who = "conformal_interval"
    alpha = level(who, "alpha", alpha)
    if (std is None) != (calibration_std is None):
        raise ValueError(f"{who}: std and calibration_std belong together. Pass both, or neither.")
    centre = floats(who, "mean", mean)
    known, y = same_length(who, calibration_mean=calibration_mean, calibration_y=calibration_y)
    widths, spread = np.ones_like(centre), np.ones_like(known)
    if std is not None and calibration_std is not None:
        widths = same_length(who, mean=mean, std=std)[1]
        spread = same_length(who, calibration_mean=known, calibration_std=calibration_std)[1]
        if min(widths.min(), spread.min()) <= 0.0:
            raise ValueError(message(who, "std", "positive", "0 or less"))
    limit = conformal_quantile(abs(y - known) / spread, alpha)
    return centre - limit * widths, centre + limit * widths
