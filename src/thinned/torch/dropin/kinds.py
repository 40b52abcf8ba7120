"""What each kind of dropout does to an array at an address: who shares a draw, which values."""

from __future__ import annotations

from torch import Tensor

from thinned import reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch.backend import Noise, noise
from thinned.torch.dropin import functional
from thinned.torch.dropin.functional import ALPHA
from thinned.window import Window, place

__all__ = ["ALPHA_KINDS", "backward", "forward", "shared_axes"]

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
        a, b = _affine(p)
        # Half types go through float32, as in functional.alpha_dropout: one rounding, at the end.
        wide = x if x.dtype.itemsize >= 4 else x.float()
        how = Noise(_drawn(x, p, at, shared, window), 1.0, ALPHA)
        y = (noise(wide, None, how) * a + b).to(x.dtype)
    return x.copy_(y) if inplace else y


def backward(
    grad: Tensor,
    p: float,
    kind: str,
    at: Address,
    shared: tuple[int, ...],
    window: Window | None,
) -> Tensor:
    """The gradient of `forward` with respect to x: the same mask on the incoming gradient."""
    if kind not in ALPHA_KINDS:
        return forward(grad, p, kind, at, shared, window)
    if p in (0.0, 1.0):
        return grad if p == 0.0 else grad * 0.0
    a, _ = _affine(p)
    wide = grad if grad.dtype.itemsize >= 4 else grad.float()
    how = Noise(_drawn(grad, p, at, shared, window), 1.0)
    return noise(wide * a, None, how).to(grad.dtype)


def _affine(p: float) -> tuple[float, float]:
    a = ((1.0 - p) * (1.0 + p * ALPHA**2)) ** -0.5
    return a, -a * ALPHA * p


def _drawn(
    x: Tensor, p: float, at: Address, shared: tuple[int, ...], window: Window | None
) -> Draw:
    where = place("alpha_dropout", tuple(x.shape), shared, window)
    return Draw(at, reference.threshold(p), where, at.mirrored)
