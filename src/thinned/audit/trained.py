"""Which models of a file are trained: those of its optimizers, and not those that are frozen."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable

from thinned.audit.nodes import walk
from thinned.audit.source import Source

__all__ = ["among", "built_in", "freezes", "frozen", "is_optimizer", "last_name", "learners"]
__all__ += ["loaded_quiet", "stepping", "steps_next"]


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


def steps_next(source: Source, node: ast.Call) -> str:
    """Return the last name of the optimizer that steps at a call, or next after it in the same list
    of statements; "" where none does."""
    statement = source.statement_of(node)
    if statement is None:
        return ""
    block, place = source.block_of(statement)
    for later in block[place:]:
        found = stepping(later)
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""


def built_in(function: ast.AST) -> dict[str, set[str]]:
    """Return the names of what the optimizers that a function builds are given, by their own names:
    of models whose parameters they get, and of single tensors."""
    found: dict[str, set[str]] = {}
    for node in walk(function):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        target, call = node.targets[0], node.value
        first = next((k.value for k in call.keywords if k.arg == "params"), None)
        first = call.args[0] if call.args else first
        if not isinstance(target, ast.Name) or not is_optimizer(target) or first is None:
            continue
        given = first.elts if isinstance(first, (ast.List, ast.Tuple)) else [first]
        names = set()
        for part in given:
            inner = _with_parameters(part) or part
            names.add(inner.id if isinstance(inner, ast.Name) else "")
        listed = isinstance(first, (ast.List, ast.Tuple)) or _with_parameters(first) is not None
        found.setdefault(last_name(target), set()).update(names if listed else {""})
    return {name: models for name, models in found.items() if "" not in models}


def _with_parameters(node: ast.expr) -> ast.expr | None:
    """The model of `model.parameters()`; None for anything else."""
    func = node.func if isinstance(node, ast.Call) else None
    return func.value if isinstance(func, ast.Attribute) and func.attr == "parameters" else None


def frozen(source: Source) -> set[str]:
    """Return the models of a script, as `global net`, whose parameters it takes from gradients at
    its top level."""
    found = set()
    for loop in source.loops:
        model = _with_parameters(loop.iter) if isinstance(loop, ast.For) else None
        if not isinstance(model, ast.Name) or source.function_of(loop) is not None:
            continue
        if any(
            isinstance(n, ast.Attribute) and n.attr == "requires_grad" and _is_false(source, n)
            for n in walk(loop)
        ):
            found.add(f"global {model.id}")
    return found


def _is_false(source: Source, target: ast.Attribute) -> bool:
    statement = source.parents[target]
    return isinstance(statement, ast.Assign) and source.value(statement.value) is False


def loaded_quiet(source: Source, value: ast.expr) -> bool:
    """Say whether a model of transformers is loaded here: from_pretrained gives it in evaluation.
    Not where the file speaks of train() anywhere."""
    if "train" in source.attributes:
        return False
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr == "from_pretrained":
            name = source.resolve(value.func) or ""
            return name.startswith("transformers.") and "Model" in name.split(".")[-2]
        value = value.func.value
    return False


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


def last_name(node: ast.expr, *, as_written: bool = False) -> str:
    """Return the last name of an expression, in small letters where it is not asked as written."""
    name = str(node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", ""))
    return name if as_written else name.lower()


def is_optimizer(node: ast.expr) -> bool:
    return "opt" in last_name(node)
