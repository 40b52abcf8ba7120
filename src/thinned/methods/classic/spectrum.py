"""Spectral dropout: weak coefficients of a cosine transform are dropped."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.backends.base import device_of
from thinned.laws import PLAIN_BERNOULLI
from thinned.methods.arguments import MOST_AXES, number, one_of
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["spectral_dropout"]

KHAN = Paper(
    "Khan, Hayat, Porikli", 2017, "Regularization of deep neural networks with spectral dropout",
    "arXiv:1711.08591",
)  # fmt: skip


def _cosines(xp: Any, n: int, dtype: Any, device: Any) -> Any:
    """The orthonormal DCT-II, shape (n, n): row k holds the cosine of frequency k."""
    i = xp.arange(n, dtype=xp.int64, device=device)
    # The angle's whole turns go as integers: in binary32 they would cost it digits.
    quarter = xp.astype(((2 * i[None, :] + 1) * i[:, None]) % (4 * n), dtype)
    rows = xp.cos(quarter * (math.pi / max(2 * n, 1))) * (2.0 / max(n, 1)) ** 0.5
    return xp.where(i[:, None] == 0, rows * 0.5**0.5, rows)


def _moments(
    x: NDArray[np.float64], p: float, tau: float = 0.1, axis: int = 1, **_: Any
) -> tuple[Any, Any]:
    n = x.shape[axis]
    i = np.arange(n)
    d = np.cos(np.pi * np.outer(i, i + 0.5) / n) * np.sqrt(np.where(i == 0, 1, 2) / n)[:, None]
    c = np.moveaxis(x, axis, -1) @ d.T
    c = np.where(abs(c) > tau, 0.0, c)
    mean, variance = p * (c @ d), p * (1.0 - p) * (c**2 @ d**2)
    return x - np.moveaxis(mean, -1, axis), np.moveaxis(variance, -1, axis)


def _check(who: str, tau: Any, axis: Any, weak: Any) -> None:
    number(who, "tau", tau, 0.0)
    checks.integer(who, "axis", axis, -MOST_AXES, MOST_AXES)
    one_of(who, "weak", weak, ("drawn", "cut"))


@method(
    title="Spectral Dropout",
    rank="classic",
    target="coefficients of a cosine transform",
    formula="y = D' M D x,  M_k ~ Bernoulli(1 - p) where |D x|_k <= tau, and 1 elsewhere",
    law=PLAIN_BERNOULLI,
    scale="1",
    moments=Moments("x - p D' w,  w the weak of D x", "p (1 - p) (D * D)' (w * w)", _moments),
    papers=(KHAN,),
    module="SpectralDropout",
    check=_check,
    sample=Sample(options={"tau": 0.9}, splits=(0,), p_one="finite", dropped=None, linear=False),
    note="Drops weak spectral coefficients: more a compression method than a regulariser. tau is "
    "in the units of x. Of historical interest.",
)
def spectral_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    tau: float = 0.1,
    axis: int = 1,
    weak: str = "drawn",
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop weak coefficients of the activations' cosine transform.

    y = D' M D x, D the orthonormal DCT-II along an axis. A coefficient c of D x is weak if
    |c| <= tau. M is 0 for a weak coefficient with probability p, and 1 for all others.

    Parameters
    ----------
    x : array, floating: activations. Never modified.
    p : float in [0, 1]. Probability of dropping a weak coefficient; p = 0 gives x.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    tau : float of at least 0, in the units of x. The magnitude up to which a coefficient is weak;
        it must be tuned.
    axis : int. The axis that is transformed, at the cost of two products with an (n, n) matrix.
    weak : "drawn", as above, or "cut": every weak coefficient is dropped, and the others with
        probability p. The paper can be read both ways.
    window : Window or None. Where x sits in a larger logical array; it may not split `axis`.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. With w the weak coefficients, E[y] = x - p D' w and
    Var[y] = p (1 - p) (D * D)' (w * w), for weak="drawn".

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, tau is negative, the axis does not exist, `weak` is
    unknown, or the window splits the axis. TypeError if x is not floating.

    References
    ----------
    Khan, Hayat and Porikli, 2017, arXiv:1711.08591.
    """
    draws = Draws("spectral_dropout", x, p, at, training, window, mirror)
    who, count = draws.who, len(draws.shape)
    tau = number(who, "tau", tau, 0.0)
    axis = checks.integer(who, "axis", axis, -count, count) % count
    one_of(who, "weak", weak, ("drawn", "cut"))
    draws.require_whole(axis)
    if not draws.training:
        return x
    xp, wide = draws.xp, draws.wide(x)
    device = device_of(x)
    d = _cosines(xp, draws.shape[axis], wide.dtype, device)
    c = xp.matmul(xp.moveaxis(wide, axis, -1), xp.matrix_transpose(d))
    kept = draws.backend.divided_as(xp.moveaxis(draws.keep(), axis, -1), c)
    strong = xp.abs(c) > tau
    kept = kept | strong if weak == "drawn" else kept & strong
    # What is lost is taken away from x, so that x itself stays to the bit where nothing is.
    lost = xp.matmul(xp.where(kept, xp.zeros_like(c), c), d)
    return xp.astype(wide - xp.moveaxis(lost, -1, axis), x.dtype)
