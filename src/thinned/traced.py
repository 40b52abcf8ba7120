"""Coordinates that a program of JAX's holds as arrays, and who knows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Traced", "load_jax"]


class Traced(Protocol):
    """What an address asks a library whose programs hold coordinates as arrays."""

    def is_traced(self, value: Any) -> bool: ...
    def coordinate(self, name: str, value: Any) -> Any: ...
    def poison(self, at: Any, given: dict[str, Any]) -> None: ...
    def settled(self, who: str, at: Any) -> Any: ...
    def shown(self, at: Any) -> str: ...
    def fold_in(self, at: Any, n: Any) -> Any: ...


# What loads the part that knows JAX's tracers. The package says it (thinned/__init__.py): that part
# stands on a floor above addresses.
load_jax: Callable[[], Traced] | None = None
