"""Answers about a file that are worked out once, and kept with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["once"]

T = TypeVar("T")


def once(answer: Callable[[Any], T]) -> Callable[[Any], T]:
    """Have a question about a file answered once: the answer goes when the file goes, which a table
    of this module would not let it do, as answers name their files."""

    @wraps(answer)
    def asked(source: Any) -> T:
        known: dict[Any, T] = source.answers
        if answer not in known:
            known[answer] = answer(source)
        return known[answer]

    return asked
