"""Targeted dropout: noise for those weights or units that pruning would take."""

from __future__ import annotations

import math
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

__all__ = ["targeted_dropout"]

GOMEZ = Paper(
    "Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton", 2019,
    "Learning sparse networks using targeted dropout", "arXiv:1905.13678",
)  # fmt: skip


def _moments(w: Any, p: float, gamma: float = 0.5, target: str = "weights", **_: Any) -> Any:
    hit = _hit(np, w, gamma, target)
    return w * (1.0 - p * hit), w**2 * (p * (1.0 - p)) * hit


def _pruned(w: Any, p: float, gamma: float = 0.5, target: str = "weights", **_: Any) -> Any:
    return np.where(_hit(np, w, gamma, target), 0.0, w)


@method(
    title="Targeted dropout",
    rank="second",
    target="weights",
    formula="w' = w m,  m ~ Bernoulli(1 - p) for the smallest gamma of the weights (or units), "
    "else 1;  evaluation: those are 0",
    law=PLAIN_BERNOULLI,
    shared='everything that uses the weight; target="units": a unit\'s weights share a draw',
    scale="1",
    inference="the targeted weights are pruned",
    moments=Moments("w (1 - p t)", "w^2 p (1 - p) t,  t = 1 for the targeted, else 0", _moments),
    papers=(GOMEZ,),
    aliases={"tensor2tensor": ("targeted_dropout",)},
    in_torch=("targeted_dropout",),
    sample=Sample(
        options={"gamma": 0.5},
        independent=(0, 1),
        p_one="finite",
        linear=False,
        dropped=None,
        evaluation=_pruned,
    ),
    note="For networks that are pruned by magnitude afterwards: they learn not to rely on the "
    "weights that will be pruned. In PyTorch: thinned.torch.targeted_dropout(module, name, p, "
    "gamma=...).",
)
def targeted_dropout(
    w: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    gamma: float = 0.5,
    target: str = "weights",
    prune: bool = True,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop weights (or units) that are among the smallest, with probability p.

    w' = w m,  m ~ Bernoulli(1 - p) where w is targeted, else 1. Without rescaling.

    Parameters
    ----------
    w : array, shape (out, ...), floating: a weight whose first axis counts output units. Never
        modified.
    p : float in [0, 1]. Probability of dropping a targeted weight; p = 1 drops all of them.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool.
    gamma : float in [0, 1]. The fraction that is targeted: of each unit's n weights the floor(gamma
        n) smallest in magnitude, or of the units the floor(gamma out) of the smallest norm. Of
        equal ones those with the lower index count as smaller.
    target : "weights" or "units". A unit's weights are dropped together.
    prune : bool. Whether evaluation (training=False) sets the targeted weights to 0, as in the
        paper's pruned network; else it gives w itself.
    window, mirror : as in `thinned.dropout`. A window must hold the whole of what is ranked: the
        axes after the first, and all axes for units.

    Returns
    -------
    array of w's kind, shape and dtype. E[w'] = w (1 - p) and Var[w'] = w^2 p (1 - p) for what is
    targeted, w and 0 for the others.

    Raises
    ------
    ValueError if p or gamma is outside [0, 1] or NaN, w has fewer than two axes, an option is
    unknown or a window splits what is ranked. TypeError if w is not floating.

    References
    ----------
    Gomez et al., 2019, arXiv:1905.13678, section 3, whose alpha is p here. Not rescaled, as in the
    authors' code.
    """
    draws = Draws("targeted_dropout", w, p, at, training, window, mirror)
    gamma = checks.probability("targeted_dropout", gamma, "gamma")
    prune = checks.flag("targeted_dropout", "prune", prune)
    one_of("targeted_dropout", "target", target, ("weights", "units"))
    axes = range(len(draws.shape))
    if len(axes) < 2:
        raise ValueError(message("targeted_dropout", "w", "of shape (out, ...)", draws.shape))
    whole = target == "units"
    draws.require_whole(*(axes if whole else axes[1:]))
    if not draws.training and not prune:
        return w
    ranked = draws.backend.undivided(w, tuple(axes if whole else axes[1:]))
    hit = _hit(draws.xp, draws.wide(ranked), gamma, target)
    if not draws.training:
        return draws.select(w, ~hit)
    keep = draws.keep(shared_axes=tuple(axes[1:]) if whole else ())
    return draws.select(w, keep | ~hit)


def _hit(xp: Any, w: Any, gamma: float, target: str) -> Any:
    """What is targeted: boolean, of w's shape, or (out, 1, ...) for units."""
    out, *rest = w.shape
    if target == "units":
        norms = xp.sum(w * w, axis=tuple(range(1, len(rest) + 1)))
        return xp.reshape(_smallest(xp, norms, 0, gamma), (out, *(1 for _ in rest)))
    sizes = xp.reshape(xp.abs(w), (out, math.prod(rest)))
    return xp.reshape(_smallest(xp, sizes, 1, gamma), w.shape)


def _smallest(xp: Any, sizes: Any, axis: int, gamma: float) -> Any:
    # A hair more, so that .3 of 10 is 3 and not what is left of 2.9999999999999996.
    count = int(gamma * sizes.shape[axis] + 1e-9)
    order = xp.argsort(sizes, axis=axis, stable=True)
    return xp.argsort(order, axis=axis, stable=True) < count
