"""What a backend must do: arrays of one library in, the same kind out, nothing known of methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinned import reference
from thinned.address import Address, settled
from thinned.checks import MOST_AXES, message, shown
from thinned.window import MOST_BITS, Placement, Window, place

__all__ = ["Backend", "Draw", "Located", "device_of"]


def device_of(x: Any) -> Any:
    """The device where arrays that are to meet x are made; None for the library's own choice.

    NumPy's arrays say one from version 2 on. JAX moves arrays that nobody has placed to where they
    are used, which may be several devices; one that is placed beside x cannot follow.
    """
    return None if hasattr(x, "aval") else getattr(x, "device", None)


class Draw(NamedTuple):
    """All that decides a mask: the address, the integer threshold, the place, the mirror."""

    at: Address
    threshold: int
    place: Placement
    mirror: bool = False


class Located(NamedTuple):
    """An address and the window of the array that takes its draws. What a method draws from; a
    backend whose compiler holds addresses as arrays has another class of the same form."""

    at: Address
    window: Window | None

    @staticmethod
    def checked(who: str, at: Any, window: Any, known: bool = True) -> Located:
        """TypeError where these are no address and no window, or where JAX traces an address that
        has to be `known`."""
        if not isinstance(at, Address):
            remedy = "Give a mask its address: thinned.Address(seed=0, site='fc1', step=7)."
            raise TypeError(message(who, "at", "a thinned.Address", type(at).__name__, remedy))
        if window is not None and not isinstance(window, Window):
            got = shown(window)
            raise TypeError(message(who, "window", "a thinned.Window", got))
        return Located(settled(who, at) if known else at, window)

    def fold_in(self, n: int) -> Located:
        return self._replace(at=self.at.fold_in(n))

    def place(
        self,
        who: str,
        held: tuple[int, ...],
        shape: tuple[int, ...],
        shared: tuple[int, ...],
        most: int = MOST_BITS,
    ) -> Placement:
        """Of draws of `shape` for an array of shape `held`, whose indices stay below `most`."""
        window = self.window
        if window is not None and held != shape:
            window = window.onto(who, held, shape, shared)
        return place(who, shape, shared, window, most)

    def whole(self, who: str, held: tuple[int, ...], axes: tuple[int, ...]) -> Located:
        """The same, once it is sure that the window splits none of `axes`."""
        if self.window is not None:
            self.window.require_whole(who, held, axes)
        return self


class Backend(ABC):
    """One array library: a subclass, and its one instance, named `backend`, in one file.

    A library that runs eagerly writes what is abstract here. All draws are then those of
    `thinned.reference`, in NumPy, and what comes of them is handed over by `from_numpy`. A library
    that has its own kernel, compiler or derivatives overrides more.
    """

    # Whether an array can be taken for one line of elements at no cost: not where it may be divided
    # among devices.
    lies_in_line = True

    # ------------------------------------------------------------------ what each library must say

    @property
    @abstractmethod
    def namespace(self) -> Any:
        """The library's functions under the names of the array API standard."""

    @abstractmethod
    def holds(self, kind: Any) -> bool:
        """Whether a class of the library's is one of arrays."""

    @abstractmethod
    def require_floating(self, who: str, x: Any, name: str = "x") -> None:
        """TypeError, in one sentence, unless x is as `require_dense` has it, of a floating type
        that masks can be put on."""

    @abstractmethod
    def require_integers(
        self, who: str, x: Any, name: str, requirement: str = "of an integer type"
    ) -> None:
        """TypeError, in one sentence, unless x is as `require_dense` has it, of integers."""

    def of_integers(self, x: Any) -> bool:
        """Whether x is of an integer type; booleans are none."""
        return bool(self.namespace.isdtype(x.dtype, "integral"))

    def of_complex(self, x: Any) -> bool:
        """Whether x is of a complex type."""
        return bool(self.namespace.isdtype(x.dtype, "complex floating"))

    def complex_of(self, real: Any, imaginary: Any) -> Any:
        """The array of complex numbers of two parts; not real + 1j imaginary, where an infinite
        part makes the other NaN."""
        parts = self.to_numpy(real), self.to_numpy(imaginary)
        y = np.empty(parts[0].shape, np.result_type(parts[0], np.complex64))
        y.real, y.imag = parts
        return self.from_numpy(y, real)

    def is_sparse(self, x: Any) -> bool:
        """Whether x is sparse, where the library's dense arrays are of the same class."""
        return False

    @abstractmethod
    def require_real(self, who: str, x: Any, name: str) -> None:
        """TypeError, in one sentence, unless x is as `require_dense` has it, of real numbers: of a
        floating type, of integers or booleans."""

    def require_beside(self, who: str, array: Any, name: str, x: Any, beside: str) -> None:
        """ValueError where `array` lies on another device than x, and the library does not combine
        arrays of two devices. beside : the name of x in the message."""
        return

    @abstractmethod
    def require_out(self, who: str, x: Any, out: Any) -> None:
        """An error, in one sentence, unless `out` can take the result for x."""

    @abstractmethod
    def copy(self, x: Any, out: Any) -> Any:
        """x copied into `out`, which is returned."""

    # ----------------------------------------- what the draws below need; none who draws all itself

    def from_numpy(self, values: NDArray[Any], like: Any) -> Any:
        """A NumPy array as one of the library's, on the device of `like`; None is the default."""
        raise NotImplementedError

    def to_numpy(self, x: Any) -> NDArray[Any]:
        """The values of an array, for NumPy to read."""
        raise NotImplementedError

    # ------------------------------------------------------------------------- arguments of a call

    def located(self, who: str, at: Any, window: Any, shape: tuple[int, ...]) -> Any:
        """Address and window of an array of `shape`, checked: a Located, or, while a compiler reads
        the program, what stands for it there."""
        return Located.checked(who, at, window)

    def placed(
        self, who: str, at: Any, window: Any, shape: tuple[int, ...], shared_axes: Any
    ) -> tuple[Any, Any]:
        """Address and placement of draws for an array of `shape`, the address checked before."""
        return settled(who, at), place(who, shape, shared_axes, window)

    def require_dense(self, who: str, x: Any, name: str) -> None:
        """TypeError, in one sentence, unless x holds all its elements in memory of one shape, has
        axes that masks can count, and is of no class that gives the library's functions another
        meaning."""
        if x.ndim > MOST_AXES:
            raise TypeError(message(who, name, f"of {MOST_AXES} axes at most", x.ndim))

    def shape(self, x: Any) -> tuple[Any, ...]:
        """The lengths of x's axes; arrays for those that only the run of a program tells."""
        return tuple(x.shape)

    def constant(self, value: float, x: Any) -> Any:
        """A number as an array without axes, of x's type: beyond its largest one, infinity."""
        return self.namespace.full((), value, dtype=x.dtype, device=device_of(x))

    def plain(self, x: Any) -> Any:
        """x as the library's own functions take it: of its own class, in this machine's byte order;
        x itself where it is so already."""
        return x

    def compiling(self) -> bool:
        """Whether a compiler reads the program now: lengths may be symbols, p a 0-d array."""
        return False

    def staged(self) -> bool:
        """Whether what is drawn now has no value yet, because a compiler reads or records the
        program."""
        return False

    def traced(self, p: Any) -> bool:
        """Whether p is an array whose value is not known yet, because a compiler reads the program
        or a transformation runs it."""
        return False

    def rate(self, p: Any) -> tuple[Any, Any]:
        """Threshold and nominal scale of a p that is traced."""
        return reference.threshold(p), reference.scale_for(p)

    # --------------------------------------------------------------------------------------- draws

    def keep(self, draw: Draw, like: Any = None) -> Any:
        """The keep mask, boolean, of the placement's whole shape, on the device of `like`. True
        means kept."""
        return self.from_numpy(_keep(draw), like)

    def mask(self, draw: Draw, like: Any = None) -> Any:
        """`keep` for a caller that has no other use for `like`."""
        return self.keep(draw, like)

    def packed(self, draw: Draw) -> Any:
        """The keep mask in C order, eight elements to a byte, the first in the lowest bit."""
        return self.from_numpy(np.packbits(_keep(draw), bitorder="little"), None)

    def words(self, draw: Draw, like: Any = None) -> Any:
        """The 32-bit word of each element (tag 32), in the placement's whole shape, as integers
        that hold it without a sign."""
        return self.from_numpy(_words(draw), like)

    def words_at(self, at: Any, index: Any, mirror: bool) -> Any:
        """The 32-bit words of the elements with these indices, below 2^42, in `index`'s shape."""
        wide = self.to_numpy(index).astype(np.uint64)
        return self.from_numpy(reference.words_at(at, wide, mirror), index)

    def keep_each(self, at: Any, threshold: Any, index: Any, mirror: bool) -> Any:
        """The keep bits of the elements with these indices, below 2^47, in `index`'s shape, at a
        threshold for each, as `rates` gives them, or at one number."""
        wide = self.to_numpy(index).astype(np.uint64)
        one = isinstance(threshold, int)
        limit = np.asarray(threshold if one else self.to_numpy(threshold)).astype(np.uint64)
        return self.from_numpy(reference.keep_each(at, limit, wide, mirror), index)

    def rates(self, p: Any) -> tuple[Any, Any]:
        """Thresholds and nominal scales of an array of p, in [0, 1]: round(p 2^32), halves to even,
        and 1 / (1 - p), which is 1 at p = 1."""
        wide = self.to_numpy(p).astype(np.float64)
        scale = 1.0 / np.where(wide == 1.0, 1.0, 1.0 - wide)
        return self.from_numpy(np.rint(wide * 2.0**32), p), self.from_numpy(scale, p)

    def at_least(self, words: Any, threshold: Any) -> Any:
        """Whether each word is no less than a threshold in [0, 2^32], as `rate` gives it."""
        return self.namespace.astype(words, self.namespace.int64) >= threshold

    def or_nan(self, at: Any, y: Any) -> Any:
        """y; or NaN in every element where a traced coordinate of `at` is out of its range, which
        no error can say."""
        return y

    def uniform(self, draw: Draw, like: Any = None) -> Any:
        """uniform24 of those words: binary32, inside (0, 1)."""
        return self.from_numpy(reference.uniform24(_words(draw)), like)

    def gaussian(self, draw: Draw, like: Any = None) -> Any:
        """The standard normal draw of each element, binary32, in the placement's whole shape."""
        return self.from_numpy(_gaussian(draw).astype(np.float32), like)

    # -------------------------------------------------------------------------------------- values

    def apply(self, x: Any, draw: Draw, scale: float, fill: Any, out: Any) -> Any:
        """y = fill + scale m (x - fill), selected, in x's shape and type; into `out` if given."""
        filling = fill if isinstance(fill, (int, float)) else self.to_numpy(fill)
        y = reference.apply(self.to_numpy(x), _keep(draw), scale, filling)
        return self._delivered(x, y, out)

    def apply_gaussian(self, x: Any, draw: Draw, std: float, out: Any) -> Any:
        """y = x (1 + std z), z the Gaussian draws, in x's shape and type; into `out` if given."""
        y = reference.apply_gaussian(self.to_numpy(x), _gaussian(draw), std)
        return self._delivered(x, y, out)

    def _delivered(self, x: Any, y: NDArray[Any], out: Any) -> Any:
        made = self.from_numpy(y, x)
        return made if out is None else self.copy(made, out)

    def typed_product(self, y: Any, dtype: Any) -> Any:
        """What was made of arrays of `dtype` by products of matrices, in the type of such products.
        No cast where the library's products have one: under autocast it is another than `dtype`."""
        return y

    def normal_cdf(self, x: Any) -> Any:
        """The standard normal distribution function of each element."""
        try:
            from scipy.special import ndtr
        except ImportError as error:
            hint = 'Install it: pip install "thinned[fit]".'
            raise ImportError(f"thinned: the normal distribution needs SciPy. {hint}") from error
        return self.from_numpy(ndtr(self.to_numpy(x)), x)

    def on_gradient(self, x: Any, draw: Draw, scale: Any) -> Any:
        """x, with the noise of `draw` on its gradient; in a library that differentiates nothing,
        the noise on x, which is then a gradient."""
        return self.apply(x, draw, scale, 0.0, None)

    def stop_gradient(self, x: Any) -> Any:
        """x, through which no gradient flows."""
        return x

    def of_operands(self, function: Any, x: Any, *operands: Any) -> Any:
        """function(x, *operands), elementwise, of which the backward pass keeps operands
        and nothing that is made of them."""
        return function(x, *operands)

    def undivided(self, array: Any, axes: tuple[int, ...]) -> Any:
        """The array for what orders or shifts its elements along these axes. Where its type says
        how it is divided among devices, each has them whole then."""
        return array

    def divided_as(self, array: Any, x: Any) -> Any:
        """The array divided among devices as x is, along the axes where their lengths agree."""
        return array

    def remade(self, function: Any, *arguments: Any) -> Any:
        """function(*arguments), of which a backward pass keeps nothing but the arguments and runs
        the function again: for what is large and can be drawn again."""
        return function(*arguments)

    def plain_dropout(self, x: Any, p: Any, at: Any, out: Any) -> Any:
        """Dropout with nothing particular about it, in few steps; None where anything is.

        Nothing is refused here: whatever is wrong goes the long way, which says so.
        """
        return None

    def plain_rows(self, x: Any, p: Any, at: Any, axes: int, scale: float | None) -> Any:
        """Noise with one draw for each index of the leading `axes` axes, in few steps; None where
        anything is particular. scale None is 1 / (1 - p)."""
        return None


def _keep(draw: Draw) -> NDArray[np.bool_]:
    mask = reference.keep(draw.at, draw.threshold, draw.place, draw.mirror)
    return np.broadcast_to(mask, draw.place.shape).copy()


def _words(draw: Draw) -> NDArray[np.uint32]:
    return reference.words(draw.at, reference.indices(draw.place), draw.mirror)


def _gaussian(draw: Draw) -> NDArray[np.float64]:
    return reference.gaussian(draw.at, reference.indices(draw.place), draw.mirror)
