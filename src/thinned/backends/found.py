"""Which backend each class of arrays has, as far as it is known."""

from __future__ import annotations

from typing import Any

from thinned.backends.base import Backend

__all__ = ["FOUND", "known"]

FOUND: dict[Any, Backend] = {}


def known(backend: Backend, *kinds: Any) -> None:
    """Said by a backend of the classes that its arrays have, so that no compiler needs to look for
    them: it cannot read the bases of every class."""
    for kind in kinds:
        FOUND[kind] = backend
