"""An exact number of units: k of n along an axis are kept, no more and no fewer."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import K_OF_N
from thinned.methods.arguments import MOST_AXES, require_axes
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Sample, method
from thinned.window import Window

__all__ = ["k_of_n_dropout"]


def _moments(x: Any, p: float, axis: int = -1, **_: Any) -> tuple[Any, Any]:
    n = x.shape[axis]
    k = n - round(p * n)
    return (x, x**2 * ((n - k) / k)) if k else (0.0 * x, 0.0 * x)


def _check(who: str, axis: Any, shared_axes: Any) -> None:
    checks.integer(who, "axis", axis, -MOST_AXES, MOST_AXES)
    require_axes(who, shared_axes)


def _rounded(xp: Any, p: Any, n: int) -> Any:
    """round(p n), halves to even, of rates in an array: as of the same numbers in binary64, also
    where the library has binary32 alone, in which .05 times 10 would be a half."""
    near = xp.round(p * n)
    if p.dtype != xp.float32:
        return near
    upper = xp.round(p * 4096.0) / 4096.0  # its product with a length up to 4,096 is exact
    off, rest = upper * n - near, (p - upper) * n
    more, less = (off - 0.5) + rest, (off + 0.5) + rest  # whose signs are those of exact sums
    is_odd = near % 2.0 == 1.0
    up = (more > 0.0) | ((more == 0.0) & is_odd)
    down = (less < 0.0) | ((less == 0.0) & is_odd)
    return near + xp.astype(up, xp.float32) - xp.astype(down, xp.float32)


@method(
    title="Exact k-of-n dropout",
    rank="first",
    target="units",
    formula="y = x m n / k,  m: exactly k = n - round(p n) ones among the n along an axis",
    law=K_OF_N,
    shared="none, or the slices along shared_axes; each group of n is drawn independently",
    scale="n / k; no unit is kept where k = 0",
    moments=Moments("x", "x^2 (n - k) / k", _moments),
    papers=(),
    source="This library. No paper is known to us that defines this form.",
    module="KOfNDropout",
    check=_check,
    sample=Sample(shape=(6, 10), dropped="exact"),
    takes=("complex", "rates"),
    note="Dropout with a fixed number of kept units: for narrow layers, and where every thinned "
    "network must have the same width. p is rounded to multiples of 1 / n.",
)
def k_of_n_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    axis: int = -1,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Keep exactly k of the n elements along an axis and scale them by n / k.

    y = x m n / k,  k = n - round(p n), halves to even. Every choice of k is equally likely: those
    with the k largest words of the mask spec, equal words by lower index.

    The sum over a constant input is exact, and two multipliers of one group have the covariance
    -(n - k) / (k (n - 1)), where dropout's have none.

    Parameters
    ----------
    x : array, at least one axis, floating. Never modified.
    p : float in [0, 1]. Share of a group that is dropped, rounded to a whole number of elements;
        where none is kept the result is zero.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    axis : int. A group is the n elements that differ only in this axis.
    shared_axes : int or tuple of ints. Axes along which one draw is shared; not `axis`.
    window : Window or None. Where x sits in a larger logical array; it must hold the whole axis.
    mirror : bool. The antithetic draw: the smallest words are kept.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for k > 0; Var[y] = x^2 (n - k) / k.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, an axis does not exist, `axis` is shared, or the
    window splits it. TypeError if x is not floating.

    References
    ----------
    This library's own form; no paper is known to us that defines it. It is simple random sampling
    without replacement, by sorting random keys (Sunter, 1977, Applied Statistics 26, 261-268).

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.k_of_n_dropout(np.ones(8), 0.5, thinned.Address(seed=1)).sum()
    np.float64(8.0)
    """
    draws = Draws("k_of_n_dropout", x, p, at, training, window, mirror)
    n_axes = len(draws.shape)
    if not n_axes:
        raise ValueError(message("k_of_n_dropout", "x", "an array with axes", "none"))
    along = checks.integer("k_of_n_dropout", "axis", axis, -n_axes, n_axes) % n_axes
    shared = checks.axes("k_of_n_dropout", shared_axes, n_axes)
    if along in shared:
        requirement = f"free of axis {along}, along which units are counted"
        raise ValueError(message("k_of_n_dropout", "shared_axes", requirement, shared))
    if not draws.training:
        return x
    xp, n = draws.xp, draws.shape[along]
    if isinstance(draws.p, float):
        k: Any = n - round(draws.p * n)
        scale: Any = n / k if k else 1.0
    else:
        draws.require_rates_along(along)
        k = n - _rounded(xp, draws.p, n)
        scale = xp.where(k > 0, n / xp.where(k > 0, k, 1.0), 1.0)
    return draws.select(x, draws.keep_k_of_n(k, along, shared), scale)
