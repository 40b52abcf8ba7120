"""What surrounds a call: guards by the mode, the kind of function, the kind of class."""

from __future__ import annotations

import ast
import re

from thinned.audit.layers import MODULES
from thinned.audit.source import ClassInfo, Source, is_self

__all__ = [
    "is_evaluation",
    "is_guarded",
    "is_module",
    "is_monte_carlo",
    "is_test_code",
    "mentions",
    "mentions_mode",
]

# Words by which code asks for the mode. Broad: a guard that is one in name is left alone.
_MODE = re.compile(r"(?i)train|infer|determin|eval|is_test|_mode$|^mode$|^stage$|^phase$")
_MONTE_CARLO = re.compile(
    r"(?i)(?:^|_)mc(?:_|$|[A-Z])|mcd|monte|carlo|bayes|uncertain|stochastic|sampl|ensembl|always"
    r"|perturb|augment|nois|epistemic|simcse|rdrop|r_drop|MC"
)
_EVALUATION = re.compile(
    r"(?i)^_*(?:do_|run_|compute_|get_|make_|model_|epoch_)?"
    r"(?:eval|evaluate|evaluation|validate|validation|valid|val|test|predict|prediction|infer"
    r"|inference|score)"
    r"(?:_(?:step|epoch|loop|model|net|network|one_epoch|fn|func|function|batch|loss|acc|accuracy"
    r"|proba|on\w*|dataset|loader|set|split|metrics|logits|classes|all|once|for_\w+))?_*$"
)
_TRAINING = re.compile(r"(?i)^_*(?:train|training|fit)(?:_|$)")
_TEST_FILE = re.compile(r"(?:^|[/\\])(?:test_[^/\\]*|[^/\\]*_test|conftest)\.py$")


def mentions(node: ast.AST | None, pattern: re.Pattern[str]) -> bool:
    """Say whether a name, attribute, keyword or string inside an expression matches."""
    if node is None:
        return False
    for inner in ast.walk(node):
        word: object = None
        if isinstance(inner, ast.Name):
            word = inner.id
        elif isinstance(inner, ast.Attribute):
            word = inner.attr
        elif isinstance(inner, ast.keyword):
            word = inner.arg
        elif isinstance(inner, ast.Constant):
            word = inner.value
        if isinstance(word, str) and pattern.search(word):
            return True
    return False


def mentions_mode(source: Source, node: ast.AST | None, depth: int = 4) -> bool:
    """Say whether an expression depends on the mode, seen through what local names are given."""
    if node is None:
        return False
    if mentions(node, _MODE):
        return True
    if depth == 0:
        return False
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            found = source.names.lookup(inner.id, source.scope(inner))
            for binding in found[1] if found is not None else ():
                made = binding.node if binding.kind == "value" else None
                if made is None or made is node:
                    continue
                if mentions_mode(source, made, depth - 1) or _branches_on_mode(source, made):
                    return True
    return False


def _branches_on_mode(source: Source, node: ast.AST) -> bool:
    """Say whether a node stands in a branch that the mode chooses."""
    child = node
    for at in source.above(node):
        if isinstance(at, (ast.If, ast.IfExp, ast.While)) and child is not at.test:
            if mentions(at.test, _MODE):
                return True
        elif (
            isinstance(at, ast.BoolOp)
            and any(mentions(v, _MODE) for v in at.values if v is not child)
        ) or (isinstance(at, ast.stmt) and _left_early(source, at)):
            return True
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        child = at
    return False


def _left_early(source: Source, statement: ast.stmt) -> bool:
    """Say whether `if not self.training: return` stands before a statement."""
    block, place = source.block_of(statement)
    first = source.left_at.get(id(block))
    if first is None:
        leaving = (i for i, s in enumerate(block) if _leaves_by_mode(s))
        first = source.left_at[id(block)] = next(leaving, len(block))
    return first < place


def _leaves_by_mode(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.body[-1], (ast.Return, ast.Raise, ast.Continue))
        and mentions(statement.test, _MODE)
    )


def is_guarded(source: Source, node: ast.AST) -> bool:
    """Say whether a node runs in one mode only, as far as names tell.

    It stands in such a branch, or all calls of its function in the file do, or the function trains.
    """
    statement = source.statement_of(node)
    if statement is not None and _left_early(source, statement):
        return True
    if _branches_on_mode(source, node):
        return True
    function = source.function_of(node)
    if function is None:
        return False
    if any(_TRAINING.match(f.name) for f in source.functions_of(node)):
        return True  # training_step and the like
    uses: list[ast.AST] = [a for a in source.attributes.get(function.name, ()) if is_self(a.value)]
    if source.class_of(function) is None:
        uses = list(source.loads.get(function.name, ()))
    return bool(uses) and all(_branches_on_mode(source, use) for use in uses)


def _around(source: Source, node: ast.AST) -> list[str]:
    at = [node, *source.above(node)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [a.name for a in at if isinstance(a, kinds)]


def is_monte_carlo(source: Source, node: ast.AST) -> bool:
    """Say whether a function or class around a node says that it wants draws in evaluation."""
    return any(_MONTE_CARLO.search(name) for name in _around(source, node))


def is_evaluation(name: str) -> bool:
    """Say whether a function of this name evaluates."""
    return _EVALUATION.match(name) is not None


def is_test_code(source: Source, node: ast.AST) -> bool:
    """Say whether a node belongs to a test, which may call dropout to see what it does."""
    if source.holds_tests and _TEST_FILE.search(source.path):
        return True
    for at in source.above(node):
        if isinstance(at, ast.ClassDef) and any(
            base is not None and base.rpartition(".")[2].endswith("TestCase")
            for base in source.classes[at].bases
        ):
            return True
    return False


def is_module(source: Source, info: ClassInfo | None) -> bool:
    """Say whether a class is a PyTorch module for sure."""
    if info is None:
        return False
    return any(
        base in MODULES or (base or "").startswith(("torch.nn.", "thinned.torch."))
        for member in info.family()
        for base in member.bases
    )
