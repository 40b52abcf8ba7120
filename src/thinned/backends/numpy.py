"""The NumPy backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import reference
from thinned.backends.base import Draw
from thinned.checks import message
from thinned.window import Placement

__all__ = ["backend"]

# By name, since bfloat16 is ml_dtypes' own and that package need not be there.
FLOATING = ("float16", "bfloat16", "float32", "float64")

# A run of elements with consecutive indices that is worth a call of its own.
LONG_RUN = 4096


class NumpyBackend:
    def require_floating(self, who: str, x: Any) -> None:
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                f"{who}: x must be a plain array, got a masked one. Fill it first: x.filled(0.0)."
            )
        if x.dtype.name not in FLOATING:
            remedy = "Convert it first: x.astype(numpy.float32)."
            raise TypeError(message(who, "x", f"of type {_listed()}", x.dtype.name, remedy))

    def require_out(self, who: str, x: NDArray[Any], out: Any) -> None:
        if not isinstance(out, np.ndarray):
            raise TypeError(message(who, "out", "a numpy array", type(out).__name__))
        if out.shape != x.shape:
            raise ValueError(message(who, "out", f"of x's shape {x.shape}", out.shape))
        if out.dtype != x.dtype:
            raise TypeError(message(who, "out", f"of x's type {x.dtype.name}", out.dtype.name))
        if not out.flags.writeable:
            raise ValueError(f"{who}: out is read-only. Pass an array that can be written.")

    def keep(self, draw: Draw) -> NDArray[np.bool_]:
        mask = _keep_drawn(draw)
        if mask.shape == draw.place.shape:
            return mask
        return np.ascontiguousarray(np.broadcast_to(mask, draw.place.shape))

    def apply(self, x: Any, draw: Draw, scale: float, fill: Any, out: Any) -> Any:
        y = reference.apply(np.asarray(x), _keep_drawn(draw), scale, fill)
        if out is not None:
            return self.copy(y, out)
        return y[()] if isinstance(x, np.generic) else y

    def copy(self, x: Any, out: NDArray[Any]) -> NDArray[Any]:
        np.copyto(out, x)
        return out


def _listed() -> str:
    return ", ".join(FLOATING[:-1]) + f" or {FLOATING[-1]}"


def _keep_drawn(draw: Draw) -> NDArray[np.bool_]:
    """The mask before it is repeated along shared axes, where it has length 1."""
    place, at, t = draw.place, draw.at, draw.threshold
    shape = place.drawn
    size = math.prod(shape)
    outer, run = _runs(place, shape)
    if size == 0 or t in (0, 2**32):
        return np.full(shape, t == 0)
    if run == size:
        return reference.keep_range(at, t, place.offset, size, draw.mirror).reshape(shape)
    starts = _indices(place, shape[:outer])
    if run >= LONG_RUN:
        parts = [reference.keep_range(at, t, int(i), run, draw.mirror) for i in starts.flat]
        return np.concatenate(parts).reshape(shape)
    index = np.add(starts.reshape(-1, 1), np.arange(run, dtype=np.uint64), dtype=np.uint64)
    return reference.keep_at(at, t, index, draw.mirror).reshape(shape)


def _runs(place: Placement, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many leading axes stand outside of runs of consecutive indices; and a run's length."""
    run, outer = 1, len(shape)
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1 and place.strides[axis] != run:
            break
        run *= shape[axis]
        outer = axis
    return outer, run


def _indices(place: Placement, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """The logical index of each element of the leading axes `shape`."""
    index = np.full(shape, place.offset, np.uint64)
    for axis, n in enumerate(shape):
        steps = np.arange(n, dtype=np.uint64) * np.uint64(place.strides[axis])
        index += steps.reshape((n,) + (1,) * (len(shape) - axis - 1))
    return index


backend = NumpyBackend()
