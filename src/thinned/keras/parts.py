"""The layers of a model and where they stand in it: names that are the same in every process."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import keras

from thinned.keras.internals import DRAWS, parts_of, to_snake_case

__all__ = ["generators_of", "unseeded_draws", "walk"]


def walk(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer of a model with its place, such as "blocks/1/attention"; the model's own is "".

    A layer that stands at several places has the one with the fewest steps, and of those the first
    by the alphabet: in which order a model holds its layers is not the same on all backends.
    """
    places: dict[int, str] = {id(model): ""}
    children: dict[int, list[tuple[str, Any]]] = {}
    level = [model]
    while level:
        met: dict[int, tuple[str, Any]] = {}
        for layer in level:
            place = places[id(layer)]
            children[id(layer)] = _named(layer, parts_of(layer)[0])
            for name, child in children[id(layer)]:
                here = f"{place}/{name}" if place else name
                if id(child) not in places and here < met.get(id(child), (_LAST, None))[0]:
                    met[id(child)] = here, child
        places.update({key: place for key, (place, _) in met.items()})
        level = [child for _, child in met.values()]

    seen: set[int] = set()

    def visit(layer: Any) -> Iterator[tuple[str, Any]]:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield places[id(layer)], layer
        for _, child in children[id(layer)]:
            yield from visit(child)

    return visit(model)


_LAST = "\U0010ffff"  # behind every name


def generators_of(layer: Any) -> list[tuple[str, Any]]:
    """A layer's own seed generators by their names in it; "" where there is but one."""
    found = _named(layer, parts_of(layer)[1])
    return [("", found[0][1])] if len(found) == 1 else found


def _named(layer: Any, parts: list[Any]) -> list[tuple[str, Any]]:
    """Parts of a layer by the names that they have in it.

    A functional or sequential model names its layers. Elsewhere a part has the attribute's name
    that holds it, with its place where that is a list.
    """
    places: dict[int, str] = {}
    if not isinstance(layer, (keras.Sequential, keras.models.Model)) or not _is_graph(layer):
        # PyTorch's modules keep those that they hold apart from their other attributes.
        held = {**vars(layer), **vars(layer).get("_modules", {})}
        for name in sorted(set(held) - _BOOKS):
            if not name.startswith("_self_"):  # TensorFlow's books
                _find(held[name], name, places)
    made: dict[str, int] = {}
    named = []
    for part in _unique(parts):
        name = places.get(id(part)) or _own_name(part)
        made[name] = made.get(name, 0) + 1
        named.append((name if made[name] == 1 else f"{name}_{made[name] - 1}", part))
    return named


# Where Keras and PyTorch keep books of a layer's parts.
_BOOKS = frozenset(
    {
        "_layers",
        "_seed_generators",
        "_tracker",
        "_modules",
        "_metrics",
        "_operations",
        "_functional",
    }
)


def _is_graph(layer: Any) -> bool:
    return isinstance(layer, keras.Sequential) or hasattr(layer, "_operations")


def _unique(parts: list[Any]) -> list[Any]:
    return list({id(part): part for part in parts}.values())


def _find(value: Any, name: str, places: dict[int, str]) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _find(one, f"{name}/{key}", places)
    elif isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            _find(one, f"{name}/{number}", places)
    elif isinstance(value, (keras.Layer, keras.random.SeedGenerator)):
        places.setdefault(id(value), name.strip("_"))


def _own_name(part: Any) -> str:
    """A layer's name where somebody gave it one, and its kind where Keras counted it: that count
    goes on from model to model."""
    kind = str(to_snake_case(type(part).__name__))
    counted = re.fullmatch(rf"{re.escape(kind)}(_\d+)?", part.name)
    return kind if counted else str(part.name).replace("/", "_")


def unseeded_draws(layer: Any) -> list[str]:
    """Draws of `keras.random` and `keras.backend` in the code of a layer's class that name no
    generator, and so have no site, and layers of dropout that its `call` makes anew each time: read
    from the source, as far as there is one."""
    found: list[str] = []
    for kind in type(layer).__mro__:
        if kind.__module__.partition(".")[0] in ("keras", "thinned", "torch", "tensorflow"):
            break
        try:
            source = textwrap.dedent(inspect.getsource(kind))
        except (OSError, TypeError):  # made without a file
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and (name := _draw_of(node)) is not None:
                found.append(name)
            if isinstance(node, ast.FunctionDef) and node.name == "call":
                found += _made_in(node)
    return found


def _made_in(function: ast.FunctionDef) -> list[str]:
    """Layers of dropout that are made and called at once, by their names."""
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    kinds = [made.func for made in calls if isinstance(made, ast.Call)]
    names = {getattr(kind, "attr", getattr(kind, "id", "")) for kind in kinds}
    return [f"{name}(...) anew in `call`" for name in sorted(names) if name.endswith("Dropout")]


def _draw_of(call: ast.Call) -> str | None:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return None
    of = function.value
    room = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
    if room in ("backend", "K") and function.attr in _OF_BACKEND:
        return f"keras.backend.{function.attr}"
    if not hasattr(DRAWS, function.attr):
        return None
    root = of.value.id if isinstance(of, ast.Attribute) and isinstance(of.value, ast.Name) else ""
    if room != "random" or root in ("np", "numpy", "jnp", "tf") or function.attr not in _DRAWN:
        return None
    seeds = [one.value for one in call.keywords if one.arg == "seed"]
    named = seeds and not isinstance(seeds[0], ast.Constant)
    return None if named else f"keras.random.{function.attr}"


# Of Keras 2, which take no generator.
_OF_BACKEND = frozenset(
    {"dropout", "random_bernoulli", "random_binomial", "random_normal", "random_uniform"}
)
_DRAWN = frozenset(
    {"binomial", "dropout", "normal", "randint", "truncated_normal", "uniform", "categorical"}
)
