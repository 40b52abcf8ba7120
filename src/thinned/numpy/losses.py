"""Losses: each returns its value and, beside it, the gradient that the backward pass starts from.

Both are means over the N rows of a batch, so a gradient's size does not depend on the batch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.backends.numpy import as_array
from thinned.checks import message
from thinned.numpy.settings import floats

__all__ = ["sigmoid_cross_entropy", "softmax", "softmax_cross_entropy", "squared_error"]

Array = NDArray[Any]


def softmax(scores: Array) -> Array:
    """Turn each row of scores into probabilities: exp(s_ij) over the row's sum of exp(s_ik).

    Parameters
    ----------
    scores : array, shape (N, C), floating.

    Returns
    -------
    array of the same shape and type; each row sums to 1. Large scores do not overflow: the row's
    maximum is taken off first, which cancels in the quotient.
    """
    scores = floats("softmax", "scores", scores)
    if scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(message("softmax", "scores", "of shape (N, C) with C >= 1", scores.shape))
    y: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return y


def softmax_cross_entropy(
    scores: Array, labels: Array, weights: Array | None = None
) -> tuple[float, Array]:
    """How surprised softmax(scores) is by the labels, and the gradient with respect to the scores.

    L = -1/N sum_i ln softmax(scores)_i,label_i  (in nats);    dL/dscores = (softmax - one_hot) / N.

    Parameters
    ----------
    scores : array, shape (N, C), floating, N >= 1. Any real numbers; not yet probabilities.
    labels : array of integers in [0, C), shape (N,).
    weights : floating array, shape (N,), or None for 1 everywhere. What each row's part of the sum
        is multiplied by; the sum is divided by N all the same.

    Returns
    -------
    (loss, gradient) : float in nats, >= 0, and an array of scores' shape.

    Raises
    ------
    ValueError if the shapes disagree, the batch is empty or a label is outside [0, C). TypeError if
    labels are not integers.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = softmax_cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 4), gradient
    (0.6931, array([[-0.5,  0.5]]))
    """
    labels = as_array("softmax_cross_entropy", "labels", labels, "an array of integers")
    scores = _rows("softmax_cross_entropy", "scores", scores)
    n, classes = scores.shape
    if labels.shape != (n,):
        raise ValueError(
            message("softmax_cross_entropy", "labels", f"of shape ({n},)", labels.shape)
        )
    if labels.dtype.kind not in "iu":
        got = f"{labels.dtype.name}"
        raise TypeError(message("softmax_cross_entropy", "labels", "integers", got))
    if labels.min() < 0 or labels.max() >= classes:
        got = f"[{labels.min()}, {labels.max()}]"
        raise ValueError(
            message("softmax_cross_entropy", "labels", f"integers in [0, {classes})", got)
        )
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(n)
    losses = np.log(total[:, 0]) - shifted[rows, labels]
    gradient: Array = exponentials / total
    gradient[rows, labels] -= 1
    gradient /= n
    if weights is not None:
        losses, gradient = _weighted("softmax_cross_entropy", losses, gradient, weights)
    return float(losses.mean()), gradient


def sigmoid_cross_entropy(
    scores: Array, labels: Array, weights: Array | None = None
) -> tuple[float, Array]:
    """How surprised K sigmoids are by K labels that each are there or not, and the gradient.

    L = -1/N sum_ik [y_ik ln s(z_ik) + (1 - y_ik) ln (1 - s(z_ik))], s(z) = 1 / (1 + exp(-z)), in
    nats;    dL/dz = (s(z) - y) / N.

    Parameters
    ----------
    scores : array, shape (N, K), floating, N >= 1. Any real numbers; not yet probabilities.
    labels : array of 0 and 1, of scores' shape.
    weights : as in `softmax_cross_entropy`.

    Returns
    -------
    (loss, gradient) : float in nats, >= 0, and an array of scores' shape. Over the K labels the
    loss is a sum.

    Raises
    ------
    ValueError if the shapes disagree, the batch is empty or a label is neither 0 nor 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = sigmoid_cross_entropy(np.zeros((1, 2)), np.array([[1, 0]]))
    >>> round(loss, 4), gradient
    (1.3863, array([[-0.5,  0.5]]))
    """
    who = "sigmoid_cross_entropy"
    scores = _rows(who, "scores", scores)
    labels = as_array(who, "labels", labels, "an array of 0 and 1")
    if labels.shape != scores.shape:
        raise ValueError(message(who, "labels", f"of shape {scores.shape}", labels.shape))
    if labels.dtype.kind not in "biuf" or not ((labels == 0) | (labels == 1)).all():
        raise ValueError(message(who, "labels", "0 or 1", "something else"))
    y = labels.astype(scores.dtype)
    small = np.exp(-np.abs(scores))  # never overflows
    losses = (np.maximum(scores, 0) - scores * y + np.log1p(small)).sum(axis=1)
    gradient: Array = (np.where(scores >= 0, 1, small) / (1 + small) - y) / len(scores)
    if weights is not None:
        losses, gradient = _weighted(who, losses, gradient, weights)
    return float(losses.mean()), gradient


def squared_error(
    prediction: Array, target: Array, weights: Array | None = None
) -> tuple[float, Array]:
    """Half the squared distance between prediction and target, and its gradient.

    L = 1/(2N) sum_i |prediction_i - target_i|^2;    dL/dprediction = (prediction - target) / N.

    Parameters
    ----------
    prediction : array, shape (N, K), floating, N >= 1.
    target : array of the same shape.
    weights : as in `softmax_cross_entropy`.

    Returns
    -------
    (loss, gradient) : float in the target's unit squared, and an array of prediction's shape. Over
    the K outputs the loss is a sum, not a mean.

    Raises
    ------
    ValueError if the shapes disagree ((N,) against (N, 1) too: they would broadcast to (N, N)), or
    the batch is empty.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = squared_error(np.array([[3.0]]), np.array([[1.0]]))
    >>> loss, gradient
    (2.0, array([[2.]]))
    """
    prediction = _rows("squared_error", "prediction", prediction)
    target = as_array("squared_error", "target", target, "an array of real numbers")
    if target.dtype.kind not in "biuf":
        raise TypeError(message("squared_error", "target", "of real numbers", target.dtype.name))
    if target.shape != prediction.shape:
        requirement = f"of the prediction's shape {prediction.shape}"
        remedy = "Use target.reshape(-1, 1) for one output." if target.ndim == 1 else ""
        raise ValueError(message("squared_error", "target", requirement, target.shape, remedy))
    n = len(prediction)
    error = prediction - target
    if weights is None:
        return float((error * error).sum() / (2 * n)), error / n
    losses = (error * error).sum(axis=1) / 2
    losses, gradient = _weighted("squared_error", losses, error / n, weights)
    return float(losses.mean()), gradient


def _weighted(who: str, losses: Array, gradient: Array, weights: Array) -> tuple[Array, Array]:
    """Each row's loss and gradient times its weight, in the gradient's type."""
    weights = floats(who, "weights", weights)
    if weights.shape != losses.shape:
        raise ValueError(message(who, "weights", f"of shape {losses.shape}", weights.shape))
    weights = weights.astype(gradient.dtype, copy=False)
    return losses * weights, gradient * weights[:, None]


def _rows(who: str, name: str, rows: Array) -> Array:
    rows = floats(who, name, rows)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(message(who, name, "of shape (N, outputs) with N >= 1", rows.shape))
    return rows
