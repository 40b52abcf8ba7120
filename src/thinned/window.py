"""Window: where the array at hand sits in the logical array, and the indices that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from thinned import checks
from thinned.checks import message, shown

__all__ = [
    "MOST_BITS",
    "MOST_WORDS",
    "Placement",
    "Repeated",
    "Window",
    "fitting",
    "index_strides",
    "place",
    "place_anew",
]

# What the spec can address: 2^40 blocks, of 128 lanes in Bernoulli draws, of 4 words in all others.
# A larger index would run into the counter's next field, and draw what another call draws.
MOST_BITS = 2**47
MOST_WORDS = 2**42


@dataclass(frozen=True, slots=True)
class Window:
    """The place of an array inside the logical array: of a shard, a chunk, a micro-batch.

    Parameters
    ----------
    start : int or tuple of ints, >= 0. Where the array begins: along the leading axis, or one
        number for each axis.
    global_shape : int or tuple of ints, or None. The shape of the logical array. None only where
        nothing but the leading axis is split: the length of that axis enters no index.

    Raises
    ------
    ValueError if a number is negative, if lengths disagree, or if None is given and an axis other
    than the leading one starts elsewhere than at 0.

    Examples
    --------
    Rows 32 to 63 of a batch, drawn apart, are what they are in the whole batch:

    >>> import thinned
    >>> at = thinned.Address(seed=0, site="fc1")
    >>> whole = thinned.keep_mask((64, 10), 0.5, at)
    >>> part = thinned.keep_mask((32, 10), 0.5, at, window=thinned.Window(32))
    >>> bool((whole[32:] == part).all())
    True
    """

    start: int | tuple[int, ...]
    global_shape: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        start = checks.shape("Window", self.start, "start")
        whole = None
        if self.global_shape is not None:
            whole = checks.shape("Window", self.global_shape, "global_shape")
            if len(start) != len(whole) and len(start) != 1:
                raise ValueError(
                    message("Window", "start", f"one number for each axis of {whole}", start)
                )
        elif any(start[1:]):
            raise ValueError(
                f"Window: start {start} splits more than the leading axis, so the shape of the "
                "whole array is needed. Pass global_shape."
            )
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "global_shape", whole)

    def onto(
        self, who: str, held: tuple[int, ...], shape: tuple[int, ...], shared: tuple[int, ...] = ()
    ) -> Window:
        """This window, of an array of shape `held`, for draws of another shape made for it.

        Axes on which the two lengths agree are split as the array is. On all others, but for the
        shared ones, the draws belong to the whole axis, and the array must hold the whole of it.

        Raises
        ------
        ValueError if it does not.
        """
        if isinstance(self, Repeated):
            shared = (*shared, *self.axes)
        start, whole = _window(who, held, shared, self)
        lengths = list(whole)
        for axis, (n, drawn) in enumerate(zip(held, shape, strict=True)):
            if n != drawn and axis not in shared:
                self.require_whole(who, held, (axis,))
                lengths[axis] = drawn
        if self.global_shape is None:  # then the end of the leading axis is unknown
            return replace(self, start=start)
        return replace(self, start=start, global_shape=tuple(lengths))

    def require_whole(self, who: str, held: tuple[int, ...], axes: tuple[int, ...]) -> None:
        """ValueError if an array of shape `held` in this window holds a part of one of `axes`."""
        start, whole = _window(who, held, (), self)
        for axis in axes:
            first, n, end = start[axis], held[axis], whole[axis]
            if first or end != n:
                raise ValueError(
                    f"{who}: axis {axis} must be whole, and the window holds "
                    f"[{first}, {first + n}) of {end}. Split another axis."
                )


@dataclass(frozen=True, slots=True)
class Repeated(Window):
    """A window in which all entries along `axes` take the same draws: these axes count as shared.

    For code that hands on a window, and does not ask which axes of its draws are shared.
    """

    axes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which draw each element takes: element (i, j, ...) has index offset + i strides[0] + ...

    `strides` count elements of the logical array; a shared axis has stride 0. `shape` is the shape
    of the array at hand. `in_order` says that the indices run on by one through the whole array;
    `steps` is None where they do so from the array's own C order alone, else `strides`.
    """

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    in_order: bool
    steps: tuple[int, ...] | None

    @property
    def size(self) -> int:
        """The number of elements of the array at hand."""
        return math.prod(self.shape)

    @property
    def drawn(self) -> tuple[int, ...]:
        """The shape of the draws themselves: 1 along shared axes."""
        pairs = zip(self.shape, self.strides, strict=True)
        return tuple(1 if stride == 0 and n else n for n, stride in pairs)


def place(
    who: str,
    shape: tuple[int, ...],
    shared_axes: Any = (),
    window: Window | None = None,
    most: int = MOST_BITS,
) -> Placement:
    """The placement of an array of `shape`. ValueError where axes or window do not fit it, or an
    index is not below `most`."""
    return _place(who, shape, *fitting(who, shape, shared_axes, window), most)


def place_anew(
    who: str,
    shape: tuple[int, ...],
    shared_axes: Any = (),
    window: Window | None = None,
    most: int = MOST_BITS,
) -> Placement:
    """The same without a cache, for a compiler that reads the program: lengths may be symbols."""
    return _place.__wrapped__(who, shape, *fitting(who, shape, shared_axes, window), most)


def fitting(
    who: str, shape: tuple[int, ...], shared_axes: Any, window: Any
) -> tuple[tuple[int, ...], Window | None]:
    """The shared axes of an array of `shape`, counted from the front, and the window.

    TypeError or ValueError where they are none of such an array's.
    """
    if window is not None and not isinstance(window, Window):
        got = shown(window)
        raise TypeError(message(who, "window", "a thinned.Window", got))
    axes = checks.axes(who, shared_axes, len(shape))
    if isinstance(window, Repeated) and not set(window.axes) <= set(axes):
        axes = tuple(sorted({*axes, *window.axes}))
    return axes, window


@lru_cache(maxsize=1024)
def _place(
    who: str, shape: tuple[int, ...], shared: tuple[int, ...], window: Window | None, most: int
) -> Placement:
    # Kept because a training loop asks for the same few places again and again.
    start, whole = _window(who, shape, shared, window)
    strides = index_strides(whole, shared)
    stride = math.prod([n for axis, n in enumerate(whole) if axis not in shared])
    offset = sum([s * n for s, n in zip(start, strides, strict=True)])
    last = offset + sum([(n - 1) * s for n, s in zip(shape, strides, strict=True)])
    # An array without elements has no last one, and begins somewhere nevertheless.
    if max(offset, last) >= most:
        raise ValueError(
            message(
                who,
                "the logical array",
                f"smaller than 2^{most.bit_length() - 1} elements",
                f"index {max(offset, last)}",
                "Split it, and fold_in the number of each part.",
            )
        )
    run, in_order = 1, True
    for n, step in zip(reversed(shape), reversed(strides), strict=True):
        in_order = in_order and (n == 1 or step == run)
        run *= n
    # A step along an axis of one element is never made, and may be larger than any index.
    strides = tuple([s if n > 1 else min(s, most) for n, s in zip(shape, strides, strict=True)])
    steps = None if in_order and run == stride else strides
    return Placement(shape, offset, strides, in_order, steps)


def index_strides(whole: tuple[int, ...], shared: tuple[int, ...]) -> tuple[int, ...]:
    """What one step along each axis of a logical array of shape `whole` adds to the index."""
    strides, stride = [0] * len(whole), 1
    for axis in reversed(range(len(whole))):
        if axis not in shared:
            strides[axis] = stride
            stride *= whole[axis]
    return tuple(strides)


def _window(
    who: str, shape: tuple[int, ...], shared: tuple[int, ...], window: Window | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and whole shape, checked against the array; shared axes are not looked at."""
    if window is None:
        return (0,) * len(shape), shape
    start, whole = window.start, window.global_shape
    assert isinstance(start, tuple)
    if len(start) == 1 and len(shape) > 1:
        start = start + (0,) * (len(shape) - 1)
    if len(start) != len(shape):
        raise ValueError(message(who, "window.start", f"of {len(shape)} axes, as the array", start))
    if whole is None:
        return start, shape
    assert isinstance(whole, tuple)
    if len(whole) != len(shape):
        raise ValueError(
            message(who, "window.global_shape", f"of {len(shape)} axes, as the array", whole)
        )
    for axis, (first, n, end) in enumerate(zip(start, shape, whole, strict=True)):
        if axis not in shared and first + n > end:
            raise ValueError(
                f"{who}: the window does not fit: axis {axis} holds [{first}, {first + n}) "
                f"of a logical array of length {end}."
            )
    return start, whole
