"""Masks that are written by hand: random numbers compared with, or drawn at, a rate to drop."""

from __future__ import annotations

import ast

from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.source import Source
from thinned.audit.values import Built, Named
from thinned.audit.words import words_of

__all__ = ["PLACES", "RandomMask", "masks_of"]

_UNIFORM = frozenset(
    {"torch.rand", "torch.rand_like", "random.random", "numpy.random.rand", "numpy.random.random"}
    | {
        "numpy.random.uniform",
        "random.uniform",
        "tensorflow.random.uniform",
        "keras.random.uniform",
    }
    | {"numpy.random.random_sample"}
)
_UNIFORM_METHODS = frozenset({"uniform_"})
_BERNOULLI = frozenset(
    {
        "torch.bernoulli",
        "numpy.random.binomial",
        "torch.distributions.Bernoulli",
        "jax.random.bernoulli",
    }
    | {"torch.distributions.bernoulli.Bernoulli"}
)
_BERNOULLI_METHODS = frozenset({"bernoulli", "bernoulli_"})
_DISTRIBUTIONS = frozenset(
    {"torch.distributions.Bernoulli", "torch.distributions.bernoulli.Bernoulli"}
)
# Random numbers whose order picks what is kept.
_ORDERS = frozenset({"torch.randperm", "torch.randn", "torch.rand", "torch.rand_like"})
_SURE = frozenset(
    {"drop", "dropout", "layerdrop", "pdrop", "droprate", "dropprob", "dropouts", "keep"}
    | {"survival", "keepprob", "dropoutrate", "zoneout"}
)
_NO_RATE = frozenset(
    {"freq", "count", "range", "length", "len", "size", "num", "low", "high", "start", "end", "idx"}
    | {"index", "indices", "mask", "masks", "last", "type", "mode", "out", "shape", "seed", "key"}
)
_LIKELY = frozenset({"p", "rate", "prob", "ratio", "probability", "percent"})
_CONDITIONS = frozenset(
    {"cond", "uncond", "token", "tokens", "label", "caption", "context", "guidance", "cfg"}
    | {"conditioning", "condition", "conditional", "unconditional", "prompt", "prompts"}
)
PLACES = frozenset({"drop", "dropout", "dropped", "dropconnect", "dropblock", "droppath"})


class RandomMask:
    """A random draw at a rate: the call that draws, and the rate's own expression."""

    __slots__ = ("node", "p", "place")

    def __init__(self, node: ast.Call, p: ast.expr, place: ast.AST) -> None:
        self.node = node
        self.p = p
        self.place = place  # where the numbers are compared with the rate


@once
def masks_of(source: Source) -> list[RandomMask]:
    """Return the masks that are drawn by hand in a file."""
    rates = ((call, _rate_of(source, call)) for call in source.calls)
    return [RandomMask(call, *found) for call, found in rates if found is not None]


def _rate_of(source: Source, call: ast.Call) -> tuple[ast.expr, ast.AST] | None:
    func = call.func
    method = func.attr if isinstance(func, ast.Attribute) else ""
    if method in _BERNOULLI_METHODS or _may_be(func):
        name = source.called(call).name
        if name in _BERNOULLI or (method in _BERNOULLI_METHODS and not str(name).startswith("jax")):
            p = _first_rate(source, [*call.args, *(k.value for k in call.keywords)])
            return None if p is None else (p, call)
        if name in _UNIFORM or method in _UNIFORM_METHODS:
            return _compared(source, call) or _ordered(source, call)
    if method == "sample" and isinstance(func, ast.Attribute):
        made = source.interpreter.of(func.value)
        if (
            isinstance(made, Built)
            and isinstance(made.kind, Named)
            and made.kind.name in _DISTRIBUTIONS
            and made.called is not None
        ):
            p = _first_rate(source, [*made.called.args, *made.called.keywords.values()])
            return None if p is None else (p, call)
    if method in ("randn", "randperm") or getattr(func, "id", "") in ("randn", "randperm"):
        return _ordered(source, call)
    return None


def _ordered(source: Source, call: ast.Call) -> tuple[ast.expr, ast.AST] | None:
    """The rate of a module that is named for dropping, and keeps what comes first in a random
    order: patches, frames, tokens."""
    function, info = source.function_of(call), source.class_of(call)
    if function is None or info is None or source.called(call).name not in _ORDERS:
        return None
    if function.name != "forward" or not PLACES & set(words_of(info.node.name)):
        return None
    if not _sorts(function) and "perm" not in (source.called(call).name or ""):
        return None
    p = _first_rate(source, [n for n in walk(function) if isinstance(n, ast.Attribute)])
    return None if p is None else (p, call)


def _sorts(function: ast.AST) -> bool:
    words = ("argsort", "topk", "sort")
    return any(isinstance(n, ast.Attribute) and n.attr in words for n in walk(function))


def _may_be(func: ast.expr) -> bool:
    last = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    return last in (
        "rand",
        "rand_like",
        "random",
        "uniform",
        "uniform_",
        "random_sample",
    ) or last in (
        "bernoulli",
        "binomial",
        "Bernoulli",
    )


def _compared(source: Source, call: ast.Call) -> tuple[ast.expr, ast.AST] | None:
    """The rate that uniform numbers are compared with, or added to and floored."""
    child: ast.AST = call
    for at in source.above(call):
        if isinstance(at, ast.Compare):
            p = _first_rate(source, [n for n in (at.left, *at.comparators) if n is not child])
            return None if p is None else (p, at)
        if isinstance(at, ast.BinOp) and isinstance(at.op, (ast.Add, ast.Sub)):
            other = at.left if at.right is child else at.right
            found = _first_rate(source, [other])
            if found is not None and _floors(source, call):
                return found, at
        if isinstance(at, ast.AugAssign):
            before = _before(source, at) if isinstance(at.op, ast.Add) else None
            found = None if before is None else _first_rate(source, [before])
            return (found, at) if found is not None and _floors(source, call) else None
        if isinstance(at, ast.stmt):
            return _added_later(source, at)
        child = at
    return None


def _before(source: Source, sum_: ast.AugAssign) -> ast.expr | None:
    """What stood in a name before something was added to it: mask = keep; mask += rand."""
    block, place = source.block_of(sum_)
    for statement in reversed(block[:place]):
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == getattr(sum_.target, "id", "")
            for t in statement.targets
        ):
            return statement.value
    return None


def _floors(source: Source, call: ast.Call) -> bool:
    """Whether keep + rand is rounded down in this function: a mask, and no other noise."""
    function = source.function_of(call)
    return function is not None and any(
        isinstance(n, ast.Attribute) and n.attr in ("floor", "floor_") for n in walk(function)
    )


def _added_later(source: Source, statement: ast.stmt) -> tuple[ast.expr, ast.AST] | None:
    """r = torch.rand(...), and a following line compares r, or adds the rate to it."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return None
    name = statement.targets[0].id
    block, place = source.block_of(statement)
    for later in block[place + 1 : place + 4]:
        for node in walk(later):
            sides: list[ast.expr] = []
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                sides = [node.left, node.right]
            elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
                sides = [node.target, node.value]
            if any(isinstance(s, ast.Name) and s.id == name for s in sides):
                rest = [s for s in sides if not (isinstance(s, ast.Name) and s.id == name)]
                found = _first_rate(source, rest)
                if found is not None:
                    return found, node
    return None


def _first_rate(source: Source, nodes: list[ast.expr], depth: int = 3) -> ast.expr | None:
    for node in nodes:
        for inner in walk(node):
            if isinstance(inner, (ast.Name, ast.Attribute)) and _is_rate(source, inner):
                return _without_keep(source, inner, depth)
            if isinstance(inner, ast.Name) and depth:
                given = source.given(inner)
                if isinstance(given, (ast.BinOp, ast.Call)):
                    found = _first_rate(source, [given], depth - 1)
                    if found is not None:
                        return found
    return None


def _without_keep(source: Source, node: ast.expr, depth: int) -> ast.expr:
    """For `keep`, which is 1 - p, p itself where that is seen."""
    given = source.given(node) if isinstance(node, ast.Name) else None
    if depth and isinstance(given, ast.BinOp) and isinstance(given.op, ast.Sub):
        return _without_keep(source, given.right, depth - 1)
    return node


def _is_rate(source: Source, node: ast.Name | ast.Attribute) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id
    words = set(words_of(name))
    if words & _NO_RATE:
        return False
    if words & _CONDITIONS or _is_condition(source, node):
        return False  # dropped conditions: guidance, and not dropout
    if words & _SURE or any(word.startswith("dropout") for word in words):
        return True  # AWD-LSTM's dropouti and dropouth too
    if not words & _LIKELY:
        return False
    for at in source.above(node):
        if isinstance(at, (ast.FunctionDef, ast.ClassDef)):
            if set(words_of(at.name)) & PLACES:
                return True
            if isinstance(at, ast.FunctionDef) and _divides(at, name):
                return True
    return False


def _is_condition(source: Source, node: ast.AST) -> bool:
    """Whether what is decided goes by the name of a condition: drop_cond = random() < p."""
    statement = source.statement_of(node)
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and not _CONDITIONS.isdisjoint(words_of(target.id))
        for target in statement.targets
    )


def _divides(function: ast.FunctionDef, name: str) -> bool:
    """Whether a function divides by 1 - p, as dropout does and the masking of inputs does not."""
    return any(
        isinstance(n, ast.BinOp)
        and isinstance(n.op, ast.Div)
        and isinstance(n.right, ast.BinOp)
        and isinstance(n.right.op, ast.Sub)
        and getattr(n.right.right, "attr", getattr(n.right.right, "id", "")) == name
        for n in walk(function)
    )
