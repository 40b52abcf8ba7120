"""Names of a package that are loaded at their first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["attribute"]


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
