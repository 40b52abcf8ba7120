"""Rates that callers hand to functions and classes of the tree, which pass them on as they are."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from thinned.audit.binding import bind
from thinned.audit.context import is_test_code
from thinned.audit.layers import RATES
from thinned.audit.names import UNKNOWN
from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.source import Source
from thinned.audit.values import Called, Class, Function

__all__ = ["built_by", "handed_on"]


def handed_on(source: Source) -> Iterator[tuple[str, ast.expr, float]]:
    """Yield the rates above 1 that calls hand on: what takes them in the end, where, and which.

    Below 0 they switch dropout off, by the usual test.
    """
    for node in source.calls:
        called = source.called(node)
        target = built_by(called)
        if target is None:
            continue
        taken = _taken(target.source).get(target.node)
        frame = bind(target.node, called, target.skip, None) if taken else None
        if taken is None or frame is None or is_test_code(source, node):
            continue
        for name, full in taken.items():
            given = frame.given.get(name)
            value = UNKNOWN if given is None else source.value(given)
            if given is None or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if 1 < value <= 100:
                yield full, given, value


def built_by(called: Called) -> Function | None:
    """Return the function of the tree that a call runs: a class's constructor, where it is one."""
    target = called.target
    if isinstance(target, Function):
        return target
    if isinstance(target, Class):
        for member in target.info.family():
            if "__init__" in member.methods:
                return Function(member.source, member.methods["__init__"], 1)
    return None


@once
def _taken(source: Source) -> dict[ast.AST, dict[str, str]]:
    """Which parameters of each function of a file go into a rate untouched, and into whose."""
    found: dict[ast.AST, dict[str, str]] = defaultdict(dict)
    for called in source.calls_of(RATES):
        position, keyword = RATES[called.name or ""]
        p = called.argument(position, keyword)
        if not isinstance(p, ast.Name) or (called.open and keyword not in called.keywords):
            continue
        where = source.names.lookup(p.id, source.scope(p))
        if where is None or [b.kind for b in where[1]] != ["parameter"]:
            continue
        owner = where[0].owner
        if not _is_looked_at(owner, p.id):
            found[owner][p.id] = called.name or ""
    return found


def _is_looked_at(owner: ast.AST, name: str) -> bool:
    """Whether a function compares its parameter with more than 0: 1 and above mean something."""
    return any(
        isinstance(node, ast.Compare)
        and any(isinstance(side, ast.Name) and side.id == name for side in sides)
        and not all(
            (isinstance(side, ast.Name) and side.id == name)
            or (isinstance(side, ast.Constant) and not side.value)
            for side in sides
        )
        for node in walk(owner)
        if isinstance(node, ast.Compare)
        for sides in [(node.left, *node.comparators)]
    )
