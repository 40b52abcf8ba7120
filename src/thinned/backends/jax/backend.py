"""The JAX backend: pure functions of the address, under every transformation.

Two primitives (primitives.py) do all of it. What is known while a program is traced, p and the
coordinates as Python's numbers, becomes constants; what is traced becomes 32-bit words.
"""

from __future__ import annotations

import functools
import operator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from thinned import kernel
from thinned.address import Address
from thinned.backends.base import Backend, Draw, Located
from thinned.backends.jax import spec
from thinned.backends.jax.address import Halves, fold_in, words_of
from thinned.backends.jax.primitives import (
    How,
    HowDrawn,
    beside_p,
    draw_p,
    noise_p,
    on_gradient_p,
)
from thinned.backends.jax.spec import has_symbols
from thinned.checks import axes as checked_axes, message
from thinned.window import MOST_BITS, Placement, Window, index_strides, place

__all__ = ["Drawn", "JaxPlace", "PartOf", "backend", "noted"]

MASK32 = 0xFFFFFFFF
FLOATING = ("float16", "bfloat16", "float32", "float64")
Array = jax.Array


def is_tracer(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


class PartOf(NamedTuple):
    """Stands for a Window in the body of a shard_map: where the part begins is traced.

    start : for each axis, an int or a traced uint32. whole : the shape of the logical array.
    """

    start: tuple[Any, ...]
    whole: tuple[int, ...]


class JaxPlace(NamedTuple):
    """A placement whose offset may be traced: `placed` has the rest, and 0 for it there."""

    placed: Placement
    offset: Halves

    @property
    def shape(self) -> tuple[int, ...]:
        return self.placed.shape

    @property
    def drawn(self) -> tuple[int, ...]:
        return self.placed.drawn


def _placed_by_symbols(who: str, window: Any, shape: Any, shared: tuple[int, ...]) -> JaxPlace:
    """A placement of an array whose lengths are symbols, in a program that jax.export saves. Its
    size is not known yet."""
    if window is not None:
        remedy = "Export the program for lengths that are numbers."
        raise ValueError(message(who, "window", "None where a length is a symbol", window, remedy))
    strides = index_strides(shape, shared)
    return JaxPlace(Placement(shape, 0, strides, False, strides), Halves(0, 0))


class JaxLocated(NamedTuple):
    """As thinned.backends.base.Located, of what may be traced."""

    at: Address
    window: Window | PartOf | None

    def fold_in(self, n: int) -> JaxLocated:
        return self._replace(at=self.at.fold_in(n) if self.at.known else fold_in(self.at, n))

    def place(
        self,
        who: str,
        held: tuple[int, ...],
        shape: tuple[int, ...],
        shared: tuple[int, ...],
        most: int = MOST_BITS,
    ) -> Placement | JaxPlace:
        window = self.window
        if has_symbols(shape):
            return _placed_by_symbols(who, window, shape, shared)
        if not isinstance(window, PartOf):
            return Located(self.at, window).place(who, held, shape, shared, most)
        whole, start = list(window.whole), list(window.start)
        for axis, (n, drawn) in enumerate(zip(held, shape, strict=True)):
            if n != drawn and axis not in shared:
                self.whole(who, held, (axis,))
                whole[axis], start[axis] = drawn, 0
        strides = index_strides(tuple(whole), shared)
        place(who, tuple(whole), shared, None, most)  # which refuses what is too large
        low, high = jnp.uint32(0), jnp.uint32(0)
        for first, stride in zip(start, strides, strict=True):
            if stride:
                low, high = spec.offset_plus(low, high, jnp.uint32(first), stride)
        return JaxPlace(Placement(shape, 0, strides, False, strides), Halves(low, high))

    def whole(self, who: str, held: tuple[int, ...], axes: tuple[int, ...]) -> JaxLocated:
        if isinstance(self.window, Window):
            self.window.require_whole(who, held, axes)
        elif self.window is not None:
            for axis in axes:
                n, end = held[axis], self.window.whole[axis]
                if n != end:
                    raise ValueError(
                        f"{who}: axis {axis} must be whole, and the window holds {n} of {end}. "
                        "Split another axis."
                    )
        return self


def _x64() -> bool:
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


class Namespace:
    """jax.numpy, whose 64-bit types are its own widest: of 32 bits, unless x64 is on."""

    @property
    def float64(self) -> Any:
        return jnp.float64 if _x64() else jnp.float32

    @property
    def int64(self) -> Any:
        return jnp.int64 if _x64() else jnp.int32

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)


_NAMESPACE = Namespace()


class JaxBackend(Backend):
    lies_in_line = False

    @property
    def namespace(self) -> Any:
        return _NAMESPACE

    def located(self, who: str, at: Any, window: Any, shape: tuple[int, ...]) -> JaxLocated:
        if isinstance(window, PartOf):
            if len(window.whole) != len(shape):
                raise ValueError(
                    message(who, "window", f"of {len(shape)} axes, as the array", window.whole)
                )
            return JaxLocated(Located.checked(who, at, None, known=False).at, window)
        return JaxLocated(*Located.checked(who, at, window, known=False))

    def holds(self, kind: Any) -> bool:
        return issubclass(kind, (jax.Array, jax.core.Tracer))

    def require_floating(self, who: str, x: Any, name: str = "x") -> None:
        kind = str(x.dtype)
        if kind not in FLOATING:
            listed = ", ".join(FLOATING[:-1]) + f" or {FLOATING[-1]}"
            remedy = f"Convert it first: {name}.astype(jnp.float32)."
            raise TypeError(message(who, name, f"of type {listed}", kind, remedy))
        self.require_dense(who, x, name)

    def of_complex(self, x: Any) -> bool:
        return bool(jnp.issubdtype(x.dtype, jnp.complexfloating))

    def complex_of(self, real: Any, imaginary: Any) -> Any:
        return lax.complex(real, imaginary)

    def of_integers(self, x: Any) -> bool:
        return bool(jnp.issubdtype(x.dtype, jnp.integer))

    def require_integers(
        self, who: str, x: Any, name: str, requirement: str = "of an integer type"
    ) -> None:
        if not self.of_integers(x):
            raise TypeError(message(who, name, requirement, str(x.dtype)))
        self.require_dense(who, x, name)

    def require_real(self, who: str, x: Any, name: str) -> None:
        # In this way for keys too, whose type is not NumPy's.
        if not any(jnp.issubdtype(x.dtype, k) for k in (jnp.floating, jnp.integer, jnp.bool_)):
            raise TypeError(message(who, name, "an array of real numbers", str(x.dtype)))
        self.require_dense(who, x, name)

    def require_out(self, who: str, x: Any, out: Any) -> None:
        raise TypeError(
            f"{who}: out cannot be used with JAX, whose arrays are never written into. "
            "Take the result, and donate x where its memory matters."
        )

    def staged(self) -> bool:
        return is_tracer(lax.add(np.uint32(0), np.uint32(0)))

    def traced(self, p: Any) -> bool:
        return is_tracer(p)

    def rate(self, p: Any) -> tuple[Any, Any]:
        """Threshold, as two words, and scale. For a p outside [0, 1] they make the noise NaN
        everywhere, because a traced p can raise no error."""
        p = lax.stop_gradient(p)
        if not jnp.issubdtype(p.dtype, jnp.floating) or p.dtype.itemsize < 4:
            p = p.astype(jnp.float32)
        fine = (p >= 0) & (p <= 1)
        # p 2^32, rounded half to even, in parts that are exact in p's own type.
        high = jnp.floor(p * 2.0**16)
        low = jnp.round((p * 2.0**16 - high) * 2.0**16)
        carried = low == 2.0**16
        high = jnp.where(carried, high + 1, high)
        one = high == 2.0**16
        words = [
            jnp.where(fine & keep, part, 0).astype(jnp.int32).astype(jnp.uint32)
            for part, keep in ((high, ~one), (low, ~carried))
        ]
        threshold = Halves(words[0] << 16 | words[1], (fine & one).astype(jnp.uint32))
        return threshold, jnp.where(fine, jnp.where(p == 1, 1.0, _inverse(p)), jnp.nan)

    def placed(
        self, who: str, at: Any, window: Any, shape: tuple[int, ...], shared_axes: Any
    ) -> tuple[Any, Any]:
        if not isinstance(window, PartOf) and not has_symbols(shape):
            return at, place(who, shape, shared_axes, window)
        shared = checked_axes(who, shared_axes, len(shape))
        if has_symbols(shape):
            return at, _placed_by_symbols(who, window, shape, shared)
        return at, self.located(who, at, window, shape).place(who, shape, shape, shared)

    # --------------------------------------------------------------------------------------- draws

    def _draw(self, draw: Draw, law: str, like: Any) -> Any:
        shape, strides, words = _words(draw)
        _note(draw.at, words, law, shape)
        sharding = _sharding_like(shape, like)
        pure, multiple = kernel.uses_reference(), _multiple(draw)
        how = HowDrawn(shape, strides, law, draw.mirror, 0, pure, sharding, multiple)
        return draw_p.bind(words, how=how)

    def keep(self, draw: Draw, like: Any = None) -> Array:
        y: Array = self._draw(draw, "mask", like)
        return y

    def mask(self, draw: Draw, like: Any = None) -> Array:
        # A program that takes an array for its sharding alone would lose it, and with it the mesh.
        y = self.keep(draw, like)
        return y if _sharding_like(like.shape, like) is None else beside_p.bind(y, like)

    def packed(self, draw: Draw) -> Array:
        return jnp.packbits(self.keep(draw).reshape(-1), bitorder="little")

    def words(self, draw: Draw, like: Any = None) -> Array:
        y: Array = self._draw(draw, "words", like)
        return y

    def words_at(self, at: Any, index: Any, mirror: bool) -> Array:
        words = tuple(jnp.asarray(word, jnp.uint32) for word in words_of(at))
        y: Array = spec.words_at(words, *_halves(index), mirror)
        return y

    def keep_each(self, at: Any, threshold: Any, index: Any, mirror: bool) -> Array:
        if not isinstance(threshold, Halves):
            threshold = Halves(np.uint32(threshold & MASK32), np.uint32(threshold >> 32))
        words = tuple(jnp.asarray(word, jnp.uint32) for word in words_of(at))
        y: Array = spec.keep_each(words, threshold, *_halves(index), mirror)
        return y

    def rates(self, p: Any) -> tuple[Any, Any]:
        return self.rate(jnp.asarray(p))

    def at_least(self, words: Array, threshold: Any) -> Any:
        if not isinstance(threshold, Halves):
            threshold = Halves(np.uint32(threshold & MASK32), np.uint32(threshold >> 32))
        return (words >= threshold.low) & (threshold.high == 0)

    def or_nan(self, at: Any, y: Any) -> Any:
        return _or_nan(at, y)

    def uniform(self, draw: Draw, like: Any = None) -> Array:
        y: Array = _or_nan(draw.at, spec.uniform24(self.words(draw, like)))
        return y

    def gaussian(self, draw: Draw, like: Any = None) -> Array:
        y: Array = _or_nan(draw.at, self._draw(draw, "gaussian", like))
        return y

    # -------------------------------------------------------------------------------------- values

    def _noise(self, x: Any, draw: Draw, scale: Any, law: str, fill: Any, primitive: Any) -> Any:
        _, strides, words = _words(draw)
        _note(draw.at, words, law, x.shape)
        kind = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
        scale = lax.stop_gradient(jnp.asarray(scale, kind))
        words, scale = _poisoned(draw.at, words, scale)
        number = isinstance(fill, (int, float))
        given, pure = float(fill) if number else 0.0, kernel.uses_reference()
        how = How(strides, law, draw.mirror, given, 0, pure, _multiple(draw))
        rest = () if number else (_like(jnp.asarray(fill, x.dtype), x),)
        return primitive.bind(*spec.alike(x, words, scale, *rest), how=how)

    def apply_gaussian(self, x: Array, draw: Draw, std: Any, out: Any) -> Array:
        y: Array = self._noise(x, draw, std, "gaussian", 0.0, noise_p)
        return y

    def apply(self, x: Array, draw: Draw, scale: Any, fill: Any, out: Any) -> Array:
        y: Array
        if isinstance(draw.threshold, int) and draw.threshold == 0 and _is_one(scale):
            # Nothing is dropped at p = 0: the program has no draw, and no loop to compile.
            _note(draw.at, _words(draw)[2], "bernoulli", x.shape)
            y = _or_nan(draw.at, lax.convert_element_type(x, x.dtype))
            return y
        y = self._noise(x, draw, scale, "bernoulli", fill, noise_p)
        return y

    def on_gradient(self, x: Array, draw: Draw, scale: Any) -> Array:
        y: Array = self._noise(x, draw, scale, "bernoulli", 0.0, on_gradient_p)
        return y

    def normal_cdf(self, x: Array) -> Array:
        y: Array = jax.scipy.special.ndtr(x)
        return y

    def stop_gradient(self, x: Array) -> Array:
        y: Array = lax.stop_gradient(x)
        return y

    def of_operands(self, function: Any, x: Any, *operands: Any) -> Any:
        if not is_tracer(x):
            return function(x, *operands)
        arrays = [v for v in operands if hasattr(v, "dtype")]

        def of_arrays(x: Any, arrays: Any) -> Any:
            every = iter(arrays)
            return function(x, *(next(every) if hasattr(v, "dtype") else v for v in operands))

        return jax.checkpoint(of_arrays)(x, arrays)

    def undivided(self, array: Any, axes: tuple[int, ...]) -> Any:
        sharding = _sharding_like(array.shape, array)
        return array if sharding is None else _divided(array, _whole_along(sharding, axes))

    def divided_as(self, array: Any, x: Any) -> Any:
        sharding = _sharding_like(array.shape, x)
        return array if sharding is None else _divided(array, sharding)

    def remade(self, function: Any, *arguments: Any) -> Any:
        return jax.checkpoint(function)(*arguments)

    def copy(self, x: Array, out: Array) -> Array:
        raise AssertionError("no array of JAX's was taken for `out`")


class Drawn(NamedTuple):
    """A draw that was observed: its words as in primitives.py, or None where they are traced; the
    name of its site, or None where the site is a number."""

    words: Any
    law: str
    shape: tuple[int, ...]
    name: str | None = None


# Where draws are noted while a model is looked at.
noted: ContextVar[list[Drawn] | None] = ContextVar("noted", default=None)


def _note(at: Address, words: Any, law: str, shape: Any) -> None:
    seen = noted.get()
    if seen is not None:
        known = None if is_tracer(words) else tuple(int(word) for word in np.asarray(words))
        seen.append(Drawn(known, law, tuple(shape), at._name))


def _inverse(p: Any) -> Any:
    """1 / (1 - p), rounded as from binary64 even where p is of binary32.

    1 - p is q + e without error. One step of Newton's method adds to 1 / q what e and rounding
    took from it.
    """
    one = jnp.ones((), p.dtype)
    q = one - p
    e = (one - q) - p
    s = one / jnp.where(q == 0, one, q)
    if p.dtype != jnp.float32:
        return s
    s1, s0 = _parts(s)
    q1, q0 = _parts(q)
    rest = (((one - s1 * q1) - s1 * q0) - s0 * q1) - s0 * q0 - s * e
    return s + s * rest


def _parts(a: Any) -> tuple[Any, Any]:
    """a binary32 number as the sum of two with 12 bits each, whose products are exact."""
    bits = lax.bitcast_convert_type(a, jnp.uint32) & np.uint32(0xFFFFF000)
    high = lax.bitcast_convert_type(bits, jnp.float32)
    return high, a - high


def _words(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...], Any]:
    """Shape, strides and operand of a draw: its words as constants, or as traced."""
    where: Any = draw.place
    if isinstance(where, JaxPlace):
        shape, strides, offset = where.shape, where.placed.strides, tuple(where.offset)
    else:
        shape, strides = where.shape, where.strides
        offset = where.offset & MASK32, where.offset >> 32
    threshold: Any = draw.threshold
    if not isinstance(threshold, Halves):
        threshold = threshold & MASK32, threshold >> 32
    words = (*words_of(draw.at), *threshold, *offset)
    if not has_symbols(shape):
        # A stride of an axis of length 1 moves nothing, and need not make another program.
        strides = tuple(s if n > 1 else min(s, 1) for n, s in zip(shape, strides, strict=True))
    return shape, strides, spec.stacked(words)


def _multiple(draw: Draw) -> int:
    """A number that the place's offset is known to be a multiple of. There are few of them, because
    each compiles another program."""
    where: Any = draw.place
    offset = where.offset
    if isinstance(where, JaxPlace) and not isinstance(offset.low, int):
        return 1
    offset = offset.low if isinstance(offset, Halves) else offset
    return min(offset, spec.ALIGNED) if offset % spec.ALIGNED == 0 else 1


def _is_in_range(at: Address) -> Any:
    """Whether the traced coordinates are in their ranges; None where there is nothing to ask."""
    asked = [
        jnp.asarray(word, jnp.uint32) < np.uint32(end)
        for word, end in ((at.step, 2**32 - 1), (at.call, 2**16))
        if not isinstance(word, int)
    ]
    return functools.reduce(operator.and_, asked) if asked else None


def _poisoned(at: Address, words: Any, scale: Any) -> tuple[Any, Any]:
    """Words and scale. Where a traced coordinate is out of its range, they keep every element and
    scale it by NaN."""
    fine = _is_in_range(at)
    if fine is None:
        return words, scale
    is_threshold = (np.arange(9) == 5) | (np.arange(9) == 6)
    return jnp.where(fine | ~is_threshold, words, np.uint32(0)), jnp.where(fine, scale, jnp.nan)


def _is_one(scale: Any) -> bool:
    return isinstance(scale, (int, float)) and scale == 1.0


def _halves(index: Any) -> tuple[Any, Any]:
    """The lower and the upper word of each index."""
    low = index.astype(jnp.uint32)
    wide = index.dtype.itemsize == 8
    return low, (index >> 32).astype(jnp.uint32) if wide else jnp.zeros_like(low)


def _or_nan(at: Address, drawn: Any) -> Any:
    """Draws that are numbers, or NaN where a traced coordinate is out of its range."""
    fine = _is_in_range(at)
    return drawn if fine is None else jnp.where(fine, drawn, jnp.nan)


def _like(fill: Any, x: Any) -> Any:
    """A fill array of x's shape, sharded as x is where types say so."""
    if fill.shape != x.shape:
        fill = jnp.broadcast_to(fill, x.shape)
    sharding = _sharding_like(x.shape, x)
    return fill if sharding is None else _divided(fill, sharding)


def _divided(array: Any, sharding: Any) -> Any:
    own: Any = jax.typeof(array).sharding
    # Outside of a program an array that lies on one device goes wherever it is needed.
    if own == sharding or (own.mesh.empty and not backend.staged()):
        return array
    return jax.sharding.reshard(array, sharding)  # type: ignore[no-untyped-call]  # JAX: no types


def _whole_along(sharding: Any, axes: tuple[int, ...]) -> Any:
    kept = [None if axis in axes else names for axis, names in enumerate(sharding.spec)]
    # JAX gives PartitionSpec no types.
    return NamedSharding(sharding.mesh, PartitionSpec(*kept))  # type: ignore[no-untyped-call]


def _sharding_like(shape: tuple[int, ...], like: Any) -> Any:
    """How draws of `shape` are sharded for an array whose type says how it is, along the axes where
    their lengths agree."""
    sharding: Any = getattr(jax.typeof(like), "sharding", None) if like is not None else None
    mesh = getattr(sharding, "mesh", None)
    if mesh is None or mesh.empty or AxisType.Explicit not in mesh.axis_types:
        return None
    if len(like.shape) != len(shape):
        return None
    axes = [
        names if n == m else None
        for names, n, m in zip(sharding.spec, shape, like.shape, strict=True)
    ]
    # JAX gives PartitionSpec no types.
    return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]


backend = JaxBackend()
