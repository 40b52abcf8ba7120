"""Keras's own operations as a backend: the mask spec on any library that Keras runs on.

Arrays of NumPy's, PyTorch's and JAX's have backends of their own, with kernels. TensorFlow's have
this one: `thinned` takes them where Keras runs on TensorFlow. All arithmetic is on signed words of
32 bits, which every library has, on every device and in every compiler; products that need 64 are
made of halves. Lengths may be arrays, for programs whose batches have any number of rows.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import keras
from keras import ops

from thinned import checks
from thinned.address import settled
from thinned.backends.base import Backend, Draw, Located
from thinned.checks import message
from thinned.window import MOST_BITS, Window

__all__ = ["KerasBackend", "WordAddress", "backend"]

FLOATING = ("float16", "bfloat16", "float32", "float64")
# Indices are words with a sign here.
MOST = 2**31
MASK16 = 0xFFFF
WORD_TAG = 32
FOLD_STEP = 2**32 - 1


def _signed(word: int) -> int:
    """A 32-bit word as the signed integer of the same bits."""
    return (word & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)


def _word(value: Any) -> Any:
    """A number, or an integer array whose lower 32 bits count, as a 0-d int32 array."""
    if isinstance(value, int):
        return ops.convert_to_tensor(_signed(value), "int32")
    return ops.cast(value, "int32")


def _up(a: Any, n: int) -> Any:
    return ops.left_shift(a, n)


def _down(a: Any, n: int) -> Any:
    """A shift to the right that brings in zeros."""
    return ops.bitwise_and(ops.right_shift(a, n), (1 << 32 - n) - 1)


def _product(a: Any, m: int) -> tuple[Any, Any]:
    """The upper and the lower word of a m."""
    m0, m1 = m & MASK16, m >> 16
    a0, a1 = ops.bitwise_and(a, MASK16), _down(a, 16)
    low = a1 * m0 + _down(a0 * m0, 16)
    high = a0 * m1 + ops.bitwise_and(low, MASK16)
    return a1 * m1 + _down(low, 16) + _down(high, 16), a * _signed(m)


def _philox(counter: tuple[Any, ...], key: tuple[Any, Any]) -> tuple[Any, ...]:
    """As reference.philox."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        (left_high, left), (right_high, right) = _product(c0, 0xD2511F53), _product(c2, 0xCD9E8D57)
        c0, c1 = _xor(right_high, c1, k0), right
        c2, c3 = _xor(left_high, c3, k1), left
        k0, k1 = k0 + _signed(0x9E3779B9), k1 + _signed(0xBB67AE85)
    return c0, c1, c2, c3


def _xor(*words: Any) -> Any:
    return reduce(ops.bitwise_xor, words)


class WordAddress(NamedTuple):
    """Stands for an Address: five int32 arrays without axes, which may have no values yet."""

    seed_low: Any
    seed_high: Any
    site: Any
    step: Any
    call: Any

    @staticmethod
    def of(*words: Any) -> WordAddress:
        """Of integers, or of integer arrays."""
        return WordAddress(*(_word(word) for word in words))

    def fold_in(self, n: int) -> WordAddress:
        zero = _word(0)
        counter = _word(n), _word(n >> 32), zero, _word(FOLD_STEP)
        low, high, *_ = _philox(counter, (self.seed_low, self.seed_high))
        return self._replace(seed_low=low, seed_high=high)


class KerasPlace(NamedTuple):
    """Where draws lie: one after the other, in the C order of `drawn`, from index 0 on.

    shape : of the array. drawn : of the draws, 1 along shared axes. Lengths are ints or arrays.
    """

    shape: tuple[Any, ...]
    drawn: tuple[Any, ...]

    @property
    def size(self) -> Any:
        return reduce(lambda n, length: n * length, self.drawn, 1)


class KerasLocated(NamedTuple):
    """As thinned.backends.base.Located, for the whole of an array."""

    at: WordAddress

    def fold_in(self, n: int) -> KerasLocated:
        return KerasLocated(self.at.fold_in(n))

    def place(
        self, who: str, held: Any, shape: Any, shared: tuple[int, ...], most: int = MOST_BITS
    ) -> KerasPlace:
        drawn = tuple(1 if axis in shared else n for axis, n in enumerate(shape))
        known = math.prod(n for n in drawn if isinstance(n, int))
        if known >= MOST:
            raise ValueError(f"{who}: x must have fewer than 2^31 draws, got {known} or more.")
        return KerasPlace(tuple(shape), drawn)

    def whole(self, who: str, held: Any, axes: tuple[int, ...]) -> KerasLocated:
        return self


def _anywhere(function: Any) -> Any:
    """A function that makes an array where Keras puts it, whatever the device argument says."""

    def make(*args: Any, device: Any = None, **how: Any) -> Any:
        return function(*args, **how)

    return make


class Namespace:
    """keras.ops, with the names of the array API standard that it has not."""

    bool, int32, int64, float32, float64 = "bool", "int32", "int64", "float32", "float64"

    astype = staticmethod(ops.cast)
    concat = staticmethod(ops.concatenate)
    permute_dims = staticmethod(ops.transpose)
    asarray = staticmethod(_anywhere(ops.convert_to_tensor))
    arange = staticmethod(_anywhere(ops.arange))
    full = staticmethod(_anywhere(ops.full))
    full_like = staticmethod(_anywhere(ops.full_like))
    ones = staticmethod(_anywhere(ops.ones))
    zeros = staticmethod(_anywhere(ops.zeros))

    @staticmethod
    def argsort(x: Any, axis: int = -1, stable: Any = True) -> Any:
        return ops.argsort(x, axis=axis)

    @staticmethod
    def matrix_transpose(x: Any) -> Any:
        return ops.swapaxes(x, -1, -2)

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)


class KerasBackend(Backend):
    lies_in_line = False

    namespace = Namespace()

    def __init__(self, kinds: tuple[type[Any], ...]) -> None:
        self.kinds = kinds

    def holds(self, kind: Any) -> bool:
        return issubclass(kind, self.kinds)

    def shape(self, x: Any) -> tuple[Any, ...]:
        return tuple(ops.shape(x))

    def _type(self, x: Any) -> str:
        return str(keras.backend.standardize_dtype(x.dtype))

    def require_floating(self, who: str, x: Any, name: str = "x") -> None:
        kind = self._type(x)
        if kind not in FLOATING:
            listed = ", ".join(FLOATING[:-1]) + f" or {FLOATING[-1]}"
            remedy = f"Convert it: keras.ops.cast({name}, 'float32')."
            raise TypeError(message(who, name, f"of type {listed}", kind, remedy))
        self.require_dense(who, x, name)

    def require_integers(
        self, who: str, x: Any, name: str, requirement: str = "of an integer type"
    ) -> None:
        if "int" not in self._type(x):
            raise TypeError(message(who, name, requirement, self._type(x)))
        self.require_dense(who, x, name)

    def require_real(self, who: str, x: Any, name: str) -> None:
        if not any(kind in self._type(x) for kind in ("int", "float", "bool")):
            raise TypeError(message(who, name, "an array of real numbers", self._type(x)))
        self.require_dense(who, x, name)

    def of_complex(self, x: Any) -> bool:
        """False: complex arrays are refused here, as all that are not floating."""
        return False

    def require_dense(self, who: str, x: Any, name: str) -> None:
        rank = getattr(x.shape, "rank", 0)  # TensorFlow may not know it
        if rank is None:
            raise TypeError(message(who, name, "of a known number of axes", "an unknown one"))
        if len(x.shape) > checks.MOST_AXES:
            raise TypeError(message(who, name, f"of {checks.MOST_AXES} axes at most", rank))

    def require_out(self, who: str, x: Any, out: Any) -> None:
        raise TypeError(f"{who}: out must be None: these arrays are never written into.")

    def copy(self, x: Any, out: Any) -> Any:
        raise AssertionError("no array was taken for `out`")

    # ------------------------------------------------------------------------- arguments of a call

    def located(self, who: str, at: Any, window: Any, shape: tuple[Any, ...]) -> KerasLocated:
        self._require_no_window(who, window)
        if isinstance(at, WordAddress):
            return KerasLocated(at)
        known = Located.checked(who, at, None).at
        words = known.seed & 0xFFFFFFFF, known.seed >> 32, known.site, known.step, known.call
        return KerasLocated(WordAddress.of(*words))

    def placed(
        self, who: str, at: Any, window: Any, shape: tuple[Any, ...], shared_axes: Any
    ) -> tuple[Any, Any]:
        shared = checks.axes(who, shared_axes, len(shape))
        located = self.located(who, settled(who, at), window, shape)
        return located.at, located.place(who, shape, shape, shared)

    def _require_no_window(self, who: str, window: Window | None) -> None:
        if window is not None:
            remedy = "Windows are for arrays of NumPy's, PyTorch's and JAX's."
            raise ValueError(
                message(who, "window", "None for arrays of TensorFlow's", window, remedy)
            )

    def staged(self) -> bool:
        return not hasattr(ops.convert_to_tensor(0), "numpy")

    # --------------------------------------------------------------------------------------- draws

    def keep(self, draw: Draw, like: Any = None) -> Any:
        place: Any = draw.place
        t = draw.threshold
        if t in (0, 2**32):
            return ops.broadcast_to(ops.convert_to_tensor(t == 0), place.shape)
        # As many planes as the threshold has binary digits before its zeros at the end.
        planes = 33 - (t & -t).bit_length()
        count = (place.size + 127) // 128
        bits = _blocks(_words_of(draw), count, ops.arange(planes, dtype="int32"), draw.mirror)
        ones = [-1 if t >> (31 - j) & 1 else 0 for j in range(planes)]
        dropped, still = ops.zeros_like(bits[:, 0]), ops.ones_like(bits[:, 0]) * -1
        for j, one in enumerate(ones):
            plane = bits[:, j] if one else ops.bitwise_not(bits[:, j])
            if one:
                dropped = ops.bitwise_or(dropped, ops.bitwise_and(still, ops.bitwise_not(plane)))
            still = ops.bitwise_and(still, plane)
        kept = ops.reshape(ops.bitwise_not(dropped), (-1, 1))
        lanes = ops.bitwise_and(ops.right_shift(kept, ops.arange(32, dtype="int32")), 1)
        drawn = ops.reshape(ops.reshape(lanes, (-1,))[: place.size], place.drawn)
        return ops.broadcast_to(ops.cast(drawn, "bool"), place.shape)

    def packed(self, draw: Draw) -> Any:
        raise NotImplementedError("packed masks are NumPy's: thinned.packed_mask")

    def words(self, draw: Draw, like: Any = None) -> Any:
        place: Any = draw.place
        drawn = ops.cast(self._words(draw), "int64")
        unsigned = drawn + ops.cast(drawn < 0, "int64") * 2**32
        return ops.broadcast_to(ops.reshape(unsigned, place.drawn), place.shape)

    def words_at(self, at: Any, index: Any, mirror: bool) -> Any:
        raise TypeError("thinned: draws by index are for arrays of NumPy's, PyTorch's and JAX's.")

    def _words(self, draw: Draw) -> Any:
        """The words of the draws one after the other, int32."""
        place: Any = draw.place
        tag = ops.full((1,), WORD_TAG, dtype="int32")
        table = _blocks(_words_of(draw), (place.size + 3) // 4, tag, draw.mirror)
        return ops.reshape(table, (-1,))[: place.size]

    def uniform(self, draw: Draw, like: Any = None) -> Any:
        place: Any = draw.place
        u = ops.cast(_down(self._words(draw), 9) * 2 + 1, "float32") * 2.0**-24
        return ops.broadcast_to(ops.reshape(u, place.drawn), place.shape)

    def gaussian(self, draw: Draw, like: Any = None) -> Any:
        place: Any = draw.place
        tag = ops.full((1,), WORD_TAG, dtype="int32")
        table = _blocks(_words_of(draw), (place.size + 3) // 4, tag, False)
        pairs = ops.reshape(table, (-1, 2))
        u = ops.cast(_down(pairs, 9) * 2 + 1, "float64") / 2**24
        radius, angle = ops.sqrt(-2.0 * ops.log(u[:, 0])), 2.0 * math.pi * u[:, 1]
        both = ops.stack([radius * ops.cos(angle), radius * ops.sin(angle)], axis=-1)
        z = ops.reshape(ops.reshape(both, (-1,))[: place.size], place.drawn)
        z = ops.cast(-z if draw.mirror else z, "float32")
        return ops.broadcast_to(z, place.shape)

    # -------------------------------------------------------------------------------------- values

    def apply(self, x: Any, draw: Draw, scale: Any, fill: Any, out: Any) -> Any:
        kind = self._type(x)
        wide = x if kind == "float64" else ops.cast(x, "float32")
        f = ops.cast(fill, wide.dtype) if hasattr(fill, "dtype") else fill
        plain = not hasattr(f, "dtype") and f == 0.0
        if isinstance(scale, (int, float)) and scale == 1.0:
            kept = wide  # exactly, however large the fill is
        else:
            kept = wide * scale if plain else f + scale * (wide - f)
        rest = ops.zeros_like(wide) if plain else ops.zeros_like(wide) + f
        return ops.cast(ops.where(self.keep(draw), kept, rest), kind)

    def apply_gaussian(self, x: Any, draw: Draw, std: Any, out: Any) -> Any:
        kind = self._type(x)
        wide = x if kind == "float64" else ops.cast(x, "float32")
        z = ops.cast(self.gaussian(draw), wide.dtype)
        return ops.cast(wide * (1.0 + std * z), kind)

    def stop_gradient(self, x: Any) -> Any:
        return ops.stop_gradient(x)

    def normal_cdf(self, x: Any) -> Any:
        return 0.5 * (1.0 + ops.erf(x / math.sqrt(2.0)))


def _words_of(draw: Draw) -> WordAddress:
    at: Any = draw.at
    assert isinstance(at, WordAddress)
    return at


def _blocks(at: WordAddress, count: Any, tag: Any, mirror: bool) -> Any:
    """Blocks 0 to count - 1 with each of `tag`: words, shape (count, tags, 4), mirrored or not."""
    b = ops.reshape(ops.arange(count, dtype="int32"), (-1, 1))
    zero = ops.zeros_like(b) + ops.zeros_like(tag)
    call = ops.bitwise_or(_up(at.call, 8), _up(tag, 24))
    counter = zero + b, zero + call, zero + at.site, zero + at.step
    table = ops.stack(_philox(counter, (zero + at.seed_low, zero + at.seed_high)), axis=-1)
    return ops.bitwise_not(table) if mirror else table


def _kinds() -> tuple[type[Any], ...]:
    if keras.config.backend() != "tensorflow":
        return ()
    import tensorflow as tf

    return (tf.Tensor,)


backend = KerasBackend(_kinds())
