"""What an expression of a file may stand for: the values of the interpreter.

A value is what is known of a thing without running anything. UNKNOWN is a value of its own, and a
rule that meets it says nothing.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thinned.audit.names import Scope

__all__ = [
    "KNOWN",
    "NOTHING",
    "OPTIONS",
    "Bound",
    "Built",
    "Called",
    "Choice",
    "Class",
    "ClassInfo",
    "Const",
    "Definition",
    "Dictionary",
    "Frame",
    "Function",
    "Items",
    "Module",
    "Named",
    "Value",
    "choice",
    "is_number",
]


# Packages whose names are facts: nothing of them is looked for in the tree.
KNOWN = (
    *("torch.", "torchvision.", "tensorflow.", "keras.", "jax.", "flax.", "equinox.", "haiku."),
    *("numpy.", "functools.", "thinned.", "math.", "os.", "typing.", "lightning.", "dataclasses."),
)

# A choice among more values than these is no knowledge.
OPTIONS = 4

Definition = ast.FunctionDef | ast.AsyncFunctionDef


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
    """A file of the tree that was imported. Here and below, `source` is the file in question, a
    thinned.audit.source.Source: it is made of values, and they do not know its class."""

    source: Any


@dataclass(frozen=True, slots=True)
class Function:
    """A function, method or lambda of the tree; `skip` parameters (self) are given already."""

    source: Any
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


@dataclass(slots=True)
class Called:
    """A call with the arguments that `functools.partial` put in before it.

    `open` says that `*args` or `**kwargs` may bring arguments that are not seen.
    """

    node: ast.Call
    name: str | None
    args: list[ast.expr]
    keywords: dict[str, ast.expr]
    open: bool
    target: Value = NOTHING

    def argument(self, index: int | None, *names: str) -> ast.expr | None:
        """Return what is passed by one of these names or at this position."""
        for name in names:
            if name in self.keywords:
                return self.keywords[name]
        if index is not None and index < len(self.args):
            return self.args[index]
        return None


@dataclass(slots=True, eq=False)
class ClassInfo:
    """A class: its bases, methods, and what its attributes are given."""

    node: ast.ClassDef
    scope: Scope
    source: Any
    bases: list[str | None] = field(default_factory=list)
    local_bases: list[ClassInfo] = field(default_factory=list)
    methods: dict[str, Definition] = field(default_factory=dict)
    given: dict[str, list[ast.expr | None]] = field(default_factory=lambda: defaultdict(list))
    at: dict[str, list[ast.AST]] = field(default_factory=lambda: defaultdict(list))
    _bases_here: list[ClassInfo] | None = None

    def forget(self) -> None:
        """Drop what is known from other files."""
        self._bases_here = None

    def family(self) -> Iterator[ClassInfo]:
        """Yield the class and those of its bases that stand in the tree that is read."""
        seen: set[int] = set()
        waiting = [self]
        while waiting:
            info = waiting.pop(0)
            if id(info) not in seen:
                seen.add(id(info))
                yield info
                waiting.extend(info.bases_here)

    @property
    def bases_here(self) -> list[ClassInfo]:
        """The bases that are classes of the tree, those of other files among them."""
        if self._bases_here is None:
            self._bases_here = list(self.local_bases)
            for base, name in zip(self.node.bases, self.bases, strict=True):
                if name is None or name.startswith(KNOWN):
                    continue
                value = self.source.interpreter.of(base)
                if isinstance(value, Class) and value.info not in self._bases_here:
                    self._bases_here.append(value.info)
        return self._bases_here


def choice(values: Iterable[Value]) -> Value:
    """Return the one value, or the choice among few known ones; else NOTHING."""
    found: list[Value] = []
    for value in values:
        if value is NOTHING:
            return NOTHING
        for option in value.options if isinstance(value, Choice) else (value,):
            if option not in found:
                found.append(option)
    if len(found) == 1:
        return found[0]
    return Choice(tuple(found)) if 0 < len(found) <= OPTIONS else NOTHING


def is_number(value: object) -> bool:
    """Whether a constant is a number, which True and False are not here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
