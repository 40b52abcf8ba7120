"""Checks that several methods share: an array beside x, a number, a word out of a few, a value."""

from __future__ import annotations

import math
from typing import Any

from thinned import checks
from thinned.backends import Backend, backend_of
from thinned.checks import MOST_AXES, message, one_of

__all__ = [
    "MOST_AXES",
    "anywhere",
    "id_outside",
    "number",
    "of_one_type",
    "one_of",
    "parameter",
    "positive",
    "require_alike",
    "require_axes",
    "require_broadcast",
    "require_unit_axis",
    "typed",
    "wide",
]


def require_alike(who: str, name: str, array: Any, beside: str, x: Any) -> Any:
    """`array` as its library's functions take it. TypeError unless it is one of real numbers, and
    of the library of x, which is called `beside`."""
    backend = backend_of(who, array, name)
    if backend is not backend_of(who, x, beside):
        got, wanted = type(array).__name__, type(x).__name__
        raise TypeError(message(who, name, f"an array of {beside}'s library ({wanted})", got))
    backend.require_real(who, array, name)
    backend.require_beside(who, array, name, x, beside)
    return backend.plain(array)


def require_broadcast(who: str, name: str, array: Any, beside: str, x: Any) -> None:
    """ValueError unless `array` broadcasts to the shape of x, which is called `beside`."""
    found, shape = tuple(array.shape), tuple(x.shape)
    trailing = shape[len(shape) - len(found) :]
    if len(found) > len(shape) or any(
        n not in (1, m) for n, m in zip(found, trailing, strict=True)
    ):
        needed = f"an array that broadcasts to {beside}'s shape {shape}"
        raise ValueError(message(who, name, needed, f"shape {found}"))


def parameter(who: str, name: str, array: Any) -> tuple[Any, Any, Any]:
    """The functions of a learned array's library, the array as its arithmetic runs, and the type
    of what comes of it, which is the array's."""
    backend = backend_of(who, array, name)
    backend.require_floating(who, array, name)
    return backend.namespace, wide(backend, array), backend.plain(array).dtype


def wide(backend: Backend, x: Any) -> Any:
    """x in the type its arithmetic runs in: binary64 as it is, all others in binary32."""
    xp, x = backend.namespace, backend.plain(x)
    return x if x.dtype == xp.float64 else xp.astype(x, xp.float32)


def typed(xp: Any, y: Any, dtype: Any) -> Any:
    """y in this type, of NumPy's byte order too."""
    return y if y.dtype == dtype else xp.astype(y, dtype)


def of_one_type(xp: Any, *arrays: Any) -> list[Any]:
    """The arrays in a type that they can be multiplied in: their own, where it is one; else
    binary64 where one is that, and binary32 else."""
    types = [array.dtype for array in arrays]
    if all(each == types[0] for each in types):
        return list(arrays)
    one = xp.float64 if xp.float64 in types else xp.float32
    return [xp.astype(array, one) for array in arrays]


def number(who: str, name: str, value: Any, low: float = -math.inf, above: bool = False) -> float:
    """`value` as a finite float that is at least `low`; above it, where `above` is so."""
    requirement = "a finite number"
    if low > -math.inf:
        requirement += f" above {low:g}" if above else f" of at least {low:g}"
    found = checks.real(who, name, value, requirement)
    if not math.isfinite(found) or found < low or (above and found == low):
        raise ValueError(message(who, name, requirement, f"{found:g}"))
    return found


def positive(who: str, name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    return number(who, name, value, 0.0, above=True)


def require_axes(who: str, shared_axes: Any, **_: Any) -> None:
    """An error unless these are axes of some array."""
    checks.axes(who, shared_axes, MOST_AXES)


def require_unit_axis(who: str, name: str, axis: Any, axes: int = MOST_AXES) -> int:
    """An axis of an array with this many axes, from 0; not the first, along which samples lie."""
    found = checks.integer(who, name, axis, -axes, axes) % axes
    if found == 0:
        requirement = "another axis than 0, along which the samples lie"
        raise ValueError(message(who, name, requirement, axis))
    return found


def anywhere(backend: Backend, *arrays: Any, condition: Any) -> bool:
    """Whether condition(*arrays) holds for an element, as far as its values can be read now.

    False while a compiler reads or records the program, under torch.func.vmap and on the meta
    device: there is nothing to read. On an accelerator the answer waits for the arrays.
    """
    if backend.staged() or any(backend.traced(array) for array in arrays):
        return False
    found = backend.namespace.any(condition(*arrays))
    try:
        return bool(found)
    except RuntimeError:  # PyTorch says so only when it is asked
        return False


def id_outside(backend: Backend, ids: Any, count: int) -> int | None:
    """An id that is not in [0, count), as far as values can be read now (see `anywhere`); None
    where there is none."""
    xp = backend.namespace

    def outside(ids: Any) -> Any:
        wide = xp.astype(ids, xp.int64)  # narrow types cannot hold every number of ids
        return (wide < 0) | (wide >= count)

    if not anywhere(backend, ids, condition=outside):
        return None
    return int(xp.reshape(ids, (-1,))[xp.reshape(outside(ids), (-1,))][0])
