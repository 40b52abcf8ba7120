"""Concrete dropout: a smooth law whose p can be learned by gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.laws import Law
from thinned.methods.arguments import parameter, positive, require_axes, typed
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["concrete_dropout", "concrete_entropy", "over_uniform", "sigmoid"]

GAL = Paper("Gal, Hron, Kendall", 2017, "Concrete dropout", "arXiv:1705.07832")
CONCRETE = Law(
    "concrete",
    "(1 - z) / (1 - p),  z = sigmoid((logit p + logit u) / t),  u ~ U(0, 1)",
    has_one=False,
)


def _check(who: str, temperature: Any, shared_axes: Any) -> None:
    positive(who, "temperature", temperature)
    require_axes(who, shared_axes)


# Midpoints of a uniform variable, over which moments without a closed form are summed up.
_EVENLY = (np.arange(100_000) + 0.5) / 100_000


def over_uniform(z: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """Mean and variance of x z(u), u ~ U(0, 1)."""
    values = z(_EVENLY)
    return x * values.mean(), x**2 * values.var()


def _moments(x: Any, p: float, temperature: float = 0.1, **_: Any) -> tuple[Any, Any]:
    def kept(u: Any) -> Any:
        odds = np.log(u / (1.0 - u)) + math.log(p / (1.0 - p))
        return sigmoid(np, -odds / temperature) / (1.0 - p)

    return over_uniform(kept, x)


@method(
    title="Concrete dropout",
    rank="second",
    target="units",
    formula="y = x (1 - z) / (1 - p),  z = sigmoid((logit p + logit u) / t),  u ~ U(0, 1)",
    law=CONCRETE,
    moments=Moments(
        "x E[1 - z] / (1 - p), an integral over u; tends to x as t goes to 0",
        "x^2 Var[z] / (1 - p)^2; tends to x^2 p / (1 - p) as t goes to 0",
        _moments,
    ),
    check=_check,
    papers=(GAL,),
    aliases={"ConcreteDropout (the authors')": ("ConcreteDropout", "SpatialConcreteDropout")},
    module="ConcreteDropout",
    sample=Sample(independent=(0, 1), p_one="refused", dropped=None),
    takes=("complex",),
    note="For a learned p, or calibrated uncertainty without a search over p. The added noise is "
    "worthwhile for large data sets, where a search is expensive; otherwise try three values of p.",
)
def concrete_dropout(
    x: Any,
    p: Any,
    at: Address,
    training: bool = True,
    *,
    temperature: float = 0.1,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Dropout by a smooth mask, differentiable in p.

    y = x (1 - z) / (1 - p),  z = sigmoid((logit p + logit u) / t),  u ~ U(0, 1): as t goes to 0, z
    becomes 1 with probability p, else 0.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1), or a 0-d tensor, which then takes part in differentiation.
    at : Address. Equal addresses give equal u on every backend.
    training : bool. False gives x itself.
    temperature : float > 0. t; the paper's .1. Its code has 2/3 for whole channels.
    shared_axes : int or tuple of ints. Axes along which one draw is shared: (2, 3) for whole
        channels of (N, C, H, W).
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. As t goes to 0, E[y] = x and Var[y] = x^2 p / (1 - p); at
    t = .1 E[y] is x to within .002 x for p up to .5 (.012 x at .9), and the variance about .91 of
    that.

    Raises
    ------
    ValueError if p is outside [0, 1) or NaN, temperature is not positive, or an axis does not
    exist. TypeError if x is not floating.

    References
    ----------
    Gal et al., 2017, arXiv:1705.07832.
    """
    draws = Draws("concrete_dropout", x, NO_P, at, training, window, mirror)
    p = _learnable(draws, p)
    t = positive("concrete_dropout", "temperature", temperature)
    shared = checks.axes("concrete_dropout", shared_axes, len(draws.shape))
    if not draws.training or (isinstance(p, float) and p == 0.0):
        return x
    xp = draws.xp
    u = xp.astype(draws.uniform(shared), draws.real_type)
    noise = xp.log(u) - xp.log1p(-u)
    odds = math.log(p / (1.0 - p)) if isinstance(p, float) else xp.log(p) - xp.log1p(-p)
    kept = sigmoid(xp, -(noise + odds) / t)
    return draws.scaled(x, kept / (1.0 - p))


def _learnable(draws: Draws, p: Any) -> Any:
    """p checked: a float, or the 0-d tensor itself, which may require a gradient."""
    who = draws.who
    value = p if draws.backend.compiling() and hasattr(p, "shape") else draws.probability(p)
    if isinstance(value, float) and value == 1.0:
        raise ValueError(f"{who}: p must be below 1, where 1 / (1 - p) is infinite, got 1.")
    if isinstance(p, (np.generic, np.ndarray)) or not draws.backend.holds(type(p)):
        return value  # another library's is its number
    if tuple(p.shape) != ():
        raise TypeError(message(who, "p", "one number in [0, 1)", f"shape {tuple(p.shape)}"))
    return p


@answering
def concrete_entropy(p: Any) -> Any:
    """p ln p + (1 - p) ln(1 - p), in nats: minus the entropy of a dropped bit.

    Parameters
    ----------
    p : float in (0, 1), or an array of such.

    Returns
    -------
    float, or an array of p's shape. Concrete dropout's regulariser is
    weight_regularizer |w|^2 / (1 - p) + dropout_regularizer K times this, K the number of inputs.

    Raises
    ------
    ValueError if a float p is outside [0, 1] or NaN.

    References
    ----------
    Gal et al., 2017, arXiv:1705.07832, equations 3 and 4.

    Examples
    --------
    >>> from thinned.methods.concrete import concrete_entropy
    >>> round(concrete_entropy(0.5), 4)
    -0.6931
    """
    if isinstance(p, (int, float)):
        p = checks.probability("concrete_entropy", p)
        return sum(v * math.log(v) for v in (p, 1.0 - p) if v > 0.0)
    xp, p, dtype = parameter("concrete_entropy", "p", p)
    return typed(xp, p * xp.log(p) + (1.0 - p) * xp.log1p(-p), dtype)


def sigmoid(xp: Any, a: Any) -> Any:
    """1 / (1 + e^-a), which neither overflows nor loses small values."""
    e = xp.exp(-xp.abs(a))
    return xp.where(a < 0, e, xp.ones_like(e)) / (1.0 + e)
