"""Information dropout: log-normal noise whose size the network learns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.backends import backend_of
from thinned.laws import Law
from thinned.methods.arguments import number, wide
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["information_cost", "information_dropout"]

ACHILLE = Paper(
    "Achille, Soatto", 2018,
    "Information dropout: learning optimal representations through noisy computation",
    "arXiv:1611.01353",
)  # fmt: skip


LOG_NORMAL = Law("log-normal", "exp(alpha z),  z ~ N(0, 1)", has_one=False)


def _moments(x: NDArray[np.float64], alpha: NDArray[np.float64], **_: Any) -> tuple[Any, Any]:
    grown = np.exp(alpha**2)
    return x * np.sqrt(grown), x**2 * grown * (grown - 1.0)


def _units_and_sizes(rng: np.random.Generator) -> tuple[Any, ...]:
    return 0.5 + rng.random((6, 5)), 0.1 + 0.4 * rng.random((6, 5))


@method(
    title="Information Dropout",
    rank="classic",
    target="units",
    formula="y = x exp(alpha z),  z ~ N(0, 1)",
    law=LOG_NORMAL,
    scale="1: the noise has median 1",
    moments=Moments("x exp(alpha^2 / 2)", "x^2 exp(alpha^2) (exp(alpha^2) - 1)", _moments),
    papers=(ACHILLE,),
    module="InformationDropout",
    sample=Sample(
        arrays=_units_and_sizes, independent=(0, 1), splits=(0, 1), dropped=None, draws=6000
    ),
    takes=("complex",),
    note="Dropout as an information bottleneck: alpha is a second output of the layer, and "
    "information_cost is added to the loss. Of historical interest; the variational information "
    "bottleneck is better known.",
)
def information_dropout(
    x: Any,
    alpha: Any,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Multiply by log-normal noise whose scale is a learned function of the input.

    y = x exp(alpha z),  z ~ N(0, 1), one draw per element.

    Parameters
    ----------
    x : array, any shape, floating: activations, not negative in the paper. Never modified.
    alpha : array, x's shape: the noise's scale, above 0 and computed by the network, for
        example 0.001 + 0.7 sigmoid(...) as the authors do. It receives a gradient.
    at : Address. Equal addresses give equal noise on every backend, to 4e-6 of a draw of z.
    training : bool. False gives x itself: the noise at its median.
    window : Window or None. Where x and alpha sit in larger logical arrays.
    mirror : bool. The antithetic draw: z becomes -z.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x exp(alpha^2 / 2), which is not x;
    Var[y] = x^2 exp(alpha^2) (exp(alpha^2) - 1).

    Raises
    ------
    ValueError if alpha has another shape. TypeError if x is not floating.

    References
    ----------
    Achille and Soatto, 2018, arXiv:1611.01353.
    """
    draws = Draws("information_dropout", x, NO_P, at, training, window, mirror)
    alpha = draws.beside("alpha", alpha, draws.shape)
    if not draws.training:
        return x
    z = draws.xp.astype(draws.gaussian(), draws.real_type)
    return draws.scaled(x, draws.xp.exp(alpha * z))


def information_cost(alpha: Any, largest: float = 0.7) -> Any:
    """What the loss pays for the information that noise of size alpha lets through.

    -ln(alpha / largest) for each unit: the Kullback-Leibler divergence from the log-uniform prior
    for units that are not zero, up to a constant that makes it 0 at the largest alpha.

    Parameters
    ----------
    alpha : array, any shape, floating, above 0: the same as in `information_dropout`.
    largest : float above 0. The largest alpha that the network can make.

    Returns
    -------
    array of alpha's kind, shape and dtype, in nats. The paper adds beta times its sum to the loss.

    Raises
    ------
    ValueError if largest is not above 0. TypeError if alpha is no floating array.

    References
    ----------
    Achille and Soatto, 2018, arXiv:1611.01353, section 5.
    """
    largest = number("information_cost", "largest", largest, 0.0, above=True)
    backend = backend_of("information_cost", alpha, "alpha")
    backend.require_floating("information_cost", alpha, "alpha")
    xp = backend.namespace
    return xp.astype(-xp.log(wide(backend, alpha) / largest), alpha.dtype)
