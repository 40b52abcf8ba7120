"""Linear layers whose weights are shaken: shakeout, bridgeout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI
from thinned.methods.arguments import number
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["bridgeout", "shakeout"]

KANG = Paper(
    "Kang, Li, Tao", 2018, "Shakeout: a new approach to regularized deep neural network training",
    "IEEE TPAMI 40(5), 1245-1258 (AAAI 2016; arXiv:1904.06593)",
)  # fmt: skip
NAJEEB = Paper(
    "Khan, Shah, Stavness", 2018,
    "Bridgeout: stochastic bridge regularization for deep neural networks", "arXiv:1804.08042",
)  # fmt: skip


def _layer(rng: np.random.Generator) -> tuple[Any, ...]:
    x, weight = rng.standard_normal((6, 5)), rng.standard_normal((4, 5))
    return x, np.sign(weight) * (0.2 + abs(weight))


def _product(x: Any, weight: Any, p: float, **_: Any) -> Any:
    return x @ weight.T


def _weight_of(draws: Draws, weight: Any, axes: str) -> Any:
    """The weight, of shape (outputs, inputs), checked against x."""
    if not draws.shape or (axes == "(N, inputs)" and len(draws.shape) != 2):
        got = f"an array of shape {draws.shape}"
        raise ValueError(message(draws.who, "x", f"of shape {axes}", got))
    weight = draws.alike("weight", weight)
    shape, inputs = tuple(weight.shape), draws.shape[-1]
    if shape and len(shape) != 2:
        raise ValueError(message(draws.who, "weight", f"of shape (outputs, {inputs})", shape))
    return draws.beside("weight", weight, (*shape[:1], inputs))


def _shakeout_moments(
    x: NDArray[np.float64], weight: NDArray[np.float64], p: float, c: float = 0.1, **_: Any
) -> tuple[Any, Any]:
    shaken = weight + c * np.sign(weight)
    return x @ weight.T, x**2 @ (shaken**2).T * p / (1.0 - p)


def _inputs(p: float, at: Address) -> Any:
    """Which inputs of 8 samples are kept and not reversed."""
    return Draws("shakeout", np.ones((8, 40)), p, at).keep()


@method(
    title="Shakeout",
    rank="classic",
    target="units, through the next layer's weights",
    formula="y = (x r) W' + c (x (r - 1)) sign(W)',  r = m / (1 - p),  m ~ Bernoulli(1 - p)",
    law=BERNOULLI,
    shared="outputs: one draw per sample and input",
    inference="x W'",
    moments=Moments("x W'", "sum of x_j^2 (W_ij + c sign W_ij)^2 p / (1 - p)", _shakeout_moments),
    papers=(KANG,),
    module="Shakeout",
    check=lambda who, c: number(who, "c", c, 0.0),
    picture=_inputs,
    sample=Sample(
        arrays=_layer,
        splits=(0,),
        p_one="finite",
        evaluation=_product,
        dropped=None,
        keeps_shape=False,
    ),
    note="Dropout with an L1 effect: a dropped input uses its weights' signs, reversed and scaled "
    "by c. For sparse weights, which weight decay and pruning give today.",
)
def shakeout(
    x: Any,
    weight: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    c: float = 0.1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """A linear layer that enhances or reverses each input, instead of keeping or dropping it.

    y = (x r) W' + c (x (r - 1)) sign(W)',  r = m / (1 - p),  m ~ Bernoulli(1 - p), one draw per
    sample and input: the weights of a kept input become (W + p c sign W) / (1 - p), those of a
    dropped one -c sign W. Evaluation: y = x W'.

    Parameters
    ----------
    x : array, shape (..., inputs), floating. Never modified.
    weight : array, shape (outputs, inputs), as in nn.Linear. Its sign has no gradient here.
    p : float in [0, 1]. Probability that an input is reversed, the paper's tau.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x W'.
    c : float of at least 0. The size of reversed weights; 0 is dropout before the layer.
    window : Window or None. Where x sits in a larger logical array.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind and dtype, shape (..., outputs). For p < 1, E[y] = x W' and
    Var[y_i] = sum over j of x_j^2 (W_ij + c sign W_ij)^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the weight does not fit x, or c is negative. TypeError
    if x is not floating.

    References
    ----------
    Kang, Li and Tao, 2018, IEEE TPAMI 40(5), 1245-1258; arXiv:1904.06593. The authors' code smooths
    the sign by a tanh for its gradient.
    """
    draws = Draws("shakeout", x, p, at, training, window, mirror)
    c = number(draws.who, "c", c, 0.0)
    weight = _weight_of(draws, weight, "(..., inputs)")
    xp, wide = draws.xp, draws.wide(x)
    across = xp.matrix_transpose(weight)
    if not draws.training:
        return xp.astype(xp.matmul(wide, across), x.dtype)
    keep, s = draws.keep(), draws.rate()[1]
    y = xp.matmul(draws.select(wide, keep, s), across)
    if c:
        excess = xp.where(keep, wide * (s - 1.0), -wide)
        y = y + c * xp.matmul(excess, xp.sign(across))
    return xp.astype(y, x.dtype)


def _bridgeout_moments(
    x: NDArray[np.float64], weight: NDArray[np.float64], p: float, norm: float = 2.0, **_: Any
) -> tuple[Any, Any]:
    return x @ weight.T, x**2 @ (abs(weight) ** norm).T * p / (1.0 - p)


def _bridgeout_check(who: str, norm: Any, per_batch: Any) -> None:
    number(who, "norm", norm, 0.0, above=True)
    checks.flag(who, "per_batch", per_batch)


def _connections(p: float, at: Address) -> Any:
    """Where the weights of four samples, (8, 10) each, are kept."""
    keep = Draws("bridgeout", np.ones((4, 10)), p, at).keep(shape=(4, 80))
    return keep.reshape(4, 8, 10)


@method(
    title="Bridgeout",
    rank="classic",
    target="weights",
    formula="y = x V',  V = W + |W|^(norm / 2) (m / (1 - p) - 1),  m ~ Bernoulli(1 - p)",
    law=BERNOULLI,
    shared="none: one draw per sample and weight; or samples",
    inference="x W'",
    moments=Moments("x W'", "sum of x_j^2 |W_ij|^norm p / (1 - p)", _bridgeout_moments),
    papers=(NAJEEB,),
    module="Bridgeout",
    check=_bridgeout_check,
    picture=_connections,
    sample=Sample(
        arrays=_layer,
        options={"norm": 1.5},
        independent=None,
        p_one="finite",
        evaluation=_product,
        dropped=None,
        keeps_shape=False,
    ),
    note="Noise that is equivalent in expectation to an L_q penalty, for any q: between dropout "
    "(2) and sparse weights (1). It needs one weight matrix per sample; for small layers and for "
    "study.",
)
def bridgeout(
    x: Any,
    weight: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    norm: float = 2.0,
    per_batch: bool = False,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """A linear layer with noise on its weights, proportional to a power of their magnitude.

    y = x V',  V = W + |W|^(norm / 2) (m / (1 - p) - 1),  m ~ Bernoulli(1 - p), one draw per sample
    and weight; evaluation: y = x W'.

    Parameters
    ----------
    x : array, shape (N, inputs), floating. Never modified.
    weight : array, shape (outputs, inputs), as in nn.Linear. For norm below 2 the gradient of a
        weight of exactly 0 is not finite.
    p : float in [0, 1]. Probability that a weight's noise is at its lower end, -|W|^(norm / 2).
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x W'.
    norm : float above 0. The paper's q: the expected loss gains an L_q penalty on the weights. At
        2, positive weights are kept and scaled, or dropped, as in DropConnect.
    per_batch : bool. One draw for all samples, which saves the memory of one weight matrix each.
    window : Window or None. Where x sits in a larger logical array; it may split only the
        first axis.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind and dtype, shape (N, outputs). For p < 1, E[y] = x W' and
    Var[y_i] = sum over j of x_j^2 |W_ij|^norm p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x is not of shape (N, inputs), the weight does not fit
    it, norm is not above 0, or the window splits the inputs. TypeError if x is not floating.

    References
    ----------
    Khan, Shah and Stavness, 2018, arXiv:1804.08042.
    """
    draws = Draws("bridgeout", x, p, at, training, window, mirror)
    norm = number(draws.who, "norm", norm, 0.0, above=True)
    per_batch = checks.flag(draws.who, "per_batch", per_batch)
    weight = _weight_of(draws, weight, "(N, inputs)")
    draws.require_whole(1)
    xp, wide = draws.xp, draws.wide(x)
    if not draws.training:
        return xp.astype(xp.matmul(wide, xp.matrix_transpose(weight)), x.dtype)
    (n, inputs), outputs = draws.shape, weight.shape[0]
    keep = draws.keep(shared_axes=(0,) if per_batch else (), shape=(n, outputs * inputs))
    keep = xp.reshape(keep, (1 if per_batch else n, outputs, inputs))
    size = xp.abs(weight) ** (0.5 * norm)
    moved = weight + xp.where(keep, (draws.rate()[1] - 1.0) * size, -size)
    if per_batch:
        y = xp.matmul(wide, xp.matrix_transpose(moved[0, ...]))
    else:
        y = xp.matmul(moved, wide[:, :, None])[..., 0]
    return xp.astype(y, x.dtype)
