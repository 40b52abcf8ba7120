"""Which backend an array belongs to. A backend is loaded when its first array comes, not before."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, cast

from thinned.backends.base import Backend, Draw

__all__ = ["Backend", "Draw", "backend_of"]

# Root package of an array's type (or of a base of it) -> file of its backend.
_FILES = {"numpy": "thinned.backends.numpy"}


def backend_of(who: str, x: Any, name: str = "x") -> Backend:
    """The backend of array `x`; TypeError for whatever is no array of a known library."""
    kind: Any = type(x)
    found = _backend_of_type(kind)
    if found is None:
        plain = isinstance(x, (list, tuple, int, float))
        remedy = f"Wrap it in numpy.asarray({name})." if plain else ""
        kinds = " or ".join(f"a {library} array" for library in _FILES)
        raise TypeError(f"{who}: {name} must be {kinds}, got {type(x).__name__}. {remedy}".rstrip())
    return found


@cache
def _backend_of_type(kind: Any) -> Backend | None:
    for base in kind.__mro__:
        file = _FILES.get(base.__module__.partition(".")[0])
        if file is not None:
            return cast(Backend, import_module(file).backend)
    return None
