"""Whole residual branches: DropPath, one draw per sample; stochastic depth, one for the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.bernoulli import times_q
from thinned.methods.draws import Draws, plain_rows
from thinned.methods.table import INVERTED, PLAIN, Paper, Sample, method
from thinned.window import Window

__all__ = ["drop_path", "stochastic_depth"]

HUANG = Paper(
    "Huang, Sun, Liu, Sedra, Weinberger", 2016, "Deep networks with stochastic depth",
    "arXiv:1603.09382",
)  # fmt: skip
LARSSON = Paper(
    "Larsson, Maire, Shakhnarovich", 2017, "FractalNet: ultra-deep neural networks without "
    "residuals", "arXiv:1605.07648",
)  # fmt: skip


@method(
    title="DropPath",
    rank="first",
    target="samples",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per sample",
    law=BERNOULLI,
    shared="all axes but the first: a sample's branch is kept or dropped as a whole",
    moments=INVERTED,
    papers=(HUANG, LARSSON),
    source="The code of EfficientNet and timm, for one draw per sample and the scale in training. "
    "The first paper draws per batch and scales in evaluation; the second drops paths that join.",
    aliases={
        "timm": ("DropPath", "drop_path"),
        "torchvision": ('StochasticDepth(mode="row")',),
        "KerasCV": ("DropPath",),
        "transformers": ("BeitDropPath", "ConvNextDropPath", "SwinDropPath"),
    },
    module="DropPath",
    sample=Sample(shape=(8, 3, 4), independent=(0,)),
    takes=("complex", "sparse", "rates"),
    note="The default in ViT, Swin and ConvNeXt, on residual branches, with p growing with depth.",
)
def drop_path(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop whole residual branches, one draw per sample (stochastic depth).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per row of x.

    Parameters
    ----------
    x : array, shape (N, ...), floating: the output of the branch. Never modified.
    p : float in [0, 1]. Probability of dropping a sample's branch; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    window : Window or None. Where x sits in a larger logical array.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has no axis. TypeError if x is not floating.

    References
    ----------
    Huang et al., 2016, arXiv:1603.09382, who draw one gate per batch (`stochastic_depth`). Larsson
    et al., 2017, arXiv:1605.07648, for the name. Per sample, and scaled in training, as in the code
    of EfficientNet and timm.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.drop_path(np.ones((4, 2)), 0.5, thinned.Address(seed=4))
    array([[2., 2.],
           [0., 0.],
           [0., 0.],
           [2., 2.]])
    """
    y = plain_rows("drop_path", x, p, at, training, window, mirror, 1)
    if y is not None:
        return y
    draws = Draws("drop_path", x, p, at, training, window, mirror)
    if not draws.shape:
        raise ValueError(message("drop_path", "x", "of shape (N, ...)", "an array without axes"))
    if not draws.training:
        return x
    return draws.noise(x, shared_axes=tuple(range(1, len(draws.shape))))


def _gates(p: float, at: Address) -> Any:
    """The gate of six steps, each before a batch of 8 rows."""
    steps = [stochastic_depth(np.ones((8, 3)), p, at.replace(step=i)) for i in range(6)]
    return np.stack(steps)


@method(
    title="Stochastic depth",
    rank="first",
    target="samples",
    formula="y = x m,  m ~ Bernoulli(1 - p), one gate for the whole batch;  evaluation: (1 - p) x",
    law=PLAIN_BERNOULLI,
    shared="all axes: one gate for the batch",
    scale="1 in training",
    inference="times 1 - p",
    moments=PLAIN,
    papers=(HUANG,),
    aliases={"torchvision": ('StochasticDepth(mode="batch")', "stochastic_depth")},
    module="StochasticDepth",
    picture=_gates,
    sample=Sample(shape=(4, 3), independent=(), dropped="binomial", evaluation=times_q),
    takes=("complex", "sparse"),
    note="The original form. torchvision's batch mode scales in training instead. Current "
    "networks use drop_path.",
)
def stochastic_depth(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop a residual branch for the whole batch; in evaluation, scale it by its keep probability.

    y = x m,  m ~ Bernoulli(1 - p), one gate;  evaluation: y = (1 - p) x.

    Parameters
    ----------
    x : array, any shape, floating: the output of the branch. Never modified.
    p : float in [0, 1]. Probability of dropping the branch. The paper's depth rule is
        p_l = (l / L) p_L for layer l of L: `thinned.schedules.stochastic_depth_rule`.
    at, window, mirror : as in `thinned.dropout`; the gate is element 0 of the address.
    training : bool. False gives (1 - p) x.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = (1 - p) x; Var[y] = x^2 p (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    Huang et al., 2016, arXiv:1603.09382.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.stochastic_depth(np.ones(3), 0.25, thinned.Address(), training=False)
    array([0.75, 0.75, 0.75])
    """
    y = plain_rows("stochastic_depth", x, p, at, training, window, mirror, 0, 1.0)
    if y is not None:
        return y
    draws = Draws("stochastic_depth", x, p, at, training, window, mirror)
    if not draws.training:
        return draws.scaled(x, 1.0 - draws.p)
    return draws.noise(x, scale=1.0, shared_axes=tuple(range(len(draws.shape))))
