"""Dropout in place, on a tensor that is needed again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from thinned.audit.context import is_test_code
from thinned.audit.flow import before, chains, operation
from thinned.audit.layers import FUNCTIONAL, SAVES_OUTPUT, TORCH_DROPOUT
from thinned.audit.names import UNKNOWN
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source

__all__ = ["in_place"]


@rule(
    "THN008",
    "inplace-dropout-on-needed-tensor",
    sentence="Dropout in place overwrites a tensor that is needed again.",
    why="ReLU, sigmoid, tanh and softmax keep their output for the backward pass, which then "
    "fails; and a tensor used again afterwards, in a residual sum say, is dropped there too.",
    mend="Leave inplace out: the memory it saves is small.",
    wrong="return x + F.dropout(x, 0.1, self.training, inplace=True)",
    right="return x + F.dropout(x, 0.1, self.training)",
)
def in_place(source: Source) -> Iterator[Hit]:
    for _, steps in chains(source):
        for first, second in pairwise(steps):
            inplace = second.built is not None and _is_inplace(source, second.built)
            if inplace and first.name in SAVES_OUTPUT:
                yield second.node, _about_output(first.name)
    for call in source.calls:
        found = operation(source, call)
        if found is None or not _is_inplace(source, found.made):
            continue
        if found.built is None and found.name not in FUNCTIONAL:
            continue  # the layer is built here, and p is no tensor
        if is_test_code(source, call):
            continue
        last = next(before(source, found.input), None)
        if last is not None and last.name in SAVES_OUTPUT:
            yield call, _about_output(last.name)
        elif isinstance(found.input, ast.Name):
            name = found.input.id
            if _is_used_again(source, call, found.input):
                yield call, f"Dropout in place overwrites {name}, which is used again afterwards."
            elif (other := _other_name(source, call, name)) is not None:
                yield call, f"Dropout in place overwrites {other} too, which is {name} and is read."


def _about_output(name: str) -> str:
    last = name.rpartition(".")[2]
    return f"Dropout in place overwrites the output that {last} needs for the backward pass."


def _is_inplace(source: Source, made: Called) -> bool:
    name = made.name or ""
    if name in TORCH_DROPOUT:
        position = 1
    elif name in FUNCTIONAL and FUNCTIONAL[name].inplace is not None:
        position = FUNCTIONAL[name].inplace or 0
    else:
        return False
    value = source.value(made.argument(position, "inplace"))
    return value is not UNKNOWN and value is True


def _is_used_again(source: Source, call: ast.Call, name: ast.Name) -> bool:
    """Whether the tensor is read after the call: in its own statement, or in the block's rest."""
    statement = source.statement_of(call)
    if statement is None:
        return False
    if any(
        isinstance(n, ast.Name) and n.id == name.id and n is not name and _is_load(n)
        for n in walk(statement)
    ):
        # x = x + drop(x) reads both sides; F.dropout(x, x.p) does not use the values again.
        return _in_arithmetic(source, call, statement)
    if isinstance(statement, ast.Assign) and any(
        isinstance(t, ast.Name) and t.id == name.id for t in statement.targets
    ):
        return False
    if isinstance(statement, (ast.Return, ast.Expr)):
        return False
    block, place = source.block_of(statement)
    for later in block[place + 1 : place + 101]:  # as far as flow looks back
        names = [n for n in walk(later) if isinstance(n, ast.Name) and n.id == name.id]
        if any(_is_load(n) for n in names):
            return True
        if names:
            return False
    return False


def _other_name(source: Source, call: ast.Call, name: str) -> str | None:
    """Another name that was given the same tensor before, and is read afterwards."""
    statement = source.statement_of(call)
    if statement is None:
        return None
    block, place = source.block_of(statement)
    others: list[str] = []
    for earlier in reversed(block[:place]):
        target = earlier.targets[0] if isinstance(earlier, ast.Assign) else None
        value = earlier.value if isinstance(earlier, ast.Assign) else None
        if isinstance(target, ast.Name) and isinstance(value, ast.Name) and value.id == name:
            others.append(target.id)
        if any(isinstance(n, ast.Name) and n.id == name and not _is_load(n) for n in walk(earlier)):
            break
    for other in others:
        for later in block[place + 1 : place + 101]:
            names = [n for n in walk(later) if isinstance(n, ast.Name) and n.id == other]
            if any(_is_load(n) for n in names):
                return other
            if names:
                break
    return None


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _in_arithmetic(source: Source, call: ast.Call, statement: ast.stmt) -> bool:
    for at in source.above(call):
        if at is statement:
            return False
        if isinstance(at, ast.BinOp):
            return True
    return False
