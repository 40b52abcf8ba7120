"""Things that code reads, looked up where they lie: nothing of the model's is run."""

from __future__ import annotations

import itertools
import random
import types
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

__all__ = [
    "Made",
    "content",
    "looked_up",
    "named_generator",
    "parts",
    "probability_of",
    "static",
    "table_parts",
]


class Made(NamedTuple):
    """An object of a class that code makes. Its own attributes are unknown."""

    kind: type


def parts(held: Any) -> list[Any]:
    """What a container holds; of a long one, data rather than a table, the beginning."""
    return list(itertools.islice(held.values() if isinstance(held, dict) else held, 1000))


def table_parts(held: Any, attributes: Mapping[str, Any], words: Set[str]) -> list[Any]:
    """What a container may be read for. Of a table by strings, one of which an object of this code
    has in an attribute, these entries and those that its code spells out (words). So where the
    attribute is None that the code asks by its name: what it spells out is the default."""
    if isinstance(held, dict):
        asked = [name for name in attributes.values() if isinstance(name, str) and name in held]
        spelt = sorted(words & held.keys())
        unset = spelt and any(v is None and name in words for name, v in attributes.items())
        if asked or unset:
            return [held[key] for key in dict.fromkeys((*asked, *spelt))]
    return parts(held)


def content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def static(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def looked_up(target: Any, name: str) -> Any:
    """An attribute, found without running any code of the model's; None where it is not known."""
    if type(target).__module__ == "torch._ops":
        return getattr(target, name, None)  # an operator, looked up at its first use
    if isinstance(target, types.ModuleType):
        if name not in vars(target) and target.__name__.partition(".")[0] == "thinned":
            return getattr(target, name, None)  # Thinned's own names load at their first use
        return vars(target).get(name)
    if target is None or isinstance(target, Made):
        return None if target is None else static(target.kind, name)
    if isinstance(target, type):
        return static(target, name)
    held = getattr(target, "__dict__", {})
    if name in held:
        return held[name]
    if isinstance(target, nn.Module):
        for kept in (target._modules, target._parameters, target._buffers):
            if name in kept:
                return kept[name]
    return static(type(target), name)


def probability_of(value: Any) -> float | None:
    """A number that may be a probability."""
    if isinstance(value, Tensor) and value.dim() == 0 and value.device.type == "cpu":
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        return None
    return float(value) if 0.0 <= value <= 1.0 else None


def named_generator(generator: Any) -> str:
    if isinstance(generator, random.Random):
        return "random" if generator is getattr(random, "_inst", None) else "random.Random"
    if generator is getattr(np.random.mtrand, "_rand", None):
        return "numpy.random"
    return f"numpy.random.{type(generator).__name__}"
