"""The value a function returns where its arguments decide: branches on constants, and `match`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from thinned.audit.nodes import walk
from thinned.audit.values import Const, Value

__all__ = ["outcomes"]

Ask = Callable[[ast.expr], Value]


def outcomes(function: ast.AST, ask: Ask) -> list[ast.expr]:
    """Return the expressions that a function may give back, as far as `ask`, which says what an
    expression stands for, tells its branches; none where that is not seen."""
    if isinstance(function, ast.Lambda):
        return [function.body]
    found: list[ast.expr] = []
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return found
    return [] if _block(function.body, ask, found) is not False else found


def _block(statements: Sequence[ast.stmt], ask: Ask, found: list[ast.expr]) -> bool | None:
    """Whether what follows some statements is reached; None where it is not known what they do."""
    for statement in statements:
        goes_on = _statement(statement, ask, found)
        if goes_on is not True:
            return goes_on
    return True


def _statement(node: ast.stmt, ask: Ask, found: list[ast.expr]) -> bool | None:
    if isinstance(node, ast.Return):
        if node.value is not None:
            found.append(node.value)
        return False if node.value is not None else None
    if isinstance(node, ast.Raise):
        return False
    if isinstance(node, ast.If):
        truth = _truth(node.test, ask)
        if truth is not None:
            return _block(node.body if truth else node.orelse, ask, found)
        return _any([_block(branch, ask, found) for branch in (node.body, node.orelse)])
    if isinstance(node, ast.Match):
        return _match(node, ask, found)
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return _block(node.body, ask, found)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return True
    return None if any(isinstance(n, ast.Return) for n in walk(node)) else True


def _any(ends: Sequence[bool | None]) -> bool | None:
    return None if None in ends else any(ends)


def _match(node: ast.Match, ask: Ask, found: list[ast.expr]) -> bool | None:
    subject = ask(node.subject)
    ends: list[bool | None] = []
    for case in node.cases:
        fits = _fits(case.pattern, subject, ask) if case.guard is None else None
        if fits is False:
            continue
        ends.append(_block(case.body, ask, found))
        if fits:
            return _any(ends)
    return _any([*ends, True])


def _fits(pattern: ast.pattern, subject: Value, ask: Ask) -> bool | None:
    """Whether a pattern takes a value; None where that is not known."""
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
        return True
    if isinstance(pattern, ast.MatchOr):
        fits = [_fits(option, subject, ask) for option in pattern.patterns]
        return True if True in fits else None if None in fits else False
    if not isinstance(subject, Const):
        return None
    if isinstance(pattern, ast.MatchSingleton):
        return pattern.value is subject.value
    value = ask(pattern.value) if isinstance(pattern, ast.MatchValue) else None
    return value.value == subject.value if isinstance(value, Const) else None


def _truth(test: ast.expr, ask: Ask) -> bool | None:
    """Whether a condition holds; None where that is not known."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _truth(test.operand, ask)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        parts = [_truth(value, ask) for value in test.values]
        decides = isinstance(test.op, ast.Or)
        return decides if decides in parts else None if None in parts else not decides
    if isinstance(test, ast.Compare):
        return _compared(test, ask)
    value = ask(test)
    return bool(value.value) if isinstance(value, Const) else None


def _compared(test: ast.Compare, ask: Ask) -> bool | None:
    if len(test.ops) != 1:
        return None
    left, op, right = ask(test.left), test.ops[0], test.comparators[0]
    if not isinstance(left, Const):
        return None
    if isinstance(op, (ast.In, ast.NotIn)):
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            return None
        options = [ask(element) for element in right.elts]
        if not all(isinstance(option, Const) for option in options):
            return None
        return (left in options) is isinstance(op, ast.In)
    other = ask(right)
    if not isinstance(other, Const):
        return None
    if isinstance(op, (ast.Eq, ast.Is)):
        return left.value == other.value
    if isinstance(op, (ast.NotEq, ast.IsNot)):
        return left.value != other.value
    if isinstance(left.value, (int, float)) and isinstance(other.value, (int, float)):
        if isinstance(op, ast.Gt):
            return left.value > other.value
        if isinstance(op, ast.Lt):
            return left.value < other.value
    return None
