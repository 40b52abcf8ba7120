"""Weights of rows and of classes, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message, shown

__all__ = ["class_weights", "row_weights"]


def row_weights(who: str, sample_weight: Any, n: int) -> NDArray[np.float64]:
    """The weights of n rows, shape (n,). One number stands for n of them.

    Raises
    ------
    ValueError if they are no numbers in [0, inf), not n, or all 0.
    """
    requirement = f"{n} numbers in [0, inf), one for each row"
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        got = type(sample_weight).__name__
        raise ValueError(message(who, "sample_weight", requirement, got)) from None
    if weights.ndim == 0:
        weights = np.full(n, weights)
    if weights.shape != (n,):
        raise ValueError(message(who, "sample_weight", requirement, f"shape {weights.shape}"))
    wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))  # NaN is wrong, too
    if wrong.size:
        got = f"{weights[wrong[0]]:g} in row {wrong[0]}"
        raise ValueError(message(who, "sample_weight", requirement, got))
    if not weights.any():
        raise ValueError(
            message(who, "sample_weight", "above 0 for some row", "weights of zero only")
        )
    return weights


def class_weights(
    who: str, given: Any, labels: Sequence[Any], counts: NDArray[Any]
) -> NDArray[np.float64]:
    """The weight of each class.

    Parameters
    ----------
    given : "balanced" or a dict. A class that it lacks has weight 1; classes that there are none of
        are passed over, as in scikit-learn.
    labels : the classes.
    counts : rows of each class, or the sums of their weights. "balanced" divides by them.

    Raises
    ------
    ValueError for anything else, or a weight outside of [0, inf).
    """
    requirement = 'None, "balanced" or a dict of numbers in [0, inf) by class'
    if isinstance(given, str) and given == "balanced":
        there = counts > 0
        balanced = counts.sum() / (there.sum() * np.where(there, counts, 1))
        return np.where(there, balanced, 0.0)
    if not isinstance(given, Mapping):
        raise ValueError(message(who, "class_weight", requirement, shown(given)))
    found = np.ones(len(labels))
    for label, weight in given.items():
        is_number = isinstance(weight, Real) and not isinstance(weight, (bool, np.bool_))
        if not is_number or not 0 <= weight < np.inf:
            got = f"{shown(weight)} for class {label!r}"
            raise ValueError(message(who, "class_weight", requirement, got))
        if label in labels:
            found[labels.index(label)] = weight
    return found
