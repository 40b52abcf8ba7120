"""Temperature scaling: one number that makes logits less sure, or surer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.calibration.arguments import Array, classes, floats

__all__ = ["fit_temperature", "scale_by_temperature"]

# ln T is looked for here: temperatures from 1/400 to 400.
_WIDEST = 6.0


def _logits(who: str, logits: ArrayLike) -> Array:
    z = floats(who, "logits", logits)
    if z.ndim == 1:  # as torch's and scikit-learn's: the logit of class 1
        z = np.stack([np.zeros_like(z), z], axis=1)
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(message(who, "logits", "of shape (N, C) or (N,)", z.shape))
    return z


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    found: Array = e / e.sum(1, keepdims=True)
    return found


@answering
def scale_by_temperature(logits: ArrayLike, temperature: float) -> Array:
    """Probabilities of logits divided by a temperature: softmax(logits / T).

    Parameters
    ----------
    logits : (N, C); or (N,), of class 1. The logarithm of probabilities is as good: what members'
        mean probabilities have in place of logits.
    temperature : float > 0. Above 1 less sure, below 1 surer. The most probable class stays.

    Returns
    -------
    (N, C) array of rows of sum 1.

    Raises
    ------
    ValueError for another shape, NaN, or a temperature that is not positive.

    Examples
    --------
    >>> from thinned.members.calibration import scale_by_temperature
    >>> scale_by_temperature([[2.0, 0.0]], 2.0).round(3)
    array([[0.731, 0.269]])
    """
    who = "scale_by_temperature"
    t = checks.real(who, "temperature", temperature, "a positive number")
    if not 0.0 < t < math.inf:
        raise ValueError(message(who, "temperature", "a positive number", t))
    return _softmax(_logits(who, logits) / t)


@answering
def fit_temperature(logits: ArrayLike, labels: Any) -> float:
    """The temperature of the smallest negative log-likelihood on rows that were not trained on.

    Parameters
    ----------
    logits : (N, C); or (N,), of class 1.
    labels : (N,) integers in [0, C).

    Returns
    -------
    float > 0, for `scale_by_temperature`. 400 or 1/400 where the likelihood has no minimum in
    between: of rows that are all right, or whose logits say nothing.

    Raises
    ------
    ValueError, TypeError as `reliability`.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, 2017, arXiv:1706.04599.
    """
    who = "fit_temperature"
    z = _logits(who, logits)
    _, y = classes(who, _softmax(z), labels)
    z = z - z.max(1, keepdims=True)
    true = z[np.arange(len(y)), y]

    def slope(log_t: float) -> float:
        """The derivative of the likelihood by 1 / T: it falls with 1 / T, and so rises with T."""
        p = _softmax(z * math.exp(-log_t))
        return float((true - (p * z).sum(1)).mean())

    low, high = -_WIDEST, _WIDEST
    # The likelihood is concave in 1 / T: there is one place where its slope is 0.
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (low, middle) if slope(middle) >= 0.0 else (middle, high)
    return math.exp((low + high) / 2.0)
