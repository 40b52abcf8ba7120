"""Variational dropout: Gaussian noise on weights, drawn where it is cheap: on what they add up to.

The sum of independent normal terms is normal. So a mask per example and weight, which could not
hold, becomes one draw per example and output (the local reparametrisation).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.laws import Law
from thinned.methods.arguments import number, parameter, require_broadcast, typed
from thinned.methods.concrete import sigmoid
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.methods.weights import require_layer
from thinned.window import Window

__all__ = [
    "log_alpha_of",
    "sparse_variational_dropout",
    "variational_dropout",
    "variational_kl",
    "with_variance",
]

KINGMA = Paper(
    "Kingma, Salimans, Welling", 2015,
    "Variational dropout and the local reparameterization trick", "arXiv:1506.02557",
)  # fmt: skip
MOLCHANOV = Paper(
    "Molchanov, Ashukha, Vetrov", 2017, "Variational dropout sparsifies deep neural networks",
    "arXiv:1701.05369",
)  # fmt: skip
ADDITIVE = Law("Gaussian, learned", "N(1, alpha),  alpha learned", has_one=False)
# The fit of the second paper to the KL divergence from the log-uniform prior.
K1, K2, K3 = 0.63576, 1.87320, 1.48695
# Of the authors' code: weights of size 0 have an alpha too.
TINY = 1e-8


def _moments(x: Any, weight: Any, log_alpha: Any, bias: Any = 0.0, **_: Any) -> tuple[Any, Any]:
    return x @ weight.T + bias, x**2 @ (np.exp(log_alpha) * weight**2).T


def _sparse_moments(
    x: Any, weight: Any, log_sigma2: Any, bias: Any = 0.0, **_: Any
) -> tuple[Any, Any]:
    return x @ weight.T + bias, x**2 @ np.exp(log_sigma2).T


def _layer(rng: np.random.Generator) -> tuple[Any, ...]:
    return tuple(rng.standard_normal(shape) for shape in ((6, 5), (4, 5), (4, 5)))


def _quiet(x: Any, weight: Any, log_alpha: Any, p: Any) -> Any:
    return x @ weight.T


def _pruned(x: Any, weight: Any, log_sigma2: Any, p: Any, threshold: float = 3.0) -> Any:
    return x @ np.where(log_alpha_of(np, weight, log_sigma2) > threshold, 0.0, weight).T


@method(
    title="Variational dropout",
    rank="second",
    target="weights",
    formula="y ~ N(W x + b, (alpha W^2) x^2),  alpha learned",
    law=ADDITIVE,
    shared="none: one draw per example and output",
    scale="1: the noise has mean 1",
    inference="W x + b, without noise",
    moments=Moments("W x + b", "(alpha W^2) x^2", _moments),
    papers=(KINGMA, MOLCHANOV),
    module="VariationalLinear",
    sample=Sample(
        arrays=_layer,
        independent=None,
        splits=(0,),
        evaluation=_quiet,
        linear=False,
        dropped=None,
        keeps_shape=False,
    ),
    note="Gaussian dropout whose variance alpha = p / (1 - p) is learned, per layer or per "
    "weight. The sparse form has largely replaced it.",
)
def variational_dropout(
    x: Any,
    weight: Any,
    log_alpha: Any,
    at: Address,
    training: bool = True,
    *,
    bias: Any = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """A linear layer with multiplicative Gaussian noise on its weights, of learned variance.

    y = W x + b + z sqrt((alpha W^2) x^2),  z ~ N(0, 1), one draw per example and output.

    Parameters
    ----------
    x : array, shape (..., in), floating. Never modified.
    weight : array, shape (out, in).
    log_alpha : array that broadcasts to weight's shape. ln alpha; alpha = p / (1 - p) has the noise
        of dropout at p.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw.
    training : bool. False gives W x + b.
    bias : array, shape (out,), or None. Without noise.
    window, mirror : as in `thinned.dropout`; the window is x's, and must hold whole rows.

    Returns
    -------
    array of x's kind and dtype, shape (..., out). E[y] = W x + b; Var[y] = (alpha W^2) x^2.

    Raises
    ------
    ValueError if shapes do not fit, or a window splits the last axis. TypeError if x is not
    floating, or another array is none of its library.

    References
    ----------
    Kingma et al., 2015, arXiv:1506.02557, who hold alpha below 1; `variational_kl` needs no such
    bound.
    """
    draws = Draws("variational_dropout", x, NO_P, at, training, window, mirror)
    require_layer(draws, weight, bias)
    log_alpha = draws.alike("log_alpha", log_alpha)
    require_broadcast(draws.who, "log_alpha", log_alpha, "weight", weight)
    xp, w = draws.xp, draws.wide(weight)
    mean = _linear(draws, x, w, bias)
    if not draws.training:
        return xp.astype(mean, x.dtype)
    spread = xp.exp(draws.wide(log_alpha)) * w * w
    return with_variance(draws, mean, _linear(draws, x, spread, None, squared=True), x.dtype)


@method(
    title="Sparse variational dropout",
    rank="second",
    target="weights",
    formula="y ~ N(W x + b, S x^2),  S learned, one per weight;  evaluation: weights with "
    "ln alpha = ln(S / W^2) > 3 are 0",
    law=ADDITIVE,
    shared="none: one draw per example and output",
    scale="1: the noise has mean 1",
    inference="weights with ln alpha above the threshold are pruned",
    moments=Moments("W x + b", "S x^2", _sparse_moments),
    papers=(MOLCHANOV,),
    module="SparseVariationalLinear",
    in_torch=("SparseVariationalConv2d",),
    check=lambda who, bias, threshold: number(who, "threshold", threshold),
    sample=Sample(
        arrays=_layer,
        options={"threshold": 0.5},
        independent=None,
        splits=(0,),
        evaluation=_pruned,
        linear=False,
        dropped=None,
        keeps_shape=False,
    ),
    note="Prunes 90 % and more of the weights of small networks. Increase the weight of its KL "
    "term from 0 over the first epochs; otherwise it prunes before anything is learned.",
)
def sparse_variational_dropout(
    x: Any,
    weight: Any,
    log_sigma2: Any,
    at: Address,
    training: bool = True,
    *,
    bias: Any = None,
    threshold: float = 3.0,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """A linear layer with Gaussian noise on its weights; evaluation prunes the noisiest.

    y = W x + b + z sqrt(S x^2),  z ~ N(0, 1), one draw per example and output. The variance S, not
    alpha = S / W^2, is the parameter, so the gradient of W has no noise from it.

    Parameters
    ----------
    x : array, shape (..., in), floating. Never modified.
    weight : array, shape (out, in).
    log_sigma2 : array of weight's shape. ln S.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw.
    training : bool. False gives W x + b with the weights above the threshold set to 0.
    bias : array, shape (out,), or None. Without noise.
    threshold : float, finite. Of ln alpha; the paper's 3 is p = .95.
    window, mirror : as in `thinned.dropout`; the window is x's, and must hold whole rows.

    Returns
    -------
    array of x's kind and dtype, shape (..., out). E[y] = W x + b; Var[y] = S x^2.

    Raises
    ------
    ValueError if shapes do not fit, a window splits the last axis, or threshold is not finite.
    TypeError if x is not floating, or another array is none of its library.

    References
    ----------
    Molchanov et al., 2017, arXiv:1701.05369.
    """
    draws = Draws("sparse_variational_dropout", x, NO_P, at, training, window, mirror)
    require_layer(draws, weight, bias)
    log_sigma2 = draws.alike("log_sigma2", log_sigma2)
    threshold = number(draws.who, "threshold", threshold)
    if tuple(log_sigma2.shape) != tuple(weight.shape):
        got = tuple(log_sigma2.shape)
        needed = f"of weight's shape {tuple(weight.shape)}"
        raise ValueError(message(draws.who, "log_sigma2", needed, got))
    xp, w = draws.xp, draws.wide(weight)
    log_s = draws.wide(log_sigma2)
    if not draws.training:
        noisy = log_alpha_of(xp, w, log_s) > threshold
        return xp.astype(_linear(draws, x, xp.where(noisy, xp.zeros_like(w), w), bias), x.dtype)
    variance = _linear(draws, x, xp.exp(log_s), None, squared=True)
    return with_variance(draws, _linear(draws, x, w, bias), variance, x.dtype)


@answering
def variational_kl(log_alpha: Any) -> Any:
    """KL divergence of N(w, alpha w^2) from the log-uniform prior, added up over weights, in nats.

    KL = -(.63576 sigmoid(1.87320 + 1.48695 ln alpha) - .5 ln(1 + 1 / alpha) - .63576): to within
    .01 the true one, up to a constant, which is set so that KL goes to 0 as alpha grows. It is
    above 0 and falls all the way: weights cost, and noise saves.

    Parameters
    ----------
    log_alpha : array, floating. ln alpha of each weight.

    Returns
    -------
    0-d array (NumPy: a scalar). Add it to the negative log-likelihood of all the data, or, divided
    by the number of examples, to its mean.

    Raises
    ------
    TypeError if log_alpha is no array.

    References
    ----------
    Molchanov et al., 2017, arXiv:1701.05369, equation 14.
    """
    xp, log_alpha, dtype = parameter("variational_kl", "log_alpha", log_alpha)
    # ln(1 + 1 / alpha) in the form that does not overflow where alpha is next to nothing.
    zero = xp.zeros_like(log_alpha)
    tail = xp.log1p(xp.exp(-xp.abs(log_alpha))) + xp.where(log_alpha < 0, -log_alpha, zero)
    kl = K1 * (1.0 - sigmoid(xp, K2 + K3 * log_alpha)) + 0.5 * tail
    return typed(xp, xp.sum(kl), dtype)


def log_alpha_of(xp: Any, weight: Any, log_sigma2: Any) -> Any:
    """ln alpha = ln(S / W^2)."""
    return log_sigma2 - xp.log(weight * weight + TINY)


def with_variance(draws: Draws, mean: Any, variance: Any, dtype: Any) -> Any:
    """mean + z sqrt(variance) of x's type; z of mean's shape, which splits as x does on its first
    axis alone."""
    xp = draws.xp
    draws.require_whole(*range(min(1, len(draws.shape) - 1), len(draws.shape)))
    z = xp.astype(draws.gaussian(shape=tuple(mean.shape)), mean.dtype)
    # The root of 0 has no derivative, and its gradient would be NaN.
    varies = variance > 0
    std = xp.sqrt(xp.where(varies, variance, xp.ones_like(variance)))
    return xp.astype(mean + xp.where(varies, std, xp.zeros_like(std)) * z, dtype)


def _linear(draws: Draws, x: Any, w: Any, bias: Any, squared: bool = False) -> Any:
    xp, wide = draws.xp, draws.wide(x)
    y = xp.matmul(wide * wide if squared else wide, xp.permute_dims(w, (1, 0)))
    return y if bias is None else y + draws.wide(bias)
