"""Contiguous spans of a sequence: HiddenCut."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.checks import message
from thinned.methods.arguments import require_unit_axis
from thinned.methods.draws import Draws
from thinned.methods.regions import within
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["hidden_cut"]

CHEN = Paper(
    "Chen, Shen, Chen, Yang", 2021, "HiddenCut: simple data augmentation for natural language "
    "understanding with better generalizability", "arXiv:2106.00149",
)  # fmt: skip


def _cut(x: NDArray[np.float64], p: float, axis: int = 1, **_: Any) -> tuple[Any, Any]:
    n = x.shape[axis]
    span = round(p * n)
    places = n - span + 1
    covering = [
        (min(i, n - span) - max(0, i - span + 1) + 1) / places if span else 0.0 for i in range(n)
    ]
    q = 1.0 - np.reshape(covering, [n if a == axis else 1 for a in range(x.ndim)])
    return q * x, q * (1.0 - q) * x**2


@method(
    title="HiddenCut",
    rank="second",
    target="spans of hidden states",
    formula="y = 0 in a span of s = round(p L) of the L positions, x elsewhere;  its start uniform "
    "over the L - s + 1 places where it fits",
    shared="the features of a position",
    scale="1: nothing is rescaled",
    moments=Moments(
        "(1 - c_i) x,  c_i = k_i / (L - s + 1),  k_i the places that cover position i",
        "c_i (1 - c_i) x^2",
        _cut,
    ),
    papers=(CHEN,),
    source="The paper's random form. Its other form starts the span at a word that receives much "
    "attention, and needs the attention's weights. The authors' code takes a text's own length "
    "without its padding, at least one position of it, and never the last place for a span: "
    "floor(u (L - s)).",
    module="HiddenCut",
    check=lambda who, axis: require_unit_axis(who, "axis", axis),
    sample=Sample(
        shape=(6, 7, 3), options={"axis": 1}, p=0.4, dropped=None, splits=(0, 2), fixed_p=True
    ),
    takes=("complex",),
    note="For fine-tuning a language model on little data, behind each layer's feed-forward part, "
    "p = .05 to .1; dropout of single elements leaves their neighbours to tell what is missing.",
)
def hidden_cut(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Set a contiguous span of each sequence's hidden states to zero (HiddenCut).

    y = 0 in a span of s = round(p L) of the L positions, x elsewhere, nothing rescaled. The span
    starts at floor(u (L - s + 1)), u uniform, one draw per sample.

    Parameters
    ----------
    x : array, shape (N, L, ...), floating: positions along `axis`. Never modified.
    p : float in [0, 1]. Share of the positions that the span covers, halves to even; p = 1 gives
        zeros. Another p is another length, so that a compiled program is made anew.
    at : Address. Equal addresses cut equal spans on every backend.
    training : bool. False gives x itself.
    axis : int. The axis of the positions; not 0, which is that of the samples.
    window : Window or None. Where x sits in a larger logical array; it must hold whole sequences.
    mirror : bool. The antithetic draw: 1 - u for u, a span from the other end.

    Returns
    -------
    array of x's kind, shape and dtype. Positions near the ends are covered by fewer spans: E[y] =
    (1 - c_i) x with c_i = k_i / (L - s + 1), of whose places k_i cover position i.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the axis does not exist or is 0, or the window splits
    a sequence. TypeError if x is not floating, or p is a tensor in a compiled program.

    References
    ----------
    Chen et al., 2021, arXiv:2106.00149.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.hidden_cut(np.ones((2, 8)), 0.25, thinned.Address(seed=1))
    array([[1., 1., 1., 1., 0., 0., 1., 1.],
           [1., 1., 1., 1., 1., 1., 0., 0.]])
    """
    who = "hidden_cut"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    if len(shape) < 2:
        raise ValueError(message(who, "x", "of shape (N, L, ...)", f"shape {shape}"))
    along = require_unit_axis(who, "axis", axis, len(shape))
    if not isinstance(draws.p, float):
        remedy = "It says how long the span is. Run the module in eager code."
        raise TypeError(message(who, "p", "a Python number", "a tensor in a graph", remedy))
    if not draws.training:
        return x
    draws.require_whole(along)
    xp, length = draws.xp, shape[along]
    span = round(draws.p * length)
    # binary64, where no product of a uniform and a length is rounded up to the length
    u = xp.astype(draws.uniform(tuple(range(1, len(shape)))), xp.float64)
    start = xp.floor(u * (length - span + 1))
    return draws.select(x, ~within(xp, x, along, start, span))
