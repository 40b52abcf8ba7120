"""Multiplicative noise of other laws: Gaussian, and uniform."""

from __future__ import annotations

from typing import Any

from thinned.address import Address
from thinned.checks import message
from thinned.laws import GAUSSIAN, UNIFORM
from thinned.methods.bernoulli import SRIVASTAVA
from thinned.methods.draws import Draws
from thinned.methods.table import INVERTED, Paper, Sample, method
from thinned.window import Window

__all__ = ["gaussian_dropout", "uniform_dropout"]

SHEN = Paper(
    "Shen, Tian, Liu, Xu, Tao", 2018, "Continuous dropout",
    "IEEE TNNLS 29(9), 3926-3937 (arXiv:1911.12675)",
)  # fmt: skip


def _std(draws: Draws) -> Any:
    """sqrt(p / (1 - p)); the law has no member at p = 1."""
    p = draws.p
    if isinstance(p, float) and p == 1.0:
        requirement = "below 1, where the noise p / (1 - p) is infinite"
        raise ValueError(message(draws.who, "p", requirement, "1"))
    return (p / (1.0 - p)) ** 0.5


@method(
    title="Gaussian dropout",
    rank="second",
    target="units",
    formula="y = x m,  m ~ N(1, p / (1 - p))",
    law=GAUSSIAN,
    scale="1: the noise has mean 1",
    moments=INVERTED,
    papers=(SRIVASTAVA,),
    aliases={"Keras": ("GaussianDropout",), "PyTorch": ()},
    module="GaussianDropout",
    sample=Sample(independent=(0, 1), p_one="refused", dropped=None),
    note="Noise with the moments of dropout but without exact zeros. The variational methods are "
    "derived from it.",
)
def gaussian_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Multiply by Gaussian noise with the mean and variance of dropout's noise.

    y = x m,  m ~ N(1, p / (1 - p)), one draw per element.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1). The dropout probability whose moments the noise has.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`; the mirrored noise is 2 - m.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1) or NaN: there is no such noise at p = 1. TypeError if x is not
    floating.

    References
    ----------
    Srivastava et al., 2014, JMLR 15, section 10.
    """
    draws = Draws("gaussian_dropout", x, p, at, training, window, mirror)
    std = _std(draws)
    if not draws.training:
        return x
    return draws.gaussian_noise(x, std)


@method(
    title="Uniform dropout",
    rank="second",
    target="units",
    formula="y = x m,  m ~ U(1 - s, 1 + s),  s = sqrt(3 p / (1 - p))",
    law=UNIFORM,
    scale="1: the noise has mean 1",
    moments=INVERTED,
    papers=(SHEN,),
    source="This library, for the interval, which gives dropout's moments. The paper proposes "
    "uniform and Gaussian masks; its code draws U(a, b) and scales by 2 / (a + b) in training.",
    module="UniformDropout",
    sample=Sample(independent=(0, 1), p_one="refused", dropped=None),
    note="Bounded noise with the moments of dropout. Above p = 1/4 it can change a sign.",
)
def uniform_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Multiply by uniform noise with the mean and variance of dropout's noise.

    y = x m,  m ~ U(1 - s, 1 + s),  s = sqrt(3 p / (1 - p)), one draw per element.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1). The dropout probability whose moments the noise has; above 1/4 some m are
        negative.
    at, training, window, mirror : as in `gaussian_dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1) or NaN. TypeError if x is not floating.

    References
    ----------
    Uniform masks: Shen et al., 2018, IEEE TNNLS 29, arXiv:1911.12675, whose code draws U(a, b) and
    scales by 2 / (a + b). The interval with dropout's moments is this library's own.
    """
    draws = Draws("uniform_dropout", x, p, at, training, window, mirror)
    spread = 3.0**0.5 * _std(draws)
    if not draws.training:
        return x
    xp, wide = draws.xp, draws.wide(x)
    u = xp.astype(draws.uniform(), wide.dtype)
    return xp.astype(wide * (1.0 + spread * (2.0 * u - 1.0)), x.dtype)
