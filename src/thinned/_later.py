"""Names of a package that are loaded at their first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["attribute", "public"]


def attribute(package: str, places: Mapping[str, str], name: str) -> Any:
    """The attribute `name` of a package, stored there, so that it is looked up here once.

    Parameters
    ----------
    package : str. The package's full name.
    places : mapping from a name to the full name of the module that holds it, or that it is.
    name : str.

    Raises
    ------
    AttributeError, in Python's own words, if the name has no place.
    """
    if name not in places:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    room = import_module(places[name])
    value = room if places[name] == f"{package}.{name}" else getattr(room, name)
    setattr(sys.modules[package], name, value)
    return value


def public(held: Iterable[str], names: Iterable[str]) -> list[str]:
    """What `dir` of a package shows: its public names, and what Python itself put there.

    Parameters
    ----------
    held : iterable of str. The package's globals.
    names : iterable of str. Its public names, loaded or not.
    """
    own = (name for name in held if name.startswith("__") and name.endswith("__"))
    return sorted({*own, *names})
