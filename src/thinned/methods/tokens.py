"""Tokens that leave the sequence: patch dropout, and FLIP's token dropping."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.backends.base import device_of
from thinned.checks import message
from thinned.laws import K_OF_N
from thinned.methods.arguments import require_unit_axis
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["patch_dropout"]

LIU = Paper(
    "Liu, Matsoukas, Strand, Azizpour, Smith", 2022,
    "PatchDropout: economizing vision transformers using patch dropout", "arXiv:2208.07220",
)  # fmt: skip
FLIP = Paper(
    "Li, Fan, Hu, Feichtenhofer, He", 2022,
    "Scaling language-image pre-training via masking", "arXiv:2212.00794",
)  # fmt: skip


def _prefix(who: str, prefix: Any, length: int) -> tuple[int, ...]:
    """Places of the tokens that always stay, in order."""
    if not isinstance(prefix, (tuple, list)):
        remedy = "Name the places one by one where they are not the first: prefix=(0, 5)."
        return tuple(range(checks.integer(who, "prefix", prefix, 0, length + 1, remedy)))
    places = tuple(checks.integer(who, "a place in prefix", i, 0, length) for i in prefix)
    if any(b <= a for a, b in itertools.pairwise(places)):
        requirement = "places in rising order, each once"
        remedy = f"Pass {tuple(sorted(set(places)))}: tokens keep their order."
        raise ValueError(message(who, "prefix", requirement, places, remedy))
    return places


def _check(who: str, prefix: Any, axis: Any, return_indices: Any) -> None:
    _prefix(who, prefix, 2**31 - 1)
    require_unit_axis(who, "axis", axis)
    checks.flag(who, "return_indices", return_indices)


def _moments(x: Any, p: float, prefix: int = 1, **_: Any) -> tuple[Any, Any]:
    """For tokens on axis 1, the prefix in front: which of the others comes j-th, counted out."""
    n = x.shape[1] - prefix
    k = max(1, round(n * (1.0 - p)))
    order = [
        [math.comb(i, j) * math.comb(n - 1 - i, k - 1 - j) / math.comb(n, k) for i in range(n)]
        for j in range(k)
    ]
    comes = np.eye(prefix + k, prefix + n)
    comes[prefix:, prefix:] = order
    mean, square = (np.einsum("ji,ni...->nj...", comes, z) for z in (x, x**2))
    return mean, square - mean**2


def _stay(p: float, at: Address) -> Any:
    """Which of 12 sequences' 40 tokens stay."""
    indices = patch_dropout(np.ones((12, 40, 1)), p, at, return_indices=True)[1]
    return (indices[:, :, None] == np.arange(40)).any(axis=1)


@method(
    title="Patch dropout",
    rank="first",
    target="tokens",
    formula="y = x[kept], kept = the prefix and k = max(1, round(L (1 - p))) of the L other tokens,"
    " in order",
    law=K_OF_N,
    shared="the features of a token",
    scale="1: nothing is rescaled",
    inference="identity: all tokens",
    papers=(LIU, FLIP),
    aliases={
        "timm": ("PatchDropout",),
        "open_clip": ("PatchDropout",),
        "FLIP": ("FLIP", "token dropping"),
    },
    module="PatchDropout",
    check=_check,
    picture=_stay,
    moments=Moments(
        "sum_i P_ji x_i,  P_ji = C(i, j) C(L - 1 - i, k - 1 - j) / C(L, k): token i comes j-th",
        "sum_i P_ji x_i^2 - (sum_i P_ji x_i)^2",
        _moments,
    ),
    sample=Sample(
        shape=(3, 9, 2),
        p=0.5,
        dropped=None,
        splits=(0, 2),
        p_one="finite",
        keeps_shape=False,
        fixed_p=True,
    ),
    takes=("complex",),
    note="At p = .5 it halves the sequence of a vision transformer, and with it the cost of a "
    "training step. Put it after the position embedding.",
)
def patch_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    prefix: int | tuple[int, ...] = 1,
    axis: int = 1,
    return_indices: bool = False,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop tokens of each sequence and keep the others in order (patch dropout).

    Of the L tokens outside the prefix, k = max(1, round(L (1 - p))) are kept, halves to even;
    every choice of k is equally likely: those with the k largest words of the mask spec, equal
    words by lower index. The result is shorter than x, and nothing is rescaled.

    Parameters
    ----------
    x : array, shape (N, T, ...), floating: tokens along `axis`. Never modified.
    p : float in [0, 1]. Fraction of the tokens that is dropped; at p = 1 one is kept besides the
        prefix. It determines the length of the result, so a new p recompiles.
    at : Address. Equal addresses keep equal tokens on every backend.
    training : bool. False gives x itself.
    prefix : int, or a tuple of ints. Number of tokens at the front that are always kept (class and
        register tokens); or their positions, in rising order, each once.
    axis : int. The axis of the tokens; not 0, which is that of the samples.
    return_indices : bool. Return (y, indices) instead of y.
    window : Window or None. Where x sits in a larger logical array; it must hold whole sequences.
    mirror : bool. The antithetic draw: the smallest words are kept.

    Returns
    -------
    array of x's kind and dtype, with P + k tokens along `axis`, P those of the prefix. With
    return_indices also the places of the kept tokens, integers of shape (N, P + k), rising in each
    row; in evaluation those of all.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the axis does not exist or is 0, the prefix is longer
    than the sequence, unsorted or outside of it, or the window splits a sequence. TypeError if x is
    not floating, or p is a tensor in a compiled program.

    References
    ----------
    Liu et al., 2022, arXiv:2208.07220; for pairs of images and text Li et al., 2022 (FLIP),
    arXiv:2212.00794.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> tokens = np.arange(6.0).reshape(1, 6, 1)
    >>> thinned.patch_dropout(tokens, 0.5, thinned.Address(seed=1))[0, :, 0]
    array([0., 1., 4.])
    """
    who = "patch_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    if len(shape) < 2:
        requirement = "of shape (N, T, ...), sequences of tokens"
        raise ValueError(message(who, "x", requirement, f"shape {shape}"))
    along = require_unit_axis(who, "axis", axis, len(shape))
    length = shape[along]
    places = _prefix(who, prefix, length)
    return_indices = checks.flag(who, "return_indices", return_indices)
    if not isinstance(draws.p, float):
        remedy = "It says how long the result is. Run the module in eager code."
        raise TypeError(message(who, "p", "a Python number", "a tensor in a graph", remedy))
    xp, device = draws.xp, device_of(x)
    if not draws.training:
        if not return_indices:
            return x
        every = xp.reshape(xp.arange(length, dtype=xp.int64, device=device), (1, length))
        return x, xp.broadcast_to(every, (shape[0], length))
    draws.require_whole(along)
    free = length - len(places)
    stay = len(places) + (max(1, round(free * (1.0 - draws.p))) if free else 0)
    shared = tuple(a for a in range(1, len(shape)) if a != along)
    words = draws.backend.undivided(draws.words(shared), (along,))
    words = xp.reshape(words, (shape[0], length))
    # Of unsigned words the inverse orders as the negative would, which a uint32 has not.
    order = xp.argsort(~words, axis=1, stable=True)
    if places:  # in front of all others, whatever is drawn
        late = xp.asarray([[int(i not in places) for i in range(length)]], device=device)
        late = xp.take_along_axis(xp.broadcast_to(late, (shape[0], length)), order, axis=1)
        order = xp.take_along_axis(order, xp.argsort(late, axis=1, stable=True), axis=1)
    indices = xp.sort(order[:, :stay], axis=1)
    spread = tuple(shape[0] if a == 0 else stay if a == along else 1 for a in range(len(shape)))
    wide = tuple(stay if a == along else n for a, n in enumerate(shape))
    every = xp.broadcast_to(xp.reshape(indices, spread), wide)
    tokens = draws.backend.undivided(draws.x, (along,))
    y = draws.typed(xp.take_along_axis(tokens, every, axis=along), x.dtype)
    return (y, indices) if return_indices else y
