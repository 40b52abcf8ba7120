"""What a function does with a model: which of its methods it calls, whether it learns, without
gradients, over and over.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.nodes import children, walk
from thinned.audit.once import once
from thinned.audit.source import Function, Source

__all__ = [
    "forward_calls",
    "freezes",
    "inside",
    "is_of_modules",
    "is_quiet",
    "is_repeated",
    "key_of",
    "learns",
    "method_calls",
    "owner_of",
    "sets_training",
    "without_gradient",
]

_NO_GRAD = frozenset({"torch.no_grad", "torch.inference_mode"})


def inside(function: Function) -> Iterator[ast.AST]:
    """Everything in a function, functions inside it left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            waiting.extend(children(node))


def key_of(node: ast.AST) -> str | None:
    """A name or a chain of attributes as a word, to compare two."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def method_calls(function: Function, *names: str) -> list[ast.Call]:
    found = [
        node
        for node in inside(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
    ]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def owner_of(call: ast.Call) -> str | None:
    """What the method of a call belongs to."""
    return key_of(call.func.value) if isinstance(call.func, ast.Attribute) else None


def sets_training(source: Source, call: ast.Call) -> bool:
    mode = call.args[0] if call.args else next((k.value for k in call.keywords), None)
    return mode is None or source.value(mode) is True


def forward_calls(function: Function, of: str) -> list[ast.Call]:
    return [
        node
        for node in inside(function)
        if isinstance(node, ast.Call) and key_of(node.func) in (of, f"{of}.forward")
    ]


def learns(function: Function) -> bool:
    """Whether a function takes gradient steps."""
    return bool(method_calls(function, "backward", "zero_grad", "manual_backward"))


def without_gradient(source: Source, function: Function) -> bool:
    for node in function.decorator_list:
        inner = node.func if isinstance(node, ast.Call) else node
        if source.resolve(inner) in _NO_GRAD:
            return True
    return function in _holding_quiet(source)


@once
def _holding_quiet(source: Source) -> set[ast.AST | None]:
    """The functions that hold a block without gradients, by themselves."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        next((at for at in source.above(statement) if isinstance(at, kinds)), None)
        for statement in source.withs
        if is_quiet(source, statement)
    }


def is_quiet(source: Source, statement: ast.With) -> bool:
    return any(
        isinstance(item.context_expr, ast.Call)
        and source.resolve(item.context_expr.func) in _NO_GRAD
        for item in statement.items
    )


def is_repeated(source: Source, call: ast.Call) -> bool:
    """Whether a forward pass is run again and again on one input: over a range, not over data."""
    read = {n.id for arg in call.args for n in walk(arg) if isinstance(n, ast.Name)}
    for at in source.above(call):
        iterated: list[ast.expr] = []
        if isinstance(at, (ast.For, ast.AsyncFor)):
            iterated = [at.iter]
        elif isinstance(at, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
            iterated = [g.iter for g in at.generators]
        if iterated and not read.isdisjoint(_given_in(at)):
            continue  # another input in each turn: the steps of an environment, a batch by number
        if any(isinstance(i, ast.Call) and getattr(i.func, "id", "") == "range" for i in iterated):
            return True
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return False
    return False


def _given_in(turns: ast.AST) -> set[str]:
    """The names that each turn of a loop gives anew; what loops inside it run over is the same data
    again."""
    inner = {
        name
        for node in walk(turns)
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)) and node is not turns
        for name in walk(node.target)
        if isinstance(turns, (ast.For, ast.AsyncFor))
    }
    return {
        n.id
        for n in walk(turns)
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load) and n not in inner
    }


def is_of_modules(source: Source, call: ast.Call) -> bool:
    """Whether train() goes to modules that a loop or comprehension picks."""
    func = call.func
    if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name):
        return False
    name = func.value.id
    for at in source.above(call):
        targets: list[ast.AST] = []
        if isinstance(at, (ast.For, ast.AsyncFor)):
            targets = [at.target]
        elif isinstance(at, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            targets = [g.target for g in at.generators]
        for target in targets:
            if any(isinstance(n, ast.Name) and n.id == name for n in walk(target)):
                return True
    return False


def freezes(function: ast.AST) -> bool:
    """Whether a function speaks of frozen parts, whose eval() is meant."""
    return any(
        re.search(r"(?i)freez|frozen|requires_grad|batch_?norm|(?:^|_)bn(?:_|$)|teacher", word)
        for n in walk(function)
        for word in [getattr(n, "attr", None) or getattr(n, "id", None) or getattr(n, "arg", None)]
        if isinstance(word, str)
    )
