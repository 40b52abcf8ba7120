"""What each kind of dropout does to an array at an address: who shares a draw, which values.

The kinds are named after the functions of `functional`, and what these check of a call was checked
here by the code that made the site: what is left is whether noise can be put on the array at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.address import Address
from thinned.backends.torch.operators import BERNOULLI, NOISED
from thinned.methods.alpha import ALPHA, affine
from thinned.torch.dropin import functional, noise
from thinned.window import Window

__all__ = ["ALPHA_KINDS", "affine", "forward", "in_graph", "shared_axes"]

ALPHA_KINDS = ("alpha_dropout", "feature_alpha_dropout")


def shared_axes(kind: str, x: Tensor) -> tuple[int, ...]:
    """The axes that share a draw; the errors and warnings of the function named `kind`."""
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
    if p == 0.0:
        return x
    noise.require("dropout", x)
    if kind in ALPHA_KINDS:
        return noise.self_normalising(kind, x, p, inplace, None, at, shared, window, at.mirrored)
    if x.is_nested:
        return noise.on_values(x, p, inplace, None, at, at.mirrored)
    return noise.noisy("dropout", x, p, inplace, None, at, shared, window, at.mirrored)


def in_graph(
    x: Tensor, kind: str, words: Tensor, rate: Tensor, shared: tuple[int, ...] | None
) -> Tensor:
    """The same in a compiled program, with a site's words and rate (clock/in_graphs.py). shared :
    the axes that share a draw; None where x may be a part along another axis than the first."""
    if x.is_complex() and kind not in ALPHA_KINDS:  # the same words, and so one mask
        parts = [in_graph(part, kind, words, rate, shared) for part in (x.real, x.imag)]
        return torch.complex(*parts)
    if kind not in ALPHA_KINDS:
        y: Tensor = NOISED(x, words, rate, 0.0, False, BERNOULLI, None, shared)
        return y
    threshold, _, _, a, b = rate.unbind()
    wide = x if x.dtype.itemsize >= 4 else x.float()
    unscaled = torch.stack([threshold, torch.ones_like(threshold)])
    kept: Tensor = NOISED(wide, words, unscaled, ALPHA, False, BERNOULLI, None, shared)
    return (kept * a + b).to(x.dtype)
