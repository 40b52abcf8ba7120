"""The random numbers that one call of a method takes: what stands between methods and backends.

A method asks for masks, uniforms and Gaussians by shape and shared axes. Where they come from (an
address or a compiler's stand-in for one, a window, a mirror, this library or that) is settled here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thinned import checks, reference
from thinned.backends import Backend, backend_of, known
from thinned.backends.base import Draw
from thinned.checks import message
from thinned.methods.arguments import require_alike, typed, wide
from thinned.window import MOST_BITS, MOST_WORDS, Window

if TYPE_CHECKING:
    from thinned.methods.stored import Stored

__all__ = ["NO_P", "Draws", "plain_rows"]


class NO_P:  # noqa: N801 - a constant; a class, because compilers of Python know one by identity
    """Stands for p in a call that has none. None will not do: it is a p that was forgotten."""


class Draws:
    """All draws of one call of method `who` on the array x, at one address.

    A method that needs several draws for one element numbers them: draw 0 is made at the address
    itself, draw d at `at.fold_in(d)`.

    p: NO_P for a method without one, or with its own ways of checking it.
    integers: x must be of integers, where a method says so; else it must be floating.

    Attributes
    ----------
    x : the array as its library's functions take it. The one that was given may be of a subclass of
        NumPy's, or in another machine's byte order: its dtype is the result's. Of a sparse array,
        the values that it stores.
    p : float, or a 0-d array while a compiler reads the program. None where there is NO_P. An array
        of as many axes as x, where the row takes one and it was given.
    stored : Stored, or None where x is dense.
    is_complex : bool. This and `stored` only where the row takes such an x.
    training : bool.
    xp : the functions of x's library, under the names of the array API standard.
    """

    def __init__(
        self,
        who: str,
        x: Any,
        p: Any,
        at: Any,
        training: bool = True,
        window: Window | None = None,
        mirror: bool = False,
        integers: bool = False,
    ) -> None:
        self.who, self.is_complex = who, False
        self.stored: Stored | None = None
        self.backend, numbers = self._held(x)
        if integers:
            self.backend.require_integers(who, numbers, "x")
        elif self.backend.of_complex(numbers) and self._takes("complex"):
            self.is_complex = True
            self.backend.require_dense(who, numbers, "x")
            self.backend.require_floating(who, self.xp.real(self.backend.plain(numbers)), "x")
        else:
            self.backend.require_floating(who, numbers, "x")
        self.x, self.shape = self.backend.plain(numbers), self.backend.shape(x)
        self.training = training if training is True else checks.flag(who, "training", training)
        self.mirror = mirror if mirror is False else checks.flag(who, "mirror", mirror)
        if getattr(at, "mirrored", False):
            self.mirror = not self.mirror
        self.p: Any = None if p is NO_P else self.probability(p)
        self._at = self.backend.located(who, at, window, self.shape)

    def _held(self, x: Any) -> tuple[Backend, Any]:
        """The backend, and the array of numbers that x is; of a sparse x that it stores."""
        if known(type(x)):
            backend = backend_of(self.who, x)
            if not backend.is_sparse(x):
                return backend, x
        from thinned.methods import stored  # which most programs have no use for

        if stored.is_sparse(x) and self._takes("sparse"):
            self.stored = stored.stored_in(self.who, x)
            return backend_of(self.who, self.stored.values), self.stored.values
        return backend_of(self.who, x), x

    def _takes(self, what: str) -> bool:
        """Whether the method's row says so."""
        from thinned.methods.table import taken

        return what in taken(self.who)

    @property
    def xp(self) -> Any:
        return self.backend.namespace

    @property
    def real_type(self) -> Any:
        """The type of x's arithmetic: binary64 of what is as wide, binary32 of all else."""
        xp = self.xp
        wide = (xp.float64, xp.complex128) if self.is_complex else (xp.float64,)
        return xp.float64 if self.x.dtype in wide else xp.float32

    @property
    def to_come(self) -> bool:
        """Whether draws have no values yet, so that nothing in Python can depend on them."""
        backend, at = self.backend, self._at.at
        return backend.staged() or not getattr(at, "known", True) or backend.traced(self.p)

    def alike(self, name: str, array: Any) -> Any:
        """`array` as its library's functions take it. TypeError unless it is one of real numbers
        and of x's library."""
        return require_alike(self.who, name, array, "x", self.x)

    def beside(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """An array of x's library and of this shape, in the type of x's arithmetic."""
        array = self.alike(name, array)
        if tuple(array.shape) != shape:
            raise ValueError(message(self.who, name, f"of shape {shape}", tuple(array.shape)))
        return self.xp.astype(array, self.real_type)

    # ------------------------------------------------------------------------------------------- p

    def probability(self, p: Any, name: str = "p") -> Any:
        """p checked: a float, or, where it is traced, a 0-d array as it is; an array, where the row
        takes one."""
        if (
            type(p) is not float
            and getattr(p, "ndim", False)
            and name == "p"
            and self._takes("rates")
        ):
            from thinned.methods import varying

            return varying.rates_for(self, p)
        if type(p) is not float and self.backend.traced(p):
            if p.shape != ():
                got = f"shape {tuple(p.shape)}"
                raise TypeError(message(self.who, name, "one number in [0, 1]", got))
            return p
        return checks.probability(self.who, p, name)

    def rate(self, p: Any = None) -> tuple[Any, Any]:
        """Threshold and nominal scale 1 / (1 - p), which is 1 at p = 1; p None is the call's."""
        p = self.p if p is None else p
        if isinstance(p, float):
            return reference.threshold(p), reference.scale_for(p)
        return self.backend.rates(p) if self.differs(p) else self.backend.rate(p)

    def differs(self, p: Any = None) -> bool:
        """Whether p, by default the call's, is an array, with a rate for each row or element."""
        return bool(getattr(self.p if p is None else p, "ndim", 0))

    def require_rates_along(self, *axes: int) -> None:
        """ValueError where p differs along an axis that shares its draws, or counts them."""
        if self.differs():
            lengths = tuple(1 if axis in axes else n for axis, n in enumerate(self.shape))
            self._require_rates(lengths)

    def _require_rates(self, drawn: tuple[int, ...]) -> None:
        for axis, (n, length) in enumerate(zip(self.p.shape, drawn, strict=True)):
            if n not in (1, length):
                requirement = f"of length 1 along axis {axis}, which shares its draws"
                raise ValueError(
                    message(self.who, "p", requirement, f"shape {tuple(self.p.shape)}")
                )

    # --------------------------------------------------------------------------------------- draws

    def draw(
        self,
        threshold: Any = 0,
        shared_axes: tuple[int, ...] = (),
        shape: tuple[int, ...] | None = None,
        number: int = 0,
        reduced: bool = True,
        most: int = MOST_BITS,
    ) -> Draw:
        """Where draw `number` lies. reduced: with length 1 along shared axes, to be broadcast.
        most: where its indices end, which for draws of words is MOST_WORDS."""
        at = self._at if number == 0 else self._at.fold_in(number)
        lengths = self.shape if shape is None else shape
        shared = checks.axes(self.who, shared_axes, len(lengths))
        if reduced:
            lengths = tuple(1 if axis in shared else n for axis, n in enumerate(lengths))
        where = at.place(self.who, self.shape, lengths, shared, most)
        return Draw(at.at, threshold, where, self.mirror)

    def _of_words(
        self,
        shared_axes: tuple[int, ...] = (),
        shape: tuple[int, ...] | None = None,
        number: int = 0,
        reduced: bool = True,
    ) -> Draw:
        return self.draw(0, shared_axes, shape, number, reduced, MOST_WORDS)

    def keep(
        self,
        p: Any = None,
        shared_axes: tuple[int, ...] = (),
        shape: tuple[int, ...] | None = None,
        number: int = 0,
    ) -> Any:
        """Keep mask at p (the call's): boolean, of `shape` (x's), 1 along shared axes.

        Along an axis where `shape` differs from x's, draws belong to the whole axis, which no
        window may split.
        """
        threshold = self.rate(p)[0]
        draw = self.draw(threshold, shared_axes, shape, number)
        if self.differs(p):
            from thinned.methods import varying

            self._require_rates(draw.place.shape)
            return varying.keep_each(self.who, self.x, threshold, draw)
        return self.backend.keep(draw, self.x)

    def gate(self) -> bool:
        """Whether the one draw of the whole call keeps; only where draws are not `to_come`. In this
        machine's memory, whatever device holds x: no device has to be waited for."""
        everything = tuple(range(len(self.shape)))
        gate = self.backend.keep(self.draw(self.rate()[0], everything))
        return bool(gate.reshape(-1)[0])

    def words(self, shared_axes: tuple[int, ...] = (), shape: Any = None, number: int = 0) -> Any:
        """32-bit words, as integers."""
        return self.backend.words(self._of_words(shared_axes, shape, number), self.x)

    def words_at(self, index: Any, number: int = 0) -> Any:
        """32-bit words of the elements with these logical indices, in any order: integers of a
        shape and kind with `index`, whose numbers must be in [0, 2^42)."""
        at = self._at if number == 0 else self._at.fold_in(number)
        return self.backend.words_at(at.at, index, self.mirror)

    def kept(self, words: Any) -> Any:
        """Whether each word is at or above p's threshold: a keep mask of words at hand."""
        return self.backend.at_least(words, self.rate()[0])

    def uniform(self, shared_axes: tuple[int, ...] = (), shape: Any = None, number: int = 0) -> Any:
        """Uniform draws in the open interval (0, 1), binary32, exact multiples of 2^-24."""
        return self.backend.uniform(self._of_words(shared_axes, shape, number), self.x)

    def gaussian(
        self, shared_axes: tuple[int, ...] = (), shape: Any = None, number: int = 0
    ) -> Any:
        """Standard normal draws, binary32."""
        return self.backend.gaussian(self._of_words(shared_axes, shape, number), self.x)

    def keep_k_of_n(self, k: int, axis: int, shared_axes: tuple[int, ...] = ()) -> Any:
        """Keep mask with exactly k of the n elements along `axis` kept: the k largest words, equal
        ones by lower index. No window may split the axis."""
        xp, axis = self.xp, axis % len(self.shape)
        self.require_whole(axis)
        # Of unsigned words the inverse orders as the negative would, which a uint32 has not.
        words = self.backend.undivided(self.words(shared_axes), (axis,))
        order = xp.argsort(~words, axis=axis, stable=True)
        return xp.argsort(order, axis=axis, stable=True) < k

    def require_whole(self, *axes: int) -> None:
        """ValueError if the window splits one of these axes of x."""
        self._at = self._at.whole(self.who, self.shape, axes)

    # -------------------------------------------------------------------------------------- values

    def noise(
        self,
        x: Any,
        scale: Any = None,
        fill: Any = 0.0,
        shared_axes: tuple[int, ...] = (),
        number: int = 0,
        p: Any = None,
    ) -> Any:
        """fill + scale m (x - fill) in one fused pass, nothing kept for backward; x of the call's
        shape. scale None is 1 / (1 - p)."""
        threshold, nominal = self.rate(p)
        scale = nominal if scale is None else scale
        if self.stored is not None or self.differs(p):
            from thinned.methods import varying

            if self.stored is not None and self.differs(p):
                p = self.stored.at_entries(self.xp, self.p if p is None else p, len(self.shape))
                threshold, scale = self.backend.rates(p)
            keep = varying.keep_of(self, threshold, shared_axes, number, p)

            def selected(part: Any, fill: Any) -> Any:
                return self.backend.or_nan(self._at.at, self._selected(part, keep, scale, fill))

            return self._over_numbers(x, fill, selected)
        draw = self.draw(threshold, shared_axes, None, number, reduced=False)
        return self._over_numbers(
            x, fill, lambda part, fill: self.backend.apply(part, draw, scale, fill, None)
        )

    def gaussian_noise(self, x: Any, std: Any, shared_axes: tuple[int, ...] = ()) -> Any:
        """x (1 + std z) in one fused pass, z standard normal."""
        if self.differs(std):
            z = self.xp.astype(self.gaussian(shared_axes), std.dtype)
            return self.scaled(x, 1.0 + std * z)
        draw = self._of_words(shared_axes, reduced=False)
        return self._over_numbers(
            x, 0.0, lambda part, _: self.backend.apply_gaussian(part, draw, std, None)
        )

    def gradient_noise(self, x: Any, scale: Any = None, shared_axes: tuple[int, ...] = ()) -> Any:
        """scale m on x's gradient, and x itself as it is; scale None is 1 / (1 - p). Where the
        library differentiates nothing, x is that gradient."""
        threshold, nominal = self.rate()
        draw = self.draw(threshold, shared_axes, reduced=False)
        scale = nominal if scale is None else scale
        return self._over_numbers(
            x, 0.0, lambda part, _: self.backend.on_gradient(part, draw, scale)
        )

    def select(self, x: Any, keep: Any, scale: Any = 1.0, fill: Any = 0.0) -> Any:
        """fill + scale (x - fill) where `keep` holds and fill elsewhere, in x's type: selected, not
        multiplied, half types in binary32 and rounded once. For masks that are made of draws.

        keep, scale : of the shape of x, or broadcast to it; where x is sparse, of its entries.
        """

        if self.stored is None:
            keep = self.backend.divided_as(keep, x)

        def selected(part: Any, fill: Any) -> Any:
            # For the backward pass the mask, and the scale before it is broadcast.
            arrays = (part, keep, scale, fill)
            return self.backend.of_operands(self._selected, *arrays)

        return self._over_numbers(x, fill, selected)

    def _selected(self, x: Any, keep: Any, scale: Any, fill: Any) -> Any:
        xp, given, x = self.xp, x.dtype, self.backend.plain(x)
        plain = isinstance(fill, (int, float)) and fill == 0.0
        if isinstance(scale, (int, float)) and scale == 1.0:
            kept = x
        else:
            wide = self.wide(x)
            f = fill if isinstance(fill, (int, float)) else self.wide(fill)
            # A compiler's symbol for a number is neither a number nor an array.
            number = isinstance(scale, (int, float)) or not hasattr(scale, "dtype")
            s = scale if number else xp.astype(scale, wide.dtype)
            kept = xp.astype(wide * s if plain else f + s * (wide - f), x.dtype)
        if isinstance(fill, (int, float)):  # one element, which takes no pass over memory
            fill = self.backend.constant(fill, x)
        return self.typed(xp.where(keep, kept, fill), given)

    def scaled(self, x: Any, scale: Any) -> Any:
        """scale x, in the type of the arithmetic, rounded once to x's."""
        if self.stored is not None:
            scale = self.stored.at_entries(self.xp, scale, len(self.shape))
        if hasattr(scale, "dtype"):
            scale = self.xp.astype(scale, self.real_type)

        def times(part: Any, _: Any) -> Any:
            return self.typed(self.wide(part) * scale, part.dtype)

        return self._over_numbers(x, 0.0, times)

    def _over_numbers(self, x: Any, fill: Any, function: Callable[[Any, Any], Any]) -> Any:
        """function(x, fill) where x is dense and real. Else on the values that x stores, and on the
        two parts of complex ones: they have the same draws, and the fill is a real number."""
        numbers = x if self.stored is None else self.stored.values
        if not self.is_complex:
            y = function(numbers, fill)
        elif not isinstance(fill, (int, float)):
            raise TypeError(message(self.who, "x", "of real numbers beside such noise", x.dtype))
        else:
            numbers, xp = self.backend.plain(numbers), self.xp
            parts = function(xp.real(numbers), fill), function(xp.imag(numbers), 0.0)
            y = self.typed(self.backend.complex_of(*parts), x.dtype)
        return y if self.stored is None else self.stored.with_values(y)

    def stop_gradient(self, x: Any) -> Any:
        """x, through which no gradient flows."""
        return self.backend.stop_gradient(x)

    def wide(self, x: Any) -> Any:
        """x in the type its arithmetic runs in: binary64 as it is, all others in binary32."""
        return wide(self.backend, x)

    def typed(self, y: Any, dtype: Any) -> Any:
        """y in this type, of NumPy's byte order too."""
        return typed(self.xp, y, dtype)


def plain_rows(
    who: str,
    x: Any,
    p: Any,
    at: Any,
    training: Any,
    window: Any,
    mirror: Any,
    axes: int,
    scale: float | None = None,
) -> Any:
    """Noise with one draw for each index of the leading axes, where nothing is particular about the
    call; None where anything is, or is wrong, for Draws to say. A small array's cost is objects."""
    if training is True and window is None and mirror is False and known(type(x)):
        return backend_of(who, x).plain_rows(x, p, at, axes, scale)
    return None
