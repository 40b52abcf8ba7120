"""How well scores put the rows of a class before all others: areas under two curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["areas", "mean_areas"]

Array = NDArray[Any]


def areas(scores: Array, positive: Array, weights: Array | None = None) -> tuple[float, float]:
    """The area under the ROC curve, and the average precision: rows of equal scores stay together.

    scores, positive : (rows,), numbers and booleans. There are rows of both kinds.
    weights : (rows,), above 0, or None: how often each row counts.

    References
    ----------
    Fawcett, 2006, Pattern Recognition Letters 27, 861-874; for the average precision, the sum over
    thresholds of the precision times what the recall gains, without interpolation.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    if weights is None:
        rows = ends + 1.0
        hits = np.cumsum(positive[order])[ends].astype(np.float64)
    else:
        rows = np.cumsum(weights[order])[ends]
        hits = np.cumsum((positive * weights)[order])[ends]
    false = np.maximum(rows - hits, 0.0)
    recall, fallout = np.append(0.0, hits / hits[-1]), np.append(0.0, false / false[-1])
    under = float(np.sum(np.diff(fallout) * (recall[1:] + recall[:-1]) / 2))
    return under, float(np.sum(np.diff(recall) * hits / rows))


def mean_areas(shares: Array, target: Array, weights: Array | None = None) -> tuple[float, float]:
    """`areas` of classes given by their probabilities.

    Two classes: the average precision is that of the one with fewer rows (the second if they are
    even). More: each class against all others, and the mean over classes, each counting the same.
    Classes without rows cannot be judged; where no class can, both are 0.5, which says nothing.

    shares : (rows, classes). target : (rows,), class numbers.
    """
    counts = np.bincount(target, minlength=shares.shape[1])
    judged = np.flatnonzero((counts > 0) & (counts < len(target)))
    if not len(judged):
        return 0.5, 0.5
    if shares.shape[1] == 2:
        judged = np.array([0 if counts[0] < counts[1] else 1])
    found = [areas(shares[:, c], target == c, weights) for c in judged]
    under, precision = np.mean(found, axis=0)
    return float(under), float(precision)
