"""What is inside a node of a tree, quickly: the fields that hold nodes, by class of node."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["children", "fields_of", "walk"]

# Fields that hold no nodes, or the same few (contexts, operators) in every tree: no code asks where
# these stand, and they are a third of all.
_NO_NODES = frozenset(
    {"arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs", "level"}
    | {"module", "name", "names", "op", "ops", "rest", "simple", "type_comment", "type_ignores"}
)
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}


def fields_of(kind: type[ast.AST]) -> tuple[str, ...]:
    """Return the names of the fields of a class of nodes that hold nodes or lists of nodes."""
    found = _FIELDS.get(kind)
    if found is None:
        found = () if kind is ast.Constant else tuple(n for n in kind._fields if n not in _NO_NODES)
        _FIELDS[kind] = found
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right inside one, in the order of its fields."""
    found: list[ast.AST] = []
    for field in fields_of(type(node)):
        value = getattr(node, field)
        if type(value) is list:
            # None stands for the key of `**rest` in a dict.
            found += value if None not in value else [item for item in value if item is not None]
        elif value is not None:
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes inside it, the outer ones first."""
    found = [node]
    for inner in found:
        yield inner
        found += children(inner)
