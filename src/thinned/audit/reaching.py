"""Which of the values that a name was given a use of it may see."""

from __future__ import annotations

import ast
from bisect import bisect_right
from typing import Any

from thinned.audit.names import Binding, Scope
from thinned.audit.nodes import is_none

__all__ = ["Reaching"]

# So many bindings before a use are looked at.
_NEAR = 24
_BLOCKS = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.AsyncWith, ast.Match),
    *(ast.match_case, ast.ExceptHandler, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Module, ast.Lambda),
)


class Reaching:
    """Answers it for the names of one file."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._ordered: dict[int, list[Binding]] = {}

    def of(self, use: ast.AST, where: Scope, bindings: list[Binding]) -> list[Binding]:
        """Return the bindings that a use may see: the last before it that surely runs, and those
        of branches between."""
        if len(bindings) == 1:
            return bindings
        if len(bindings) <= _NEAR and any(b.kind == "import" for b in bindings):
            # try: from x import f; except ImportError: f = None
            kept = [b for b in bindings if not is_none(b.node)][: _NEAR + 1]
            return kept if len({b.target for b in kept}) == 1 else bindings
        line = getattr(use, "lineno", 0)
        if self.source.scope(use) is not where and where.owner is not self.source.tree:
            return bindings
        above = {id(at) for at in self.source.above(use)}
        reached: list[Binding] = []
        # Names of generated functions are given anew thousands of times: the last ones count.
        ordered = self._in_order(bindings)
        until = bisect_right(ordered, line, key=lambda b: b.line)
        inside = self.source.scope(use) is where
        near = ordered[max(0, until - _NEAR) : until if inside else until + _NEAR]
        for binding in near:
            if (
                binding.line > line or (binding.line == line and binding.kind != "parameter")
            ) and self.source.scope(use) is where:
                continue
            statement = self._statement(binding)
            block = self._block(statement)
            sure = statement is None or block is None or id(block) in above
            if sure and block is not None and statement is not None:
                sure = self._same_branch(statement, use, block)
            reached = [binding] if sure else [*reached, binding]
        return reached or (bindings if len(bindings) <= _NEAR else [Binding("other")])

    def _in_order(self, bindings: list[Binding]) -> list[Binding]:
        known = self._ordered.get(id(bindings))
        if known is None or len(known) != len(bindings):
            known = self._ordered[id(bindings)] = sorted(bindings, key=lambda b: b.line)
        return known

    def _block(self, statement: ast.stmt | None) -> ast.AST | None:
        if statement is None:
            return None
        return next((a for a in self.source.above(statement) if isinstance(a, _BLOCKS)), None)

    def _statement(self, binding: Binding) -> ast.stmt | None:
        node = binding.at or binding.node
        if binding.kind == "parameter" or node is None:
            return None
        found: ast.stmt | None = self.source.statement_of(node)
        return found

    def _same_branch(self, statement: ast.stmt, use: ast.AST, block: ast.AST) -> bool:
        """Whether a use stands in the same list of statements of a compound as one before it."""
        mine = self.source.block_of(statement)[0]
        child = use
        for at in self.source.above(use):
            if at is block:
                return not isinstance(child, ast.stmt) or (self.source.block_of(child)[0] is mine)
            child = at
        return False
