"""What each kind of dropout does to an array at an address: who shares a draw, which values."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned import reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch.backend import Noise, noise
from thinned.backends.torch.operators import BERNOULLI, NOISED
from thinned.torch.dropin import functional
from thinned.torch.dropin.functional import ALPHA
from thinned.window import Window, place

__all__ = ["ALPHA_KINDS", "affine", "forward", "in_graph", "shared_axes"]

ALPHA_KINDS = ("alpha_dropout", "feature_alpha_dropout")


def shared_axes(kind: str, x: Tensor) -> tuple[int, ...]:
    """The axes that share a draw; the checks, errors and warnings of the function named `kind`."""
    if kind == "dropout":
        return ()
    n = x.dim()
    if kind == "feature_dropout":
        if n < 2:
            raise RuntimeError(
                "feature_dropout: input must have rows and channels, at least 2 axes, got shape "
                f"{tuple(x.shape)}."
            )
        return tuple(range(2, n))
    getattr(functional, kind)(x, 0.0, True)
    if kind == "alpha_dropout":
        return ()
    unbatched = (kind == "dropout1d" and n != 3) or (kind == "dropout3d" and n == 4)
    return tuple(range(1 if unbatched else 2, n))


def forward(
    x: Tensor,
    p: float,
    kind: str,
    at: Address,
    shared: tuple[int, ...],
    window: Window | None,
    inplace: bool = False,
) -> Tensor:
    """The values in training, differentiable in eager code."""
    if kind not in ALPHA_KINDS:
        return functional.dropout(
            x, p, True, inplace, at=at, shared_axes=shared, window=window, mirror=at.mirrored
        )
    if p == 0.0:
        return x
    if p == 1.0:
        y = functional.alpha_dropout(x, 1.0, True)
    else:
        a, b = affine(p)
        # Half types go through float32, as in functional.alpha_dropout: one rounding, at the end.
        wide = x if x.dtype.itemsize >= 4 else x.float()
        how = Noise(_drawn(x, p, at, shared, window), 1.0, ALPHA)
        y = (noise(wide, None, how) * a + b).to(x.dtype)
    return x.copy_(y) if inplace else y


def in_graph(x: Tensor, kind: str, words: Tensor, rate: Tensor) -> Tensor:
    """The same in a compiled program, with a site's words and rate (clock/in_graphs.py)."""
    if kind not in ALPHA_KINDS:
        y: Tensor = NOISED(x, words, rate, 0.0, False, BERNOULLI)
        return y
    threshold, _, _, a, b = rate.unbind()
    wide = x if x.dtype.itemsize >= 4 else x.float()
    unscaled = torch.stack([threshold, torch.ones_like(threshold)])
    kept: Tensor = NOISED(wide, words, unscaled, ALPHA, False, BERNOULLI)
    return (kept * a + b).to(x.dtype)


def affine(p: float) -> tuple[float, float]:
    """a and b of alpha dropout's a x + b: zeros at p = 1, where nothing is kept."""
    if p == 1.0:
        return 0.0, 0.0
    a = ((1.0 - p) * (1.0 + p * ALPHA**2)) ** -0.5
    return a, -a * ALPHA * p


def _drawn(
    x: Tensor, p: float, at: Address, shared: tuple[int, ...], window: Window | None
) -> Draw:
    where = place("alpha_dropout", tuple(x.shape), shared, window)
    return Draw(at, reference.threshold(p), where, at.mirrored)
