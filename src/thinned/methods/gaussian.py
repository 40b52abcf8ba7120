"""Noise of other laws: Gaussian, multiplied or added, and uniform."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import GAUSSIAN, UNIFORM
from thinned.methods.arguments import anywhere, number, require_axes
from thinned.methods.bernoulli import SRIVASTAVA
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import INVERTED, Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["gaussian_dropout", "gaussian_noise", "uniform_dropout"]

BISHOP = Paper(
    "Bishop", 1995, "Training with noise is equivalent to Tikhonov regularization",
    "Neural Computation 7(1), 108-116",
)  # fmt: skip

SHEN = Paper(
    "Shen, Tian, Liu, Xu, Tao", 2018, "Continuous dropout",
    "IEEE TNNLS 29(9), 3926-3937 (arXiv:1911.12675)",
)  # fmt: skip


def _std(draws: Draws) -> Any:
    """sqrt(p / (1 - p)); the law has no member at p = 1."""
    p = draws.p
    one = draws.differs() and anywhere(draws.backend, p, condition=lambda p: p == 1.0)
    if one or (isinstance(p, float) and p == 1.0):
        requirement = "below 1, where the noise p / (1 - p) is infinite"
        raise ValueError(message(draws.who, "p", requirement, "1"))
    return (p / (1.0 - p)) ** 0.5


@method(
    title="Gaussian dropout",
    rank="second",
    target="units",
    formula="y = x m,  m ~ N(1, p / (1 - p))",
    law=GAUSSIAN,
    shared="none: one draw per element, or per slice along shared_axes",
    scale="1: the noise has mean 1",
    moments=INVERTED,
    papers=(SRIVASTAVA,),
    aliases={"Keras": ("GaussianDropout",), "PyTorch": ()},
    module="GaussianDropout",
    check=require_axes,
    sample=Sample(independent=(0, 1), p_one="refused", dropped=None),
    takes=("complex", "rates"),
    note="Noise with the moments of dropout but without exact zeros. The variational methods are "
    "derived from it.",
)
def gaussian_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Multiply by Gaussian noise with the mean and variance of dropout's noise.

    y = x m,  m ~ N(1, p / (1 - p)), one draw per element (or per slice, see shared_axes).

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1). The dropout probability whose moments the noise has.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw.
    training : bool. False gives x itself.
    shared_axes : int or tuple of ints. Axes along which one draw is shared.
    window, mirror : as in `thinned.dropout`; the mirrored noise is 2 - m.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1) or NaN: there is no such noise at p = 1; if an axis does not
    exist or is named twice. TypeError if x is not floating.

    References
    ----------
    Srivastava et al., 2014, JMLR 15, section 10.
    """
    who = "gaussian_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    std = _std(draws)
    shared = checks.axes(who, shared_axes, len(draws.shape))
    if not draws.training:
        return x
    return draws.gaussian_noise(x, std, shared)


def _noise_check(who: str, std: Any, shared_axes: Any = ()) -> None:
    number(who, "std", std, 0.0)
    require_axes(who, shared_axes)


@method(
    title="Gaussian noise",
    rank="second",
    target="units",
    formula="y = x + std z,  z ~ N(0, 1)",
    law=None,
    shared="none: one draw per element, or per slice along shared_axes",
    scale="1",
    fill="none: the noise is added",
    moments=Moments("x", "std^2", lambda x, std, **_: (x, 0.0 * x + std**2)),
    papers=(BISHOP,),
    aliases={"Keras": ("GaussianNoise",)},
    module="GaussianNoise",
    check=_noise_check,
    sample=Sample(
        options={"std": 0.4}, independent=(0, 1), p_one="finite", linear=False, dropped=None
    ),
    note="On inputs of one scale: to first order it is weight decay on the function's slopes. "
    "Unlike dropout it does not vanish where x is zero.",
)
def gaussian_noise(
    x: Any,
    at: Address,
    training: bool = True,
    *,
    std: float,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Add Gaussian noise of mean 0.

    y = x + std z,  z ~ N(0, 1), one draw per element (or per slice, see shared_axes).

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw.
    training : bool. False gives x itself.
    std : float, finite, at least 0. Standard deviation of the noise, in the units of x.
    shared_axes : int or tuple of ints. Axes along which one draw is shared.
    window, mirror : as in `thinned.dropout`; the mirrored noise is -z.

    Returns
    -------
    array of x's kind, shape and dtype; half types are summed in binary32 and rounded once.
    E[y] = x; Var[y] = std^2.

    Raises
    ------
    ValueError if std is negative, infinite or NaN, or an axis does not exist or is named twice.
    TypeError if x is not floating, or std is no number.

    References
    ----------
    Bishop, 1995, Neural Computation 7(1), 108-116.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0, site="input", step=7)
    >>> thinned.gaussian_noise(np.ones(4), at, std=0.0)
    array([1., 1., 1., 1.])
    """
    who = "gaussian_noise"
    draws = Draws(who, x, NO_P, at, training, window, mirror)
    std = number(who, "std", std, 0.0)
    shared = checks.axes(who, shared_axes, len(draws.shape))
    if not draws.training:
        return x
    wide = draws.wide(draws.x)
    z = draws.xp.astype(draws.gaussian(shared), wide.dtype)
    return draws.typed(wide + std * z, x.dtype)


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
    takes=("complex", "rates"),
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
    u = draws.xp.astype(draws.uniform(), draws.real_type)
    return draws.scaled(x, 1.0 + spread * (2.0 * u - 1.0))
