"""The NumPy backend: arrays go to the compiled kernel as they lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import kernel, reference
from thinned.address import Address
from thinned.backends.base import Backend, Draw
from thinned.checks import message
from thinned.kernel import _native

__all__ = ["as_array", "backend"]

# bfloat16 is ml_dtypes' own, and that package need not be there: types are known by name.
FLOATING = {
    "float16": _native.Type.float16,
    "bfloat16": _native.Type.bfloat16,
    "float32": _native.Type.float32,
    "float64": _native.Type.float64,
}

Law, Op, Type = _native.Law, _native.Op, _native.Type
AFFINE_ARRAY, BFLOAT16 = Op.affine_array, Type.bfloat16
BERNOULLI, SCALE = Law.bernoulli, Op.scale

# The types that the buffer protocol passes on as they are, in this machine's byte order.
PLAIN = {np.dtype(name): FLOATING[name] for name in ("float16", "float32", "float64")}


def _type(x: NDArray[Any]) -> Any:
    """What the kernel calls x's type. By name takes a microsecond: for bfloat16 alone."""
    return PLAIN.get(x.dtype) or FLOATING[x.dtype.name]


class NumpyBackend(Backend):
    @property
    def namespace(self) -> Any:
        import array_api_compat.numpy as namespace  # which plain dropout has no use for

        return namespace

    def holds(self, kind: Any) -> bool:
        return issubclass(kind, (np.ndarray, np.generic))

    def require_floating(self, who: str, x: Any, name: str = "x") -> None:
        if x.dtype not in PLAIN and x.dtype.name not in FLOATING:  # a name takes a microsecond
            listed = ", ".join(list(FLOATING)[:-1]) + f" or {list(FLOATING)[-1]}"
            remedy = f"Convert it first: {name}.astype(numpy.float32)."
            raise TypeError(message(who, name, f"of type {listed}", x.dtype.name, remedy))
        self.require_dense(who, x, name)

    def of_complex(self, x: Any) -> bool:
        return bool(x.dtype.kind == "c")

    def of_integers(self, x: Any) -> bool:
        return x.dtype.kind in "iu"

    def require_integers(
        self, who: str, x: Any, name: str, requirement: str = "of an integer type"
    ) -> None:
        if not self.of_integers(x):
            raise TypeError(message(who, name, requirement, x.dtype.name))
        self.require_dense(who, x, name)

    def require_real(self, who: str, x: Any, name: str) -> None:
        if x.dtype.kind not in "biuf" and x.dtype.name not in FLOATING:
            raise TypeError(message(who, name, "an array of real numbers", x.dtype.name))
        self.require_dense(who, x, name)

    def require_dense(self, who: str, x: Any, name: str) -> None:
        kind = type(x)
        if kind is np.ndarray or issubclass(kind, np.generic):
            return
        if issubclass(kind, np.ma.MaskedArray):
            remedy = f"Fill it first: {name}.filled(0.0)."
            raise TypeError(message(who, name, "a plain array", "a masked one", remedy))
        own = kind.__array_ufunc__, kind.__array_function__
        if own != (np.ndarray.__array_ufunc__, np.ndarray.__array_function__):
            got = f"a {kind.__name__}, whose functions are its own"
            remedy = f"Pass numpy.asarray({name})."
            raise TypeError(message(who, name, "a plain array", got, remedy))

    def plain(self, x: Any) -> Any:
        if (type(x) is np.ndarray and x.dtype.isnative) or isinstance(x, np.generic):
            return x
        return np.asarray(x, x.dtype.newbyteorder("="))

    def require_out(self, who: str, x: NDArray[Any], out: Any) -> None:
        if not isinstance(out, np.ndarray):
            raise TypeError(message(who, "out", "a numpy array", type(out).__name__))
        if out.shape != x.shape:
            raise ValueError(message(who, "out", f"of x's shape {x.shape}", out.shape))
        # By name, since another byte order is no other type; asking for names takes microseconds.
        if out.dtype != x.dtype and out.dtype.name != x.dtype.name:
            raise TypeError(message(who, "out", f"of x's type {x.dtype.name}", out.dtype.name))
        if not out.flags.writeable:
            raise ValueError(f"{who}: out is read-only. Pass an array that can be written.")

    def from_numpy(self, values: NDArray[Any], like: Any) -> NDArray[Any]:
        return values

    def to_numpy(self, x: Any) -> NDArray[Any]:
        return np.asarray(x)

    def keep(self, draw: Draw, like: Any = None) -> Any:
        if kernel.uses_reference():
            return super().keep(draw, like)
        out = np.empty(draw.place.shape, np.bool_)
        self._run(draw, Law.mask, None, out)
        return out

    def packed(self, draw: Draw) -> Any:
        if kernel.uses_reference() or not draw.place.in_order:
            return np.packbits(self.keep(draw), bitorder="little")
        at, n = draw.at, draw.place.size
        out = np.empty(-(-n // 8), np.uint8)
        _native.packed(
            out, n, at.seed, at.site, at.step, at.call,
            draw.threshold, draw.mirror, draw.place.offset, 0,
        )  # fmt: skip
        return out

    def words(self, draw: Draw, like: Any = None) -> Any:
        if kernel.uses_reference():
            return super().words(draw, like)
        out = np.empty(draw.place.shape, np.uint32)
        self._run(draw, Law.words, None, out)
        return out

    def typed_product(self, y: Any, dtype: Any) -> Any:
        # ml_dtypes' products of bfloat16, and bfloat16 times a number, are binary32.
        return y if y.dtype == dtype else y.astype(dtype)

    def at_least(self, words: Any, threshold: Any) -> Any:
        return words.astype(np.int64) >= threshold

    def uniform(self, draw: Draw, like: Any = None) -> NDArray[np.float32]:
        return reference.uniform24(self.words(draw))

    def gaussian(self, draw: Draw, like: Any = None) -> Any:
        if kernel.uses_reference():
            return super().gaussian(draw, like)
        out = np.empty(draw.place.shape, np.float32)
        self._run(draw, Law.raw_gaussian, None, out)
        return out

    def apply_gaussian(self, x: Any, draw: Draw, std: float, out: Any) -> Any:
        if kernel.uses_reference():
            return super().apply_gaussian(x, draw, std, out)
        return self._apply(x, draw, Law.gaussian, Op.scale, std, 0.0, out)

    def apply(self, x: Any, draw: Draw, scale: float, fill: Any, out: Any) -> Any:
        if kernel.uses_reference():
            return super().apply(x, draw, scale, fill, out)
        if isinstance(fill, (int, float)) or np.ndim(fill) == 0:
            fill = float(fill)
            op = Op.scale if fill == 0.0 else Op.affine
        else:
            with np.errstate(over="ignore"):  # to infinity, as in the reference
                fill = np.asarray(fill, x.dtype.newbyteorder("="))  # which x will have, too
            if fill.shape != x.shape:
                fill = np.broadcast_to(fill, x.shape)
            op = Op.affine_array
        return self._apply(x, draw, Law.bernoulli, op, scale, fill, out)

    def plain_dropout(self, x: Any, p: Any, at: Any, out: Any) -> Any:
        # The long way through the checks takes 4 microseconds, and 10 where the array before has
        # emptied the cache: a third of what the kernel takes for a quarter of a million elements.
        if (
            type(x) is not np.ndarray
            or type(p) is not float
            or not 0.0 < p < 1.0
            or type(at) is not Address
            or not at.known
            or kernel.uses_reference()
        ):
            return None
        kind = PLAIN.get(x.dtype)
        if kind is None:
            return None
        if out is None:
            y = np.empty_like(x)
        elif (
            type(out) is np.ndarray
            and out.dtype is x.dtype
            and out.shape == x.shape
            and out.flags.writeable
            # Two arrays that own their memory have none in common, and are not compared.
            and (
                (out.base is None and x.base is None) or out is x or not np.may_share_memory(out, x)
            )
        ):
            y = out
        else:
            return None
        _native.apply(
            x, y, None, BERNOULLI, kind, SCALE, 1.0 / (1.0 - p), 0.0, at.seed, at.site, at.step,
            at.call, round(p * 4294967296.0), False, 0, None, 0,
        )  # fmt: skip
        return y

    def copy(self, x: Any, out: NDArray[Any]) -> NDArray[Any]:
        np.copyto(out, x)
        return out

    def _delivered(self, x: Any, y: NDArray[Any], out: Any) -> Any:
        """y where it belongs: in `out`, or as a scalar where x was one."""
        if out is not None:
            return self.copy(y, out)
        return y[()] if isinstance(x, np.generic) else y

    def _apply(
        self, x: Any, draw: Draw, law: Any, op: Any, scale: float, fill: Any, out: Any
    ) -> Any:
        plain = type(x) is np.ndarray and x.dtype.isnative
        if plain and out is None:  # the path of nearly every call
            y = np.empty_like(x)
            self._run(draw, law, x, y, _type(x), op, scale, fill)
            return y
        a = x if plain else np.asarray(x, x.dtype.newbyteorder("="))
        # Memory that overlaps in any other way than being the same is written after it was read.
        into = (
            out is not None
            and out.dtype.isnative
            and (out is x or not np.may_share_memory(out, x))
            and (op is not Op.affine_array or out is fill or not np.may_share_memory(out, fill))
        )
        y = out if into else np.empty_like(a, subok=False)
        self._run(draw, law, a, y, _type(a), op, scale, fill)
        return y if into else self._delivered(x, y.astype(x.dtype, copy=False), out)

    def _run(
        self,
        draw: Draw,
        law: Any,
        x: Any,
        y: Any,
        kind: Any = Type.float32,
        op: Any = Op.scale,
        scale: float = 1.0,
        fill: Any = 0.0,
    ) -> None:
        at, t, place, mirror = draw
        array = None
        if op is AFFINE_ARRAY:
            array, fill = fill, 0.0
        if kind is BFLOAT16:  # which is no type of the buffer protocol
            x, y = x.view(np.uint16), y.view(np.uint16)
            array = None if array is None else array.view(np.uint16)
        _native.apply(
            x, y, array, law, kind, op, scale, fill, at.seed, at.site, at.step, at.call,
            t, mirror, place.offset, place.steps, 0,
        )  # fmt: skip


backend = NumpyBackend()


def as_array(who: str, name: str, values: Any, requirement: str) -> NDArray[Any]:
    """An array, or what NumPy makes one of, as a plain array. An error, in one sentence, for what
    is none, and for a subclass whose elements are more than their numbers."""
    if isinstance(values, np.ndarray):
        backend.require_dense(who, values, name)
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # in NumPy's words, or another library's
        if isinstance(values, (list, tuple)):
            remedy = "Give all rows the same length."
            raise ValueError(message(who, name, requirement, "a ragged list", remedy)) from error
        got = f"a {type(values).__name__} that NumPy cannot read"
        raise TypeError(message(who, name, requirement, got)) from error
