"""DropAttention: softmax weights dropped and brought back to their sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import PLAIN_BERNOULLI
from thinned.methods.arguments import one_of
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["drop_attention"]

LIN = Paper(
    "Lin, Liu, Huang, Fu, Chen, Qiu, Huang", 2019, "DropAttention: a regularization method for "
    "fully-connected self-attention networks", "arXiv:1907.11065",
)  # fmt: skip


def _softmax_rows(rng: np.random.Generator) -> tuple[Any, ...]:
    e = np.exp(rng.standard_normal((4, 2, 3, 5)))
    return (e / e.sum(-1, keepdims=True),)


def _check(who: str, by: Any, width: Any, keys: int = 2**31) -> None:
    one_of(who, "by", by, ("element", "column"))
    checks.integer(who, "width", width, 1, keys + 1)


@method(
    title="DropAttention",
    rank="classic",
    target="attention weights",
    formula="y = m x / sum over keys of m x,  m = 0 over `width` keys from each seed, seeds drawn "
    "with probability p / width",
    law=PLAIN_BERNOULLI,
    shared="none; by column, all queries: a key is dropped for each of them",
    scale="the factor that restores the row's sum, without a gradient",
    papers=(LIN,),
    moments=Moments(
        "no closed form: a row keeps its sum, and small weights gain what large ones lose",
        "no closed form: the scale of a row depends on its mask",
    ),
    module="DropAttention",
    check=_check,
    sample=Sample(arrays=_softmax_rows, splits=(0, 1, 2), linear=False, own_gradient=True),
    note="Rows keep their sum, unlike with attention dropout. Current networks use attention "
    "dropout.",
)
def drop_attention(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    by: str = "element",
    width: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop attention weights, and rescale the rest of each row to the row's sum.

    y = m x S(sum x / sum m x), sums over the keys; S lets no gradient through, and sum x is 1 for
    rows of a softmax. A row that loses all its weight is zero.

    Parameters
    ----------
    x : array, shape (..., queries, keys), floating: attention weights after the softmax. Never
        modified.
    p : float in [0, 1]. A seed falls on a weight with probability p / width and drops `width` keys
        from there on, so that a weight far from the row's start is dropped with probability
        1 - (1 - p / width)^width, which is p for width 1. p = 1 with width 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    by : "element", or "column": one draw for all queries, which drops a key for each of them.
    width : int. Keys that a seed drops, the paper's window size.
    window : Window or None. Where x sits in a larger logical array; it may not split the keys.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. Rows keep their sum; E[y] is not x, because small weights
    gain where large ones are dropped.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than two axes, `by` is unknown, width
    is not in [1, keys], or the window splits the keys. TypeError if x is not floating.

    References
    ----------
    Lin et al., 2019, arXiv:1907.11065: DropAttention(e) and DropAttention(c).
    """
    draws = Draws("drop_attention", x, p, at, training, window, mirror)
    if len(draws.shape) < 2:
        got = f"an array of shape {draws.shape}"
        raise ValueError(message(draws.who, "x", "of shape (..., queries, keys)", got))
    axis, keys = len(draws.shape) - 1, draws.shape[-1]
    _check(draws.who, by, width, keys)
    draws.require_whole(axis)
    if not draws.training:
        return x
    xp, wide = draws.xp, draws.wide(x)
    seeds = draws.keep(draws.p / width, shared_axes=(axis - 1,) if by == "column" else ())
    kept = seeds
    for i in range(1, width):
        before = xp.ones_like(seeds[..., :i])
        kept = kept & xp.concat([before, seeds[..., : keys - i]], axis=axis)
    whole = xp.sum(wide, axis=axis, keepdims=True)
    left = xp.sum(xp.where(kept, wide, xp.zeros_like(wide)), axis=axis, keepdims=True)
    scale = whole / xp.where(left == 0.0, xp.ones_like(left), left)
    return draws.select(x, kept, draws.stop_gradient(scale))
