"""Noise on gradients alone: DropGrad, and DropBP for whole branches."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.address import Address
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, method
from thinned.window import Window

__all__ = ["drop_bp", "drop_grad"]

TSENG = Paper(
    "Tseng, Chen, Tsai, Liu, Lin, Yang", 2020, "Regularizing meta-learning via gradient dropout",
    "arXiv:2004.05859",
)  # fmt: skip
WOO = Paper(
    "Woo, Park, Kim, Jo, Kwon, Jeon, Lee", 2024,
    "DropBP: accelerating fine-tuning of large language models by dropping backward propagation",
    "arXiv:2402.17812",
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
    takes=("complex",),
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


def _backward_passes(p: float, at: Address) -> Any:
    """Which of 12 layers' backward passes run, in 40 steps."""
    return np.stack(
        [
            [float(drop_bp(np.ones(()), p, at.replace(site=layer, step=i))) for i in range(40)]
            for layer in range(12)
        ]
    )


@method(
    title="DropBP",
    rank="second",
    target="backward passes of layers",
    formula="y = x;  dL/dx = dL/dy m,  m ~ Bernoulli(1 - p), one gate for the call",
    law=PLAIN_BERNOULLI,
    shared="all axes: a branch's backward pass runs or does not",
    scale="1: the gradient is not rescaled",
    moments=Moments("(1 - p) dL/dy", "p (1 - p) (dL/dy)^2"),
    apart="Its noise acts on the gradient only, and y is x; in NumPy, x is that gradient.",
    picture=_backward_passes,
    papers=(WOO,),
    aliases={"dropbp (the authors')": ("DropBP",)},
    module="DropBP",
    takes=("complex",),
    note="For fine-tuning large models faster: the forward pass stays exact, and of the residual "
    "branches that are dropped no backward pass is run. Lower p for the layers that matter most.",
)
def drop_bp(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Leave out the backward pass of a residual branch, and its forward pass as it is.

    y = x;  dL/dx = dL/dy m,  m ~ Bernoulli(1 - p), one gate for the call.

    Parameters
    ----------
    x : array, any shape, floating: the output of a residual branch, before it is added. Never
        modified. In NumPy, which differentiates nothing, the gradient that arrives.
    p : float in [0, 1]. Probability of leaving the backward pass out; p = 1 trains nothing in the
        branch.
    at : Address. Equal addresses give equal gates on every backend; the gate is its element 0.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype, equal to x; in NumPy x or zeros. Where the gate is known
    beforehand, in eager PyTorch and in JAX outside of jit, a branch that is dropped is cut off and
    its backward pass does not run: parameters of PyTorch's then get no gradient (None), which
    DistributedDataParallel must be told (find_unused_parameters=True). In a compiled program, or
    with the step traced, the gradient is multiplied by the gate, which saves no time. There is no
    forward-mode derivative.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    Woo et al., 2024, arXiv:2402.17812, and their code, where the output is detached. How they
    share p among layers by sensitivity is not part of this row: give each layer its own.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.drop_bp(np.ones(3), 0.5, thinned.Address(seed=0, step=2))
    array([0., 0., 0.])
    """
    draws = Draws("drop_bp", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    every = tuple(range(len(draws.shape)))
    cut = draws.stop_gradient(x)
    # A library that differentiates nothing has no other way than the gradient's own.
    if cut is x or draws.to_come:
        return draws.gradient_noise(x, 1.0, every)
    return x if draws.gate() else cut
