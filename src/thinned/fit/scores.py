"""Standard errors of scores on the test part: how much they owe to the rows that are in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.metrics import METRICS
from thinned.fit.network import MEASURES, measures
from thinned.fit.target import Task

__all__ = ["standard_errors"]

Array = NDArray[Any]

# Parts that the jackknife leaves out in turn, where there are more rows than these.
PARTS = 100


def standard_errors(
    task: Task, outputs: Array, target: Array, weights: Array | None = None
) -> dict[str, float]:
    """The standard error of each of the `MEASURES`, over rows.

    By the delete-a-group jackknife: each of 100 parts of the rows (each row, where there are fewer)
    is left out in turn. With a row in each part, the error of a mean is exactly the standard
    deviation over the square root of the number of rows. Rows of a class go to different parts.

    Where all rows of each class are answered rightly, or none, an error of 0 would mean certainty:
    measures from 0 to 1 then get the error that one row more, of the other kind, would give.

    References
    ----------
    Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapter 11.
    """
    n = len(target)
    parts = min(PARTS, n)
    order = np.argsort(target, kind="stable")
    part = np.empty(n, np.intp)
    part[order] = np.arange(n) % parts

    def without(k: int) -> Any:
        stays = part != k
        return measures(
            task, outputs[stays], target[stays], None if weights is None else weights[stays]
        )

    left = np.array([without(k) for k in range(parts)], np.float64)
    spread = left - left.mean(axis=0)
    errors = np.sqrt((parts - 1) / parts * (spread**2).sum(axis=0))
    one_more = float(np.sqrt(n) / (n + 1) ** 1.5)
    return {
        name: one_more if METRICS[task][name].bounded and error < 1e-9 else float(error)
        for name, error in zip(MEASURES[task], errors, strict=True)
    }
