"""Units in order of importance: nested dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.address import Address
from thinned.backends.base import device_of
from thinned.checks import message
from thinned.laws import GEOMETRIC
from thinned.methods.arguments import require_unit_axis
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["nested_dropout"]

RIPPEL = Paper(
    "Rippel, Gelbart, Adams", 2014, "Learning ordered representations with nested dropout",
    "arXiv:1402.0915",
)  # fmt: skip


def _moments(x: Any, p: float, axis: int = -1, **_: Any) -> tuple[Any, Any]:
    axis = axis % x.ndim
    kept = (1.0 - p) ** np.arange(x.shape[axis])
    kept = kept.reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return kept * x, kept * (1.0 - kept) * x**2


@method(
    title="Nested dropout",
    rank="second",
    target="units",
    formula="y_j = x_j for j <= b, else 0,  P(b) = (1 - p)^(b - 1) p, one b per sample",
    law=GEOMETRIC,
    shared="all axes but the batch's: one b per sample",
    scale="1: nothing is rescaled",
    inference="identity: all units",
    moments=Moments("x_j (1 - p)^(j - 1)", "x_j^2 q (1 - q), q = (1 - p)^(j - 1)", _moments),
    papers=(RIPPEL,),
    module="NestedDropout",
    check=lambda who, axis: require_unit_axis(who, "axis", axis),
    sample=Sample(shape=(4, 6), dropped=None, p_one="finite", splits=(0,)),
    takes=("complex", "rates"),
    note="For codes ordered by importance, which can be truncated at any length. The last units "
    "learn slowly; the paper freezes the first ones as they converge.",
)
def nested_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    axis: int = -1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Keep units 1 to b of each sample and drop all later ones, b geometric (nested dropout).

    y_j = x_j for j <= b, else 0,  P(b) = (1 - p)^(b - 1) p; a b beyond the last unit keeps all.
    Nothing is rescaled.

    Parameters
    ----------
    x : array, shape (N, ...), with the units along `axis`; floating. Never modified.
    p : float in [0, 1]. Probability that the kept units end with this one, given that they reach
        it. The paper's geometric parameter is 1 - p. The first unit is always kept, also at p = 1.
    at : Address. Unit j is kept where the sample's uniform lies below (1 - p)^(j - 1).
    training : bool. False gives x itself.
    axis : int. The axis of the units, in their order; not 0, which is that of the samples.
    window : Window or None. Where x sits in a larger logical array; it must hold the whole axis.
    mirror : bool. The antithetic draw: u becomes 1 - u.

    Returns
    -------
    array of x's kind, shape and dtype. With q = (1 - p)^(j - 1): E[y_j] = q x_j;
    Var[y_j] = q (1 - q) x_j^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than two axes, the axis does not exist or
    is 0, or the window splits it. TypeError if x is not floating.

    References
    ----------
    Rippel, Gelbart and Adams, 2014, arXiv:1402.0915.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.nested_dropout(np.ones((3, 4)), 0.3, thinned.Address(seed=1))
    array([[1., 1., 0., 0.],
           [1., 0., 0., 0.],
           [1., 1., 1., 0.]])
    """
    who = "nested_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    n_axes = len(draws.shape)
    if n_axes < 2:
        requirement = "of shape (N, ...), a batch of units"
        raise ValueError(message(who, "x", requirement, f"shape {draws.shape}"))
    along = require_unit_axis(who, "axis", axis, n_axes)
    if not draws.training:
        return x
    draws.require_whole(along)
    draws.require_rates_along(*range(1, n_axes))
    xp, n = draws.xp, draws.shape[along]
    places = xp.arange(n, dtype=xp.float64, device=device_of(x))
    reached = (1.0 - draws.p) ** xp.reshape(places, (n,) + (1,) * (n_axes - along - 1))
    u = draws.uniform(tuple(range(1, n_axes)))
    return draws.select(x, xp.astype(u, xp.float64) < reached)
