"""Names from inside another library, which promises nothing for them."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__all__ = ["Inside"]


class Inside:
    """What is taken from inside a library, each name asked for once.

    names : name -> what does not work without it. Tests take the names away one by one.
    """

    def __init__(self, library: str, version: str, remedy: str) -> None:
        self._library, self._remedy = f"{library} {version}", remedy
        self.names: dict[str, str] = {}

    def take(self, name: str, costs: str, instead: Any) -> Any:
        """What stands behind a name; `instead`, with a warning, where this release has none.

        name : a module of the library's, and behind a colon the way from it by attributes.
        costs : what does not work then, as the end of a sentence. Empty: nothing, and no warning.
        """
        self.names[name] = costs
        room, _, way = name.partition(":")
        try:
            found: Any = import_module(room)
            for step in filter(None, way.split(".")):
                found = getattr(found, step)
        except (ImportError, AttributeError):
            if costs:
                warnings.warn(
                    f"thinned: {self._library} has no {name.replace(':', '.')}, and {costs}. "
                    f"{self._remedy}",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return instead
        return found
