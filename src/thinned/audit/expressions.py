"""What expressions made of others stand for: containers, choices, numbers.

A handler takes who interprets the parts, the expression, the call that it is seen from, and how far
the question may still be followed.
"""

from __future__ import annotations

import ast
from typing import Any, Protocol

from thinned.audit.values import NOTHING, Const, Dictionary, Frame, Items, Value, choice, is_number

__all__ = ["HANDLERS"]


class Interpreter(Protocol):
    """Who says what an expression stands for."""

    def of(self, node: ast.AST | None, frame: Frame | None = None, depth: int = ...) -> Value: ...


def _subscript(asked: Interpreter, node: ast.Subscript, frame: Frame | None, depth: int) -> Value:
    base = asked.of(node.value, frame, depth - 1)
    key = asked.of(node.slice, frame, depth - 1)
    if not isinstance(key, Const):
        return NOTHING
    if isinstance(base, Dictionary):
        return asked.of(base.get(key.value), frame, depth - 1)
    if (
        isinstance(base, Items)
        and base.whole
        and isinstance(key.value, int)
        and -len(base.elements) <= key.value < len(base.elements)
    ):
        return asked.of(base.elements[key.value], frame, depth - 1)
    return NOTHING


def _either(asked: Interpreter, node: ast.IfExp, frame: Frame | None, depth: int) -> Value:
    return choice(asked.of(part, frame, depth - 1) for part in (node.body, node.orelse))


def _boolean(asked: Interpreter, node: ast.BoolOp, frame: Frame | None, depth: int) -> Value:
    values = [asked.of(part, frame, depth - 1) for part in node.values]
    if isinstance(node.op, ast.Or):
        values = [v for v in values[:-1] if v != Const(None)] + values[-1:]
    return choice(values)


def _items(
    asked: Interpreter, node: ast.List | ast.Tuple, frame: Frame | None, depth: int
) -> Value:
    found: list[ast.expr] = []
    whole = True
    for element in node.elts:
        if isinstance(element, ast.Starred):
            inner = asked.of(element.value, frame, depth - 1)
            if isinstance(inner, Items):
                found += inner.elements
                whole &= inner.whole
            else:
                whole = False
        else:
            found.append(element)
    return Items(tuple(found), whole)


def _comprehension(
    asked: Interpreter, node: ast.ListComp | ast.GeneratorExp, frame: Frame | None, depth: int
) -> Value:
    return Items((node.elt,), False)


def _dictionary(asked: Interpreter, node: ast.Dict, frame: Frame | None, depth: int) -> Value:
    entries: list[tuple[object, ast.expr]] = []
    whole = True
    for name, value in zip(node.keys, node.values, strict=True):
        if name is None:
            inner = asked.of(value, frame, depth - 1)
            if isinstance(inner, Dictionary):
                entries += inner.entries
                whole &= inner.whole
            else:
                whole = False
            continue
        key = asked.of(name, frame, depth - 1)
        if isinstance(key, Const):
            entries.append((key.value, value))
        else:
            whole = False
    return Dictionary(tuple(entries), whole)


def _walrus(asked: Interpreter, node: ast.NamedExpr, frame: Frame | None, depth: int) -> Value:
    return asked.of(node.value, frame, depth - 1)


def _sign(asked: Interpreter, node: ast.UnaryOp, frame: Frame | None, depth: int) -> Value:
    inner = asked.of(node.operand, frame, depth - 1)
    if isinstance(inner, Const):
        if isinstance(node.op, ast.Not) and isinstance(inner.value, (bool, int, type(None))):
            return Const(not inner.value)
        if isinstance(node.op, ast.USub) and is_number(inner.value):
            # A number, as is_number found; types do not follow it.
            return Const(-inner.value)  # type: ignore[operator]
    return NOTHING


def _arithmetic(asked: Interpreter, node: ast.BinOp, frame: Frame | None, depth: int) -> Value:
    left, right = (asked.of(n, frame, depth - 1) for n in (node.left, node.right))
    if not (isinstance(left, Const) and isinstance(right, Const)):
        return NOTHING
    a: Any = left.value
    b: Any = right.value
    # Only these, and only of moderate numbers: nothing that a file says may cost much.
    if not (is_number(a) and is_number(b)) or max(abs(a), abs(b)) > 2**53:
        return NOTHING
    if isinstance(node.op, ast.Add):
        return Const(a + b)
    if isinstance(node.op, ast.Sub):
        return Const(a - b)
    if isinstance(node.op, ast.Mult):
        return Const(a * b)
    if isinstance(node.op, ast.Div) and b != 0:
        return Const(a / b)
    return NOTHING


HANDLERS: dict[type[ast.AST], Any] = {
    ast.Subscript: _subscript,
    ast.IfExp: _either,
    ast.BoolOp: _boolean,
    ast.List: _items,
    ast.Tuple: _items,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.Dict: _dictionary,
    ast.NamedExpr: _walrus,
    ast.UnaryOp: _sign,
    ast.BinOp: _arithmetic,
}
