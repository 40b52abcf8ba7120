"""Split conformal prediction: sets and intervals with a marginal coverage, whatever the model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinned.checks import message
from thinned.members.calibration.arguments import Array, classes, floats, level, same_length

__all__ = ["conformal_interval", "conformal_quantile", "conformal_sets"]


def conformal_quantile(scores: Array, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest score; infinite where n is too small for it."""
    rank = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-12)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


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
    known, y = classes(who, calibration_probabilities, calibration_labels)
    asked = floats(who, "probabilities", probabilities)
    p, _ = classes(who, asked, np.zeros(asked.shape[:1], np.int64))
    if p.shape[1] != known.shape[1]:
        requirement = f"of {known.shape[1]} classes, as in calibration"
        raise ValueError(message(who, "probabilities", requirement, p.shape[1]))
    limit = conformal_quantile(1.0 - known[np.arange(len(y)), y], alpha)
    found: NDArray[np.bool_] = 1.0 - p <= limit
    return found


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
