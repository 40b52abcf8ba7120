"""L0 regularisation by hard concrete gates: weights that learn whether they are there at all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.foreign_arguments import answering
from thinned.laws import Law
from thinned.methods.arguments import parameter, positive, require_axes, require_broadcast, typed
from thinned.methods.concrete import over_uniform, sigmoid
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["expected_l0", "hard_concrete"]

LOUIZOS = Paper(
    "Louizos, Welling, Kingma", 2018,
    "Learning sparse neural networks through L0 regularization", "arXiv:1712.01312",
)  # fmt: skip
HARD = Law(
    "hard concrete",
    "min(1, max(0, 1.2 s - .1)),  s = sigmoid((logit u + ln alpha) / t),  u ~ U(0, 1)",
)
# The interval (GAMMA, ZETA) over which the gate is stretched before it is clamped.
GAMMA, ZETA = -0.1, 1.1


def _check(who: str, temperature: Any, shared_axes: Any) -> None:
    positive(who, "temperature", temperature)
    require_axes(who, shared_axes)


def _gate(s: Any) -> Any:
    return np.clip(s * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def _moments(
    x: Any, log_alpha: Any, p: Any = None, temperature: float = 2 / 3, **_: Any
) -> tuple[Any, Any]:
    parts = []
    for a in log_alpha.reshape(-1):

        def z(u: Any, a: float = a) -> Any:
            return _gate(sigmoid(np, (np.log(u / (1.0 - u)) + a) / temperature))

        parts.append(over_uniform(z, 1.0))
    mean, variance = np.array(parts).T.reshape(2, *log_alpha.shape)
    return x * mean, x**2 * variance


def _sample(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.standard_normal((6, 5)), rng.standard_normal((1, 5))


@method(
    title="L0 regularisation by hard concrete gates",
    rank="second",
    target="weights",
    formula="y = x z,  z = min(1, max(0, 1.2 s - .1)),  s = sigmoid((logit u + ln alpha) / t),  "
    "u ~ U(0, 1)",
    law=HARD,
    shared="by log_alpha's shape and shared_axes: a gate for each weight, input or channel",
    scale="1",
    inference="z = min(1, max(0, 1.2 sigmoid(ln alpha) - .1)), without a draw",
    papers=(LOUIZOS,),
    aliases={"L0_regularization (the authors')": ("L0Dense", "L0Conv2d")},
    moments=Moments(
        "x E[z], an integral over u",
        "x^2 Var[z];  P(z = 0) = sigmoid(t ln(.1 / 1.1) - ln alpha)",
        _moments,
    ),
    module="L0Linear",
    in_torch=("HardConcrete",),
    check=_check,
    sample=Sample(
        arrays=_sample,
        independent=(0, 1),
        splits=(0, 1),
        dropped=None,
        evaluation=lambda x, log_alpha, p: x * _gate(sigmoid(np, log_alpha)),
    ),
    takes=("complex",),
    note="Gates that are exactly 0 or 1 with a learned probability, so that whole inputs, heads "
    "or channels can be pruned. Sensitive to the weight of its penalty.",
)
def hard_concrete(
    x: Any,
    log_alpha: Any,
    at: Address,
    training: bool = True,
    *,
    temperature: float = 2 / 3,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Multiply by hard concrete gates, differentiable in their log_alpha.

    y = x z,  z = min(1, max(0, 1.2 s - .1)),  s = sigmoid((logit u + ln alpha) / t),  u ~ U(0, 1).

    Parameters
    ----------
    x : array, any shape, floating: weights, or activations. Never modified.
    log_alpha : array that broadcasts to x's shape. ln alpha of each gate.
    at : Address. Equal addresses give equal u on every backend.
    training : bool. False takes z = min(1, max(0, 1.2 sigmoid(ln alpha) - .1)).
    temperature : float > 0. t; the paper's 2/3.
    shared_axes : int or tuple of ints. Axes along which one draw is shared.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. P(z = 0) = sigmoid(t ln(.1 / 1.1) - ln alpha); a closed gate
    gives 0, for NaN and infinity too.

    Raises
    ------
    ValueError if log_alpha does not broadcast to x's shape, temperature is not positive, or an axis
    does not exist. TypeError if x is not floating, or log_alpha no array of its library.

    References
    ----------
    Louizos et al., 2018, arXiv:1712.01312, equations 10, 11 and 13.
    """
    draws = Draws("hard_concrete", x, NO_P, at, training, window, mirror)
    t = positive("hard_concrete", "temperature", temperature)
    shared = checks.axes("hard_concrete", shared_axes, len(draws.shape))
    log_alpha = draws.alike("log_alpha", log_alpha)
    require_broadcast(draws.who, "log_alpha", log_alpha, "x", x)
    xp, a = draws.xp, draws.wide(log_alpha)
    if draws.training:
        u = xp.astype(draws.uniform(shared), draws.real_type)
        s = sigmoid(xp, (xp.log(u) - xp.log1p(-u) + a) / t)
    else:
        s = sigmoid(xp, a)
    z = s * (ZETA - GAMMA) + GAMMA
    z = xp.where(z > 1, xp.ones_like(z), z)
    # Both are selected before they meet, so that an infinity behind a closed gate is in neither
    # the value nor the gradient.
    closed = z <= 0
    z = xp.where(closed, xp.zeros_like(z), z)
    return draws.scaled(draws.select(x, ~closed), z)


@answering
def expected_l0(log_alpha: Any, temperature: float = 2 / 3) -> Any:
    """The expected number of gates that are not 0.

    sum of P(z > 0) = sigmoid(ln alpha - t ln(.1 / 1.1)) over gates.

    Parameters
    ----------
    log_alpha : array, floating. ln alpha of each gate.
    temperature : float > 0. t.

    Returns
    -------
    0-d array (NumPy: a scalar).

    Raises
    ------
    TypeError if log_alpha is no array. ValueError if temperature is not positive.

    References
    ----------
    Louizos et al., 2018, arXiv:1712.01312, equation 12.
    """
    t = positive("expected_l0", "temperature", temperature)
    xp, log_alpha, dtype = parameter("expected_l0", "log_alpha", log_alpha)
    return typed(xp, xp.sum(sigmoid(xp, log_alpha - t * math.log(-GAMMA / ZETA))), dtype)
