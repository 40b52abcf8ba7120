"""Which models of a file are trained: those of its optimizers, and not those that are frozen."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable

from thinned.audit.nodes import walk
from thinned.audit.source import Source

__all__ = ["among", "freezes", "is_optimizer", "last_name", "learners", "stepping"]


def learners(source: Source) -> dict[str, set[str]]:
    """Return the models whose parameters an optimizer is given, as `self.net` or `local net`, by
    the optimizer's last name, "" for none."""
    found: dict[str, set[str]] = defaultdict(set)
    for attribute in source.attributes.get("parameters", ()):
        call = source.parents[attribute]
        outer = next((a for a in source.above(call) if isinstance(a, ast.Call)), None)
        if outer is None:
            continue
        last = getattr(outer.func, "attr", getattr(outer.func, "id", ""))
        if last[:1].isupper() or "opt" in last.lower():
            parts: list[str] = []
            node: ast.expr = attribute.value
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            if isinstance(node, ast.Name):
                begin = "self" if node.id == "self" else f"local {node.id}"
                dotted = ".".join([begin, *reversed(parts)])
                statement = source.statement_of(outer)
                targets = statement.targets if isinstance(statement, ast.Assign) else []
                names = [last_name(t) for t in targets if isinstance(t, (ast.Name, ast.Attribute))]
                for name in names or [""]:
                    found[name] |= {dotted, dotted.replace("local ", "global ")}
    return found


def stepping(loop: ast.AST) -> set[str]:
    """The last names of the optimizers that step in a loop, by themselves or by a scaler."""
    found = set()
    for node in walk(loop):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "step":
            scaled = "scaler" in last_name(node.func.value) and bool(node.args)
            by = node.args[0] if scaled else node.func.value
            if scaled or is_optimizer(by):
                found.add(last_name(by))
    return found


def freezes(function: ast.AST, model: ast.expr) -> bool:
    """Say whether a function takes gradients from parameters, or from a model: what it puts to
    eval() is to stay there."""
    written = ast.dump(model)
    for node in walk(function):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Attribute) and t.attr == "requires_grad" for t in node.targets
        ):
            if isinstance(node.value, ast.Constant) and node.value.value is False:
                return True
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            off = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            mine = ast.dump(node.func.value) == written
            if node.func.attr == "requires_grad_" and off == [False] and mine:
                return True
    return False


def among(key: str, keys: Iterable[str]) -> bool:
    """Whether a model is one of these, a part of one, or has one as a part."""
    return any(
        key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in keys
    )


def last_name(node: ast.expr) -> str:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return str(name).lower()


def is_optimizer(node: ast.expr) -> bool:
    return "opt" in last_name(node)
