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
    at: Address,
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
    if not isinstance(at, Address):
        remedy = "Give a mask its address: thinned.Address(seed=0, site='fc1', step=7)."
        raise TypeError(message(who, "at", "a thinned.Address", type(at).__name__, remedy))
    at, placement = backend.placed(who, at, window, shape, shared_axes)
    threshold = backend.rate(p)[0] if traced else reference.threshold(p)
    if mirror is not False:
        mirror = checks.flag(who, "mirror", mirror)
    if at.mirrored:
        mirror = not mirror
    return Draw(at, threshold, placement, mirror)
