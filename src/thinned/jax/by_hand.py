"""Masks that a module's own code draws with jax.random: what adopt cannot give an address, but can
name."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax

__all__ = ["drawn_by_hand"]

# What masks are made with. Noise that is added, by jax.random.normal, is none.
_OF_MASKS = ("bernoulli", "binomial", "bits", "choice", "permutation", "uniform")
_LIBRARIES = ("builtins", "equinox", "flax", "jax", "thinned")
# Where parameters are made.
_MAKING = ("__init__", "__post_init__", "setup", "init")


@lru_cache(maxsize=4096)
def drawn_by_hand(kind: type) -> str:
    """The function of jax.random, "jax.random.bernoulli", by which code of a class draws what may
    be a mask; "" where there is none. Read from the source, as far as there is one."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _LIBRARIES:
            continue
        for name, held in vars(base).items():
            function = inspect.unwrap(held) if callable(held) else None
            if name in _MAKING or not inspect.isfunction(function):
                continue
            for called in _called_in(function):
                for drawn in _OF_MASKS:
                    if called is getattr(jax.random, drawn):
                        return f"jax.random.{drawn}"
    return ""


def _called_in(function: Callable[..., Any]) -> Iterator[Any]:
    """What the names of calls in a function's source stand for."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError, ValueError):
        return  # made without a file, or a part of a line, which has no source to read
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts: list[str] = []
            of: ast.expr = node.func
            while isinstance(of, ast.Attribute):
                parts.append(of.attr)
                of = of.value
            if isinstance(of, ast.Name):
                found: Any = getattr(function, "__globals__", {}).get(of.id)
                for part in reversed(parts):
                    found = getattr(found, part, None)
                yield found
