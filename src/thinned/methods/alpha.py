"""Alpha dropout, for self-normalising networks: mean 0 and variance 1 stay what they are."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import PLAIN_BERNOULLI
from thinned.methods.arguments import require_axes
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["ALPHA", "affine", "alpha_dropout", "feature_alpha_dropout"]

KLAMBAUER = Paper(
    "Klambauer, Unterthiner, Mayr, Hochreiter", 2017, "Self-normalizing neural networks",
    "arXiv:1706.02515",
)  # fmt: skip

# The value of SELU at minus infinity: minus the product of its scale and its alpha.
ALPHA = -1.7580993408473766

_FORMULA = (
    "y = a (x m + alpha' (1 - m)) + b,  m ~ Bernoulli(1 - p),  alpha' = -1.7580993,  "
    "a = ((1 - p) (1 + p alpha'^2))^(-1/2),  b = -a alpha' p"
)


def affine(p: Any, where: Any = None) -> tuple[Any, Any]:
    """a and b; both 0 at p = 1, where nothing is kept. `where` serves a p that is an array."""
    if isinstance(p, float):
        a = 0.0 if p == 1.0 else ((1.0 - p) * (1.0 + p * ALPHA**2)) ** -0.5
    else:
        q = where(p == 1.0, 1.0, 1.0 - p)
        a = where(p == 1.0, 0.0, (q * (1.0 + p * ALPHA**2)) ** -0.5)
    return a, -a * ALPHA * p


def _moments(x: Any, p: float, **_: Any) -> tuple[Any, Any]:
    a, _b = affine(p)
    return a * (1.0 - p) * x, a * a * p * (1.0 - p) * (x - ALPHA) ** 2


def _lowest(x: Any, p: float, **_: Any) -> float:
    a, b = affine(p)
    return float(ALPHA * a + b)


_MOMENTS = Moments("a (1 - p) x", "a^2 p (1 - p) (x - alpha')^2", _moments)


def _dropped(draws: Draws, x: Any, shared: tuple[int, ...]) -> Any:
    if isinstance(draws.p, float) and draws.p == 1.0:
        # Zeros with zero gradients, however large x is: a = 0 times infinity would be NaN.
        return draws.noise(x, shared_axes=shared)
    xp = draws.xp
    a, b = affine(draws.p, xp.where)
    # Half types: the affine map runs in binary32 too, so that there is one rounding, at the end.
    kept = draws.noise(draws.wide(x), scale=1.0, fill=ALPHA, shared_axes=shared)
    return xp.astype(kept * a + b, x.dtype)


@method(
    title="Alpha dropout",
    rank="second",
    target="units",
    formula=_FORMULA,
    law=PLAIN_BERNOULLI,
    shared="none: one draw per element, or per slice along shared_axes",
    scale="1, then the affine map a y + b",
    fill="alpha', SELU's lowest value",
    moments=_MOMENTS,
    papers=(KLAMBAUER,),
    aliases={
        "PyTorch": ("nn.AlphaDropout", "functional.alpha_dropout"),
        "Keras": ("AlphaDropout",),
    },
    module="AlphaDropout",
    check=require_axes,
    sample=Sample(
        independent=(0, 1), splits=(0, 1), linear=False, dropped=None, dropped_as=_lowest
    ),
    takes=("rates",),
    note="For networks with SELU activations only, with p = .05 or .1. After any other activation "
    "mean 0 and variance 1 are not guaranteed.",
)
def alpha_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Set dropped elements to SELU's lowest value, and restore mean and variance by an affine map.

    y = a (x m + alpha' (1 - m)) + b,  m ~ Bernoulli(1 - p), one draw per element (or per slice, see
    shared_axes),  alpha' = -1.7580993,  a = ((1 - p) (1 + p alpha'^2))^(-1/2),  b = -a alpha' p.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    shared_axes : int or tuple of ints. Axes along which one draw is shared.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. Over the draws, E[y] = a (1 - p) x and
    Var[y] = a^2 p (1 - p) (x - alpha')^2; over elements x of mean 0 and variance 1 as well, y has
    mean 0 and variance 1 for p < 1.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or an axis does not exist or is named twice. TypeError
    if x is not floating.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.alpha_dropout(np.zeros(4), 0.5, thinned.Address(seed=4)).round(3)
    array([ 0.779, -0.779, -0.779,  0.779])
    """
    draws = Draws("alpha_dropout", x, p, at, training, window, mirror)
    shared = checks.axes("alpha_dropout", shared_axes, len(draws.shape))
    if not draws.training:
        return x
    return _dropped(draws, x, shared)


@method(
    title="Feature-alpha dropout",
    rank="second",
    target="channels",
    formula=_FORMULA,
    law=PLAIN_BERNOULLI,
    shared="all axes after the second: a dropped channel of a sample is alpha' everywhere",
    scale="1, then the affine map a y + b",
    fill="alpha', SELU's lowest value",
    moments=_MOMENTS,
    papers=(KLAMBAUER,),
    source="PyTorch, for one draw per channel. The paper draws per element.",
    aliases={"PyTorch": ("nn.FeatureAlphaDropout", "functional.feature_alpha_dropout")},
    module="FeatureAlphaDropout",
    sample=Sample(
        shape=(4, 5, 3),
        independent=(0, 1),
        splits=(0, 1),
        linear=False,
        dropped=None,
        dropped_as=_lowest,
    ),
    takes=("rates",),
    note="Alpha dropout of whole feature maps, for convolutions with SELU.",
)
def feature_alpha_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Alpha dropout with one draw per channel.

    y = a (x m + alpha' (1 - m)) + b,  m ~ Bernoulli(1 - p), one draw per sample and channel; a, b
    and alpha' as in `alpha_dropout`.

    Parameters
    ----------
    x : array, shape (N, C, ...), floating. Never modified.
    p : float in [0, 1]. Probability of dropping a channel; p = 1 gives zeros.
    at, training, window, mirror : as in `alpha_dropout`.

    Returns
    -------
    array of x's kind, shape and dtype, with the moments of `alpha_dropout`.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has fewer than two axes. TypeError if x is not
    floating.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515, for the law; per channel as in torch.nn.
    """
    who = "feature_alpha_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    n = len(draws.shape)
    if n < 2:
        remedy = "Use alpha_dropout for one draw per element."
        raise ValueError(message(who, "x", "of shape (N, C, ...)", f"shape {draws.shape}", remedy))
    if not draws.training:
        return x
    return _dropped(draws, x, tuple(range(2, n)))
