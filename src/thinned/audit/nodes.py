"""What is inside a node of a tree, quickly: the fields that hold nodes, by class of node."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["children", "fields_of", "is_none", "walk"]

# Fields that hold no nodes, or the same few (contexts, operators) in every tree: no code asks where
# these stand, and they are a third of all.
_NO_NODES = frozenset(
    {"arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs", "level"}
    | {"module", "name", "names", "op", "ops", "rest", "simple", "type_comment", "type_ignores"}
)
# What holds a value of Python's own, and no node, in a field that elsewhere holds one.
_LEAVES = frozenset({ast.Constant, ast.MatchSingleton})
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}


def fields_of(kind: type[ast.AST]) -> tuple[str, ...]:
    """Return the names of the fields of a class of nodes that hold nodes or lists of nodes."""
    found = _FIELDS.get(kind)
    if found is None:
        named = () if kind in _LEAVES else kind._fields
        found = _FIELDS[kind] = tuple(name for name in named if name not in _NO_NODES)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right inside one, in the order of its fields."""
    found: list[ast.AST] = []
    kind = type(node)
    fields = _FIELDS.get(kind)
    for field in fields_of(kind) if fields is None else fields:
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


def is_none(node: ast.AST | None) -> bool:
    """Whether an expression is the constant None."""
    return isinstance(node, ast.Constant) and node.value is None
