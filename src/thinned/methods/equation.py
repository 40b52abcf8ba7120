"""The one equation, y = f + s m (x - f): where every method ends up."""

from __future__ import annotations

from typing import Any

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import Draw, backend_of
from thinned.checks import message
from thinned.window import Window, place

__all__ = ["apply_noise", "draw_for"]


def draw_for(
    who: str,
    shape: tuple[int, ...],
    p: Any,
    at: Address,
    shared_axes: Any = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Draw:
    """A Bernoulli draw for an array of `shape`, its parameters checked in `who`'s name."""
    p = checks.probability(who, p)
    if not isinstance(at, Address):
        remedy = "Give a mask its address: thinned.Address(seed=0, site='fc1', step=7)."
        raise TypeError(message(who, "at", "a thinned.Address", type(at).__name__, remedy))
    placement = place(who, shape, shared_axes, window)
    return Draw(at, reference.threshold(p), placement, checks.flag(who, "mirror", mirror))


def apply_noise(
    who: str,
    x: Any,
    p: Any,
    at: Address,
    *,
    scale: float | None = None,
    fill: Any = 0.0,
    training: bool = True,
    shared_axes: Any = (),
    window: Window | None = None,
    mirror: bool = False,
    out: Any = None,
) -> Any:
    """y = fill + scale m (x - fill), m ~ Bernoulli(1 - p) drawn at `at`; scale None is 1 / (1 - p).

    With training=False, x itself; or, where `out` is given, `out` with x copied into it. Every
    parameter is checked in either case, so that a mistake does not wait for training to show.
    """
    backend = backend_of(who, x)
    backend.require_floating(who, x)
    if out is not None:
        backend.require_out(who, x, out)
    draw = draw_for(who, tuple(x.shape), p, at, shared_axes, window, mirror)
    if not checks.flag(who, "training", training):
        return x if out is None else backend.copy(x, out)
    if scale is None:
        scale = reference.scale_for(float(p))
    return backend.apply(x, draw, scale, fill, out)
