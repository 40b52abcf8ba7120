"""The one equation, y = f + s m (x - f): where every method ends up."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import Backend, Draw, backend_of
from thinned.checks import message
from thinned.window import Window

__all__ = ["apply_noise", "draw_for"]


def draw_for(
    who: str,
    shape: tuple[int, ...],
    p: Any,
    at: Any,
    shared_axes: Any = (),
    window: Window | None = None,
    mirror: bool = False,
    backend: Backend | None = None,
) -> Draw:
    """A Bernoulli draw for an array of `shape`, its parameters checked in `who`'s name."""
    # Small arrays are many: the common case of each question is settled without a call.
    backend = backend_of(who, np.empty(0)) if backend is None else backend
    traced = type(p) is not float and backend.traced(p)
    if not traced:
        if type(p) is not float or not 0.0 <= p <= 1.0:
            p = checks.probability(who, p)
    elif p.shape != ():
        raise TypeError(message(who, "p", "one number in [0, 1]", f"shape {tuple(p.shape)}"))
    if isinstance(at, Address):
        mirrored = at.mirrored
        at, placement = backend.placed(who, at, window, shape, shared_axes)
    else:  # what stands for one in a compiler's program, or an error that says what is needed
        shared = checks.axes(who, shared_axes, len(shape))
        located = backend.located(who, at, window, shape)
        at, placement, mirrored = located.at, located.place(who, shape, shape, shared), False
    threshold = backend.rate(p)[0] if traced else reference.threshold(p)
    if mirror is not False:
        mirror = checks.flag(who, "mirror", mirror)
    if mirrored:
        mirror = not mirror
    return Draw(at, threshold, placement, mirror)


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
    if (
        training is True
        and scale is None
        and window is None
        and mirror is False
        and type(shared_axes) is tuple
        and not shared_axes
        and type(fill) is float
        and fill == 0.0
    ):
        y = backend.plain_dropout(x, p, at, out)
        if y is not None:
            return y
    backend.require_floating(who, x)
    if out is not None:
        backend.require_out(who, x, out)
    draw = draw_for(who, backend.shape(x), p, at, shared_axes, window, mirror, backend)
    if training is not True and not checks.flag(who, "training", training):
        return x if out is None else backend.copy(x, out)
    if scale is None:
        traced = type(p) is not float and backend.traced(p)
        scale = backend.rate(p)[1] if traced else reference.scale_for(float(p))
    return backend.apply(x, draw, scale, fill, out)
