"""Calls and classes of a file, as rules meet them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thinned.audit.names import Scope
from thinned.audit.values import NOTHING, Class, Value

if TYPE_CHECKING:
    from thinned.audit.source import Source

__all__ = ["KNOWN", "Called", "ClassInfo", "Function"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Packages whose names are facts: nothing of them is looked for in the tree.
KNOWN = (
    *("torch.", "torchvision.", "tensorflow.", "keras.", "jax.", "flax.", "equinox.", "haiku."),
    *("numpy.", "functools.", "thinned.", "math.", "os.", "typing.", "lightning.", "dataclasses."),
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
    source: Source
    bases: list[str | None] = field(default_factory=list)
    local_bases: list[ClassInfo] = field(default_factory=list)
    methods: dict[str, Function] = field(default_factory=dict)
    given: dict[str, list[ast.expr | None]] = field(default_factory=lambda: defaultdict(list))
    at: dict[str, list[ast.AST]] = field(default_factory=lambda: defaultdict(list))
    _bases_here: list[ClassInfo] | None = None

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
