"""Where the draws of one call lie: address, threshold and place, checked in the method's name."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import Backend, Draw, backend_of
from thinned.checks import message
from thinned.window import Window

__all__ = ["draw_for"]


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
