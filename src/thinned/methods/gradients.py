"""Noise on gradients alone: DropGrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.address import Address
from thinned.laws import BERNOULLI
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, method
from thinned.window import Window

__all__ = ["drop_grad"]

TSENG = Paper(
    "Tseng, Chen, Tsai, Liu, Lin, Yang", 2020, "Regularizing meta-learning via gradient dropout",
    "arXiv:2004.05859",
)  # fmt: skip


def _gradient(p: float, at: Address) -> Any:
    """What is left of a gradient of ones."""
    return drop_grad(np.ones((8, 40)), p, at)


@method(
    title="DropGrad",
    rank="second",
    target="gradients",
    formula="y = x;  dL/dx = dL/dy m / (1 - p),  m ~ Bernoulli(1 - p)",
    law=BERNOULLI,
    moments=Moments("dL/dy", "(dL/dy)^2 p / (1 - p)"),
    apart="Its noise acts on the gradient only, and y is x; in NumPy, x is that gradient.",
    picture=_gradient,
    papers=(TSENG,),
    module="DropGrad",
    note="For the inner steps of meta-learning, on the gradient of each parameter. Its use on "
    "activations has not been studied.",
)
def drop_grad(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop elements of a gradient, and leave the values unchanged.

    y = x;  dL/dx = dL/dy m / (1 - p),  m ~ Bernoulli(1 - p), one draw per element.

    Parameters
    ----------
    x : array, any shape, floating. Never modified. In PyTorch the tensor whose gradient is to be
        dropped, a parameter for instance; in NumPy, which differentiates nothing, the gradient.
    p : float in [0, 1]. Probability of dropping an element of the gradient; p = 1 gives a gradient
        of zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. In PyTorch equal to x, in NumPy the gradient that is left:
    E = x for p < 1; Var = x^2 p / (1 - p). There is no forward-mode derivative.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    Tseng et al., 2020, arXiv:2004.05859, whose Bernoulli form this is. A gradient that you
    have as an array can also be passed to `thinned.dropout`, or to `thinned.gaussian_dropout` for
    their other form.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.drop_grad(np.ones(6), 0.5, thinned.Address(seed=1))
    array([0., 0., 0., 0., 2., 2.])
    """
    draws = Draws("drop_grad", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    return draws.gradient_noise(x)
