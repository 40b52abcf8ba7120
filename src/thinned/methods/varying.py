"""A rate for each row or element: p as an array."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.backends import backend_of
from thinned.backends.base import Draw
from thinned.checks import message
from thinned.methods.arguments import anywhere, require_alike, require_broadcast
from thinned.methods.draws import NO_P, Draws
from thinned.methods.placing import draw_for
from thinned.window import Placement

__all__ = ["dropout_at_rates", "keep_each"]


def dropout_at_rates(
    who: str, x: Any, p: Any, at: Any, training: Any, shared_axes: Any, window: Any, mirror: Any,
    out: Any,
) -> Any:  # fmt: skip
    """y = x m / (1 - p), p an array that broadcasts to x's shape."""
    backend = backend_of(who, x)
    backend.require_floating(who, x)
    if out is not None:
        backend.require_out(who, x, out)
    draw = draw_for(who, tuple(x.shape), 0.5, at, shared_axes, window, mirror, backend)
    p = require_rates(who, x, p, checks.axes(who, shared_axes, len(x.shape)))
    if training is not True and not checks.flag(who, "training", training):
        return x if out is None else backend.copy(x, out)
    threshold, scale = backend.rates(p)
    keep = keep_each(who, x, threshold, draw)
    y = backend.or_nan(draw.at, Draws(who, x, NO_P, at).select(x, keep, scale))
    return y if out is None else backend.copy(y, out)


def require_rates(who: str, x: Any, p: Any, shared: tuple[int, ...]) -> Any:
    """p, an array of x's library of probabilities, of as many axes as x."""
    backend = backend_of(who, x)
    p = require_alike(who, "p", p, "x", x)
    backend.require_floating(who, p, "p")
    require_broadcast(who, "p", p, "x", x)
    lengths = (1,) * (len(x.shape) - len(p.shape)) + tuple(p.shape)
    for axis in shared:
        if lengths[axis] != 1:
            requirement = f"of length 1 along axis {axis}, which shares its draws"
            raise ValueError(message(who, "p", requirement, f"shape {tuple(p.shape)}"))
    if anywhere(backend, p, condition=lambda p: ~((p >= 0) & (p <= 1))):
        raise ValueError(message(who, "p", "in [0, 1] in every element", "some outside"))
    return backend.namespace.reshape(p, lengths)


def keep_each(who: str, x: Any, threshold: Any, draw: Draw) -> Any:
    """The keep mask at a threshold for each element, 1 along the axes that share a draw."""
    backend = backend_of(who, x)
    xp, place = backend.namespace, draw.place
    require_countable(who, xp, place)
    shape, device = place.drawn, getattr(x, "device", None)
    index = xp.full(shape, place.offset, dtype=xp.int64, device=device)
    for axis, (n, stride) in enumerate(zip(shape, place.strides, strict=True)):
        steps = xp.arange(n, dtype=xp.int64, device=device) * stride
        index = index + xp.reshape(steps, (n,) + (1,) * (len(shape) - axis - 1))
    return backend.keep_each(draw.at, threshold, index, draw.mirror)


def require_countable(who: str, xp: Any, place: Any) -> None:
    """An error unless a placement's indices are known, and the library's integers hold them."""
    if not isinstance(place, Placement):
        remedy = "Give the part a thinned.Window, whose numbers are known."
        raise TypeError(message(who, "window", "known for such an x or p", "a traced one", remedy))
    steps = zip(place.shape, place.strides, strict=True)
    last = place.offset + sum([(n - 1) * stride for n, stride in steps if n])
    if last > int(xp.iinfo(xp.asarray(0, dtype=xp.int64).dtype).max):
        remedy = "Set jax_enable_x64, or draw for parts with a fold_in each."
        raise ValueError(message(who, "an index", "a number of 31 bits here", last, remedy))
