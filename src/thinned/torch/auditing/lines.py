"""The user's code around a call: which names a tensor or a number has there, and which are read
again."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Reuse", "names_of", "reused"]

_FOLDERS = Path(torch.__file__).parent, Path(__file__).parents[2]
_NOT_USERS = tuple(f"{folder}/" for folder in _FOLDERS)
_AUDIT = str(Path(__file__).with_name("audit.py"))


class Reuse(NamedTuple):
    """A name that is read after what it stands for was overwritten: where both happen."""

    name: str
    line: str
    read_at: int


def _frames() -> Iterator[FrameType]:
    """The frames of the user's code that lead to here, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _AUDIT:
        path = frame.f_code.co_filename
        if not path.startswith((*_NOT_USERS, "<frozen")):
            yield frame
        frame = frame.f_back


def names_of(p: float) -> frozenset[str]:
    """The names of a number in the code that calls, and in its first argument's attributes."""
    found = set()
    for frame in _frames():
        held = dict(frame.f_locals)
        own = held.pop(next(iter(frame.f_code.co_varnames), ""), None)
        attributes = getattr(own, "__dict__", {})
        for table in (held, attributes):
            found |= {name for name, value in table.items() if type(value) is float and value == p}
        break
    return frozenset(found)


def reused(x: Tensor) -> Reuse | None:
    """A name by which code reads a tensor once more, after the call that is about to overwrite it.

    Each frame of the user's that holds the tensor is looked at: whether the statement that runs
    reads its name outside of the call, or a later one does before the name is given anew.
    """
    for frame in _frames():
        names = [name for name, value in frame.f_locals.items() if value is x]
        if not names:
            continue
        found = _read_again(frame, names)
        if found is not None:
            return found
    return None


def _read_again(frame: FrameType, names: list[str]) -> Reuse | None:
    tree = _tree(frame.f_code)
    if tree is None:
        return None
    root, shift = tree
    spans = list(frame.f_code.co_positions())
    line, end, column, end_column = spans[frame.f_lasti // 2]
    if line is None or end is None or column is None or end_column is None:
        return None
    indent = len(_first_line(frame.f_code)) - len(_first_line(frame.f_code).lstrip())
    call = _call_at(root, (line - shift, column - indent, end - shift, end_column - indent))
    if call is None:
        return None
    statement, node = call
    if isinstance(statement, ast.Expr) and statement.value is node:
        return None  # called for what it does to the tensor
    given = {n.id for a in (*node.args, *(k.value for k in node.keywords)) for n in ast.walk(a)
             if isinstance(n, ast.Name)}  # fmt: skip
    inside = {id(n) for n in ast.walk(node)}
    stored = {n.id for n in ast.walk(statement)
              if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}  # fmt: skip
    path = f"{Path(frame.f_code.co_filename).name}:{line}"
    for name in names:
        for n in ast.walk(statement):
            if not isinstance(n, ast.Name) or n.id != name or id(n) in inside:
                continue
            if isinstance(n.ctx, ast.Load) and name in given:
                return Reuse(name, path, n.lineno + shift)
        if name in stored:
            continue
        end_of = (statement.end_lineno or 0, statement.end_col_offset or 0)
        later = [n for n in ast.walk(root) if isinstance(n, ast.Name) and n.id == name
                 and (n.lineno, n.col_offset) >= end_of]  # fmt: skip
        later.sort(key=lambda n: (n.lineno, isinstance(n.ctx, ast.Store), n.col_offset))
        if later and isinstance(later[0].ctx, ast.Load):
            return Reuse(name, path, later[0].lineno + shift)
    return None


@lru_cache(maxsize=256)
def _tree(code: CodeType) -> tuple[ast.AST, int] | None:
    """The function's tree, and what is added to its lines; None where there is no source."""
    linecache.checkcache(code.co_filename)
    try:
        text = textwrap.dedent("".join(inspect.getsourcelines(code)[0]))
        return ast.parse(text), code.co_firstlineno - 1
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None


def _first_line(code: CodeType) -> str:
    return linecache.getline(code.co_filename, code.co_firstlineno)


def _call_at(root: ast.AST, span: tuple[int, int, int, int]) -> tuple[ast.stmt, ast.Call] | None:
    """The call of this span, from line and column to line and column, and the simple statement
    around it."""
    for statement in ast.walk(root):
        if not isinstance(statement, ast.stmt) or hasattr(statement, "body"):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and span == (
                node.lineno,
                node.col_offset,
                node.end_lineno,
                node.end_col_offset,
            ):
                return statement, node
    return None
