"""What an expression of a file may stand for: the values of the interpreter.

A value is what is known of a thing without running anything. UNKNOWN is a value of its own, and a
rule that meets it says nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thinned.audit.source import Called, ClassInfo, Source

__all__ = [
    "NOTHING",
    "Bound",
    "Built",
    "Choice",
    "Class",
    "Const",
    "Dictionary",
    "Frame",
    "Function",
    "Items",
    "Module",
    "Named",
    "Value",
]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One call of a function of the tree: what its parameters are given, and by whom."""

    function: ast.AST
    given: Mapping[str, ast.expr]
    outer: Frame | None

    @property
    def depth(self) -> int:
        return 1 if self.outer is None else 1 + self.outer.depth


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is known."""


NOTHING: Final = Nothing()


@dataclass(frozen=True, slots=True)
class Const:
    """A number, string, truth value or None."""

    value: object


@dataclass(frozen=True, slots=True)
class Named:
    """A thing of a package that is not read: its canonical dotted name."""

    name: str


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the tree that was imported."""

    source: Source


@dataclass(frozen=True, slots=True)
class Function:
    """A function, method or lambda of the tree; `skip` parameters (self) are given already."""

    source: Source
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Class:
    """A class of the tree."""

    info: ClassInfo


@dataclass(frozen=True, slots=True)
class Bound:
    """A function with arguments that were put in before: `functools.partial`."""

    target: Value
    args: tuple[ast.expr, ...]
    keywords: tuple[tuple[str, ast.expr], ...]
    open: bool


@dataclass(frozen=True, slots=True)
class Built:
    """An instance: of a class known by name, or of one of the tree; and the call that built it.

    `called` is None for `self`, which some caller built.
    """

    kind: Named | Class
    called: Called | None


@dataclass(frozen=True, slots=True)
class Items:
    """A list or tuple whose elements are seen, a star apart; `each` stands for all of a loop."""

    elements: tuple[ast.expr, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A dict with constant keys."""

    entries: tuple[tuple[object, ast.expr], ...]
    whole: bool = True

    def get(self, key: object) -> ast.expr | None:
        return next((value for name, value in reversed(self.entries) if name == key), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several known values."""

    options: tuple[Value, ...]


Value = (
    Nothing
    | Const
    | Named
    | Module
    | Function
    | Class
    | Bound
    | Built
    | Items
    | Dictionary
    | Choice
)
