"""Which backend an array belongs to. A backend is loaded when its first array comes, not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thinned.backends.base import Backend, Draw
from thinned.backends.found import FOUND

__all__ = ["Backend", "Draw", "backend_of", "known"]


def _numpy() -> Backend:
    from thinned.backends.numpy import backend

    return backend


def _torch() -> Backend:
    from thinned.backends.torch.backend import backend

    return backend


def _jax() -> Backend:
    from thinned.backends.jax.backend import backend

    return backend


def _keras() -> Backend:
    from thinned.backends.keras import backend

    return backend


# Root package of an array's type (or of a base of it) -> what loads its backend. Import statements,
# because compilers of Python follow them, and importlib they do not.
_FILES: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "jaxlib": _jax,
    "tensorflow": _keras,
}


def backend_of(who: str, x: Any, name: str = "x") -> Backend:
    """The backend of array `x`; TypeError for whatever is no array of a known library."""
    kind: Any = type(x)
    found = FOUND[kind] if known(kind) else None
    if found is None:
        plain = isinstance(x, (list, tuple, int, float))
        remedy = f"Wrap it in numpy.asarray({name})." if plain else ""
        kinds = " or ".join(f"a {library} array" for library in _FILES if library != "jaxlib")
        raise TypeError(f"{who}: {name} must be {kinds}, got {type(x).__name__}. {remedy}".rstrip())
    return found


def known(kind: Any) -> bool:
    """Whether a class is one of arrays, of a library that has a backend."""
    return kind in FOUND or _find(kind) is not None


# What torch.compiler.assume_constant_result sets, which would load torch. A compiler calls once and
# does not look inside: loading a backend changes the dictionary, which it could not follow.
known._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _find(kind: Any) -> Backend | None:
    for base in kind.__mro__:
        load = _FILES.get(base.__module__.partition(".")[0])
        if load is not None:
            backend = load()
            if not backend.holds(kind):  # a dtype, a module, a generator
                return None
            FOUND[kind] = backend
            return backend
    return None
