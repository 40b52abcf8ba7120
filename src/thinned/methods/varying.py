"""A rate for each row or element: p as an array. And masks of the entries of a sparse one."""

from __future__ import annotations

from typing import Any, Protocol

from thinned.backends import backend_of
from thinned.backends.base import Draw, device_of
from thinned.checks import message
from thinned.methods.arguments import anywhere, require_alike
from thinned.window import Placement

__all__ = ["keep_each", "keep_of", "rates_for"]


class Call(Protocol):
    """The draws of one call of a method, as far as rates are concerned."""

    who: str
    x: Any
    shape: Any
    backend: Any
    stored: Any

    @property
    def xp(self) -> Any: ...

    def draw(
        self,
        threshold: Any,
        shared_axes: tuple[int, ...],
        shape: Any,
        number: int,
        *,
        reduced: bool = ...,
    ) -> Draw: ...

    def keep(self, p: Any, shared_axes: tuple[int, ...], *, number: int) -> Any: ...

    def require_rates_along(self, *axes: int) -> None: ...


def rates_for(draws: Call, p: Any) -> Any:
    """p, an array of probabilities of the library of a call's x that broadcasts to its shape: in
    the type of p's arithmetic, of as many axes, without gradients."""
    who, backend = draws.who, draws.backend
    p = require_alike(who, "p", p, "x", draws.x)
    backend.require_floating(who, p, "p")
    found, shape = tuple(p.shape), tuple(draws.shape)
    lengths = (1,) * (len(shape) - len(found)) + found
    if len(found) > len(shape) or any(n not in (1, m) for n, m in zip(lengths, shape, strict=True)):
        needed = f"an array that broadcasts to x's shape {shape}"
        raise ValueError(message(who, "p", needed, f"shape {found}"))
    if anywhere(backend, p, condition=lambda p: ~((p >= 0) & (p <= 1))):
        raise ValueError(message(who, "p", "in [0, 1] in every element", "some outside"))
    xp = backend.namespace
    return backend.stop_gradient(xp.astype(xp.reshape(p, lengths), xp.float64))


def keep_of(draws: Call, threshold: Any, shared_axes: tuple[int, ...], number: int, p: Any) -> Any:
    """The keep mask of a call whose p differs from element to element, or whose x is sparse: then
    of its stored entries."""
    stored = draws.stored
    if stored is None:
        return draws.keep(p, shared_axes, number=number)
    draw = draws.draw(threshold, shared_axes, None, number, reduced=False)
    require_countable(draws.who, draws.xp, draw.place)
    draws.require_rates_along(*shared_axes)
    index = stored.indices(draws.xp, draw.place)
    return draws.backend.keep_each(draw.at, threshold, index, draw.mirror)


def keep_each(who: str, x: Any, threshold: Any, draw: Draw) -> Any:
    """The keep mask at a threshold for each element, of the draw's shape."""
    backend = backend_of(who, x)
    xp, place = backend.namespace, draw.place
    require_countable(who, xp, place)
    shape, device = place.shape, device_of(x)
    index = xp.full((1,) * len(shape), 0, dtype=xp.int64, device=device) + place.offset
    for axis, (n, stride) in enumerate(zip(shape, place.strides, strict=True)):
        steps = xp.arange(n, dtype=xp.int64, device=device) * stride
        index = index + xp.reshape(steps, (n,) + (1,) * (len(shape) - axis - 1))
    return backend.keep_each(draw.at, threshold, index, draw.mirror)


def require_countable(who: str, xp: Any, place: Any) -> None:
    """An error unless a placement's indices are known, and the library's integers hold them."""
    if not hasattr(place, "strides"):
        remedy = "Give the part a thinned.Window, whose numbers are known."
        raise TypeError(message(who, "window", "known for such an x or p", "a traced one", remedy))
    if not isinstance(place, Placement):
        return  # of PyTorch's compiler, whose integers hold every index
    steps = zip(place.shape, place.strides, strict=True)
    last = place.offset + sum([(n - 1) * stride for n, stride in steps if n])
    if last > int(xp.iinfo(xp.asarray(0, dtype=xp.int64).dtype).max):
        remedy = "Set jax_enable_x64, or draw for parts with a fold_in each."
        raise ValueError(message(who, "an index", "a number of 31 bits here", last, remedy))
