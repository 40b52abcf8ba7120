"""Error bars of scores, by drawing rows anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.numpy import as_array
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.calibration.arguments import level

__all__ = ["WithError", "with_error"]


class WithError(NamedTuple):
    """A score and how far another test set of this size would move it.

    Attributes
    ----------
    value : float. The score of the rows as they are.
    standard_error : float. Its standard deviation over the draws.
    lower, upper : float. The middle part of the draws, of the level that was asked for.
    """

    value: float
    standard_error: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g}"


@answering
def with_error(
    score: Callable[..., Any],
    *arrays: Any,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    axis: int | tuple[int, ...] = 0,
) -> WithError:
    """A score with its error bar, by the bootstrap: rows are drawn again with replacement.

    The error is that of the test set. It leaves out what another training would change: for that,
    train several times.

    Parameters
    ----------
    score : function of the arrays, with a number as its value; an array of rows is averaged.
    arrays : arrays of N rows each: probabilities and labels, members and y.
    draws : int >= 2.
    confidence : float inside (0, 1). Of the interval from `lower` to `upper`.
    seed : int. The rows are drawn by address: equal seeds give equal error bars everywhere.
    axis : int, or one for each array. Along which the rows lie: (1, 0) for members (M, N) and y.

    Returns
    -------
    WithError.

    Raises
    ------
    ValueError for arrays of different numbers of rows, no array, no such axis, or draws below 2;
    TypeError for a score that is no function, or whose value is no number.

    Examples
    --------
    >>> import numpy as np
    >>> from thinned.members.calibration import with_error
    >>> found = with_error(np.mean, np.arange(100.0))
    >>> print(found)
    49.5 ± 2.9

    References
    ----------
    Efron and Tibshirani, 1993, An introduction to the bootstrap.
    """
    who = "with_error"
    checks.function(who, "score", score, "the arrays")
    draws = checks.integer(who, "draws", draws, 2, 2**31)
    confidence = level(who, "confidence", confidence)
    held = [as_array(who, "arrays", array, "arrays of rows") for array in arrays]
    axes = axis if isinstance(axis, tuple) else (axis,) * len(held)
    if not held or len(axes) != len(held):
        raise ValueError(message(who, "axis", "one for each array", axes))
    axes = tuple(
        checks.integer(who, "axis", along, -array.ndim, array.ndim)
        for array, along in zip(held, axes, strict=True)
    )
    rows = {array.shape[along] for array, along in zip(held, axes, strict=True)}
    if len(rows) != 1 or 0 in rows:
        remedy = "axis names the axis of the rows of each: axis=(1, 0) for (members, rows)."
        requirement = "of the same number of rows"
        raise ValueError(message(who, "arrays", requirement, sorted(rows), remedy))
    (n,) = rows
    at = Address(seed=seed, site="bootstrap")

    def scored(index: NDArray[np.intp] | None) -> float:
        parts = (
            array if index is None else array.take(index, along)
            for array, along in zip(held, axes, strict=True)
        )
        return _number(who, score(*parts))

    value = scored(None)
    found = [scored(_rows(at.replace(step=draw), n)) for draw in range(draws)]
    tail = (1.0 - confidence) / 2.0
    lower, upper = np.quantile(found, [tail, 1.0 - tail])
    return WithError(value, float(np.std(found, ddof=1)), float(lower), float(upper))


def _number(who: str, value: Any) -> float:
    """What a score gave, averaged where it is an array of rows."""
    found = as_array(who, "score", value, "a function with numbers as its value")
    if found.dtype.kind not in "biuf" or found.size == 0:
        got = checks.shown(value)
        raise TypeError(message(who, "score", "a function with numbers as its value", got))
    return float(np.mean(found))


def _rows(at: Address, n: int) -> NDArray[np.intp]:
    """n rows of n, with replacement: a word times n, without its lower half."""
    words = reference.words(at, np.arange(n, dtype=np.uint64)).astype(np.uint64)
    return (words * np.uint64(n) >> np.uint64(32)).astype(np.intp)
