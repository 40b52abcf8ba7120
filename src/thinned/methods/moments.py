"""Dropout without a draw: what a layer's outputs are on average, and how they vary (fast dropout).

A sum of many dropped inputs is nearly Gaussian; its mean and variance say all of it.
"""

from __future__ import annotations

import math
from typing import Any

from thinned import checks
from thinned.backends import Backend, backend_of
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.laws import PLAIN_BERNOULLI
from thinned.methods.arguments import (
    anywhere,
    of_one_type,
    require_alike,
    require_broadcast,
    typed,
    wide,
)
from thinned.methods.table import Moments, Paper, method

__all__ = ["expected_relu", "expected_sigmoid", "fast_dropout_moments"]

WANG = Paper("Wang, Manning", 2013, "Fast dropout training", "ICML 2013, PMLR 28(2), 118-126")


def _alike(who: str, **named: Any) -> tuple[Backend, list[Any]]:
    """The backend of arrays of one library, and the arrays as its functions take them, all in one
    type: the first one's, which is floating, unless another is wider."""
    (first, x), *others = named.items()
    backend = backend_of(who, x, first)
    backend.require_floating(who, x, first)
    arrays = [backend.plain(x), *(require_alike(who, name, a, first, x) for name, a in others)]
    return backend, of_one_type(backend.namespace, *arrays)


def _require_variance(who: str, backend: Backend, variance: Any) -> None:
    if anywhere(backend, variance, condition=lambda v: v < 0.0):
        remedy = "Rounding may have made it so: clip it at 0."
        got = float(backend.namespace.min(variance))
        raise ValueError(message(who, "variance", "0 or more everywhere", got, remedy))


@method(
    title="Fast dropout",
    rank="second",
    target="units, by their moments",
    formula="s = W (x m) + b:  E[s] = (1 - p) W x + b,  Var[s_i] = p (1 - p) sum_j W_ij^2 x_j^2",
    law=PLAIN_BERNOULLI,
    scale="1, or 1 / (1 - p) with inverted=True",
    inference="the same moments with p = 0",
    shared="",
    fill="",
    moments=Moments("(1 - p) W x + b", "p (1 - p) sum_j W_ij^2 x_j^2"),
    papers=(WANG,),
    apart="It draws nothing, and returns the moments themselves.",
    note="For linear and shallow models, in place of thousands of draws. In deep networks it "
    "neglects covariances, and sampling is more accurate.",
)
def fast_dropout_moments(
    x: Any,
    weight: Any,
    bias: Any = None,
    p: float = 0.5,
    *,
    variance: Any = None,
    inverted: bool = False,
) -> tuple[Any, Any]:
    """Mean and variance, over all masks, of a linear layer whose inputs are dropped.

    s = W (x m) + b,  m ~ Bernoulli(1 - p):
    E[s_i] = (1 - p) sum_j W_ij x_j + b_i,   Var[s_i] = p (1 - p) sum_j W_ij^2 x_j^2.

    Independent random inputs with variance v_j add (1 - p) sum_j W_ij^2 v_j. This propagates the
    moments of one layer through the next.

    Parameters
    ----------
    x : array, shape (..., inputs), floating: the inputs, or their means.
    weight : array, shape (outputs, inputs). W, as PyTorch's layers keep it.
    bias : array, shape (outputs,), or None. b.
    p : float in [0, 1]. Probability of dropping an input.
    variance : array of x's shape, or None. The inputs' variances v; None for zero.
    inverted : bool. True for inputs that are scaled by 1 / (1 - p) when kept: the mean is then
        W x + b for p < 1, and the variance that above over (1 - p)^2. The paper's has no scale.

    Returns
    -------
    (mean, variance) : arrays, shape (..., outputs), of x's kind; exact for any x. Only a
    Gaussian s is an approximation, which improves with the number of inputs.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or the shapes do not fit. TypeError if x is not
    floating, or the arrays are of several kinds.

    References
    ----------
    Wang and Manning, 2013, PMLR 28(2), 118-126.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.fast_dropout_moments(np.array([1.0, 2.0]), np.array([[3.0, 1.0]]), p=0.5)
    (array([2.5]), array([3.25]))
    """
    who = "fast_dropout_moments"
    p = checks.probability(who, p)
    inverted = checks.flag(who, "inverted", inverted)
    named = {"bias": bias, "variance": variance}
    given = {name: array for name, array in named.items() if array is not None}
    backend, (x, weight, *rest) = _alike(who, x=x, weight=weight, **given)
    known = dict(zip(given, rest, strict=True))
    bias, variance = known.get("bias"), known.get("variance")
    shape = tuple(weight.shape)
    if len(shape) != 2 or not x.shape or x.shape[-1] != shape[1]:
        got = f"{shape} for x of shape {tuple(x.shape)}"
        raise ValueError(message(who, "weight", "of shape (outputs, inputs)", got))
    if bias is not None and tuple(bias.shape) != shape[:1]:
        raise ValueError(message(who, "bias", f"of shape {shape[:1]}", tuple(bias.shape)))
    if variance is not None and tuple(variance.shape) != tuple(x.shape):
        wanted = f"of x's shape {tuple(x.shape)}"
        raise ValueError(message(who, "variance", wanted, tuple(variance.shape)))
    q = 1.0 - p
    spread = x * x * (p * q)
    if variance is not None:
        spread = spread + variance * q
    scale = 1.0 / q if inverted and q > 0.0 else 1.0
    mean = (x * (q * scale)) @ weight.T
    if bias is not None:
        mean = mean + bias
    moments = mean, (spread * scale**2) @ (weight * weight).T
    return backend.typed_product(moments[0], x.dtype), backend.typed_product(moments[1], x.dtype)


@answering
def expected_sigmoid(mean: Any, variance: Any) -> Any:
    """The mean of a logistic unit whose input is Gaussian: nearly sigmoid(mean / sqrt(...)).

    E[sigmoid(s)] = sigmoid(mean / sqrt(1 + pi variance / 8)), nearly, for s ~ N(mean, variance).

    Parameters
    ----------
    mean : array, any shape, floating.
    variance : array of its kind, 0 or more, that broadcasts to it.

    Returns
    -------
    array of mean's kind in (0, 1). Exact where variance or mean is 0; else within 0.02 of the mean
    (the worst found on a grid of means to 20 and variances to 1000).

    Raises
    ------
    ValueError if a variance is negative; a compiled program, which cannot look, gives NaN there.
    TypeError if mean is not floating, or the two are of different kinds.

    References
    ----------
    Wang and Manning, 2013, PMLR 28(2), 118-126, after MacKay, 1992, Neural Computation 4, 720-736.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.expected_sigmoid(np.array([2.0, 2.0]), np.array([0.0, 4.0])).round(4)
    array([0.8808, 0.7768])
    """
    who = "expected_sigmoid"
    backend, (mean, variance) = _alike(who, mean=mean, variance=variance)
    require_broadcast(who, "variance", variance, "mean", mean)
    _require_variance(who, backend, variance)
    m, v = wide(backend, mean), wide(backend, variance)
    # By tanh, which overflows nowhere.
    y = 0.5 + 0.5 * backend.namespace.tanh(0.5 * m / (1.0 + math.pi / 8.0 * v) ** 0.5)
    return typed(backend.namespace, y, mean.dtype)


@answering
def expected_relu(mean: Any, variance: Any) -> tuple[Any, Any]:
    """Mean and variance of a rectified unit whose input is Gaussian.

    For s ~ N(mean, variance), sd its standard deviation, a = mean / sd, Phi and phi the normal
    distribution and density:
    E[max(0, s)] = mean Phi(a) + sd phi(a),
    E[max(0, s)^2] = (mean^2 + variance) Phi(a) + mean sd phi(a).

    Parameters
    ----------
    mean : array, any shape, floating.
    variance : array of its kind, 0 or more, that broadcasts to it.

    Returns
    -------
    (mean, variance) : arrays of mean's kind, both 0 or more; exact for a Gaussian input, and
    max(0, mean) and 0 where variance is 0.

    Raises
    ------
    ValueError if a variance is negative; a compiled program, which cannot look, gives NaN there.
    TypeError if mean is not floating, or the two are of different kinds. ImportError for NumPy
    arrays where SciPy, which has Phi, is not installed.

    References
    ----------
    Wang and Manning, 2013, PMLR 28(2), 118-126.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> mean, variance = thinned.expected_relu(np.array([0.0]), np.array([1.0]))
    >>> mean.round(4), variance.round(4)
    (array([0.3989]), array([0.3408]))
    """
    who = "expected_relu"
    backend, (mean, variance) = _alike(who, mean=mean, variance=variance)
    require_broadcast(who, "variance", variance, "mean", mean)
    _require_variance(who, backend, variance)
    xp, dtype = backend.namespace, mean.dtype
    mean, variance = wide(backend, mean), wide(backend, variance)
    certain = variance == 0.0
    # 1 stands in for a deviation of 0, so that neither the values nor a gradient divide by it.
    deviation = xp.where(certain, xp.ones_like(variance), variance) ** 0.5
    a = mean / deviation
    below = backend.normal_cdf(a)
    density = xp.exp(-0.5 * a * a) * (2.0 * math.pi) ** -0.5
    first = mean * below + deviation * density
    # The variance in units of the input's: of terms that are all of order 1.
    unit = a * below + density
    second = (a * a + 1.0) * below + a * density - unit * unit
    rectified = xp.where(mean > 0.0, mean, 0.0 * mean)
    spread = xp.where(second > 0.0, second, 0.0 * second) * deviation * deviation
    moments = xp.where(certain, rectified, first), xp.where(certain, 0.0 * spread, spread)
    return typed(xp, moments[0], dtype), typed(xp, moments[1], dtype)
