"""Dropout written by hand, and rates that are changed by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.context import is_evaluation, is_in_model, is_module, is_test_code
from thinned.audit.drops import by_hand, passed_on, verdict
from thinned.audit.modes import Says, guard
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source, is_self
from thinned.audit.values import Function as Defined
from thinned.audit.words import words_of

__all__ = ["mask_unguarded", "rate_lost"]

_FORWARD = frozenset({"forward", "call", "__call__"})
_RATE = re.compile(r"(?i)^(?:p|rate|drop_?(?:out)?_?(?:p|rate|prob)?|(?:\w+_)?dropout(?:_\w+)?)$")


@rule(
    "THN012",
    "mask-by-hand-without-guard",
    sentence="A dropout mask that is drawn by hand is applied in every mode.",
    why="model.eval() reaches dropout modules and self.training, and no mask of one's own: it "
    "drops in evaluation too.",
    mend="Return the input where not self.training, or use a dropout module.",
    wrong="mask = torch.rand_like(x) > self.p; return x * mask / (1 - self.p)",
    right="if not self.training: return x  # then the mask",
)
def mask_unguarded(source: Source) -> Iterator[Hit]:
    told: set[ast.AST] = set()
    for drop in by_hand(source):
        if not _in_model(source, drop.node):
            continue
        found = verdict(drop)
        if found is not None and found.code == "THN012":
            told.add(drop.node)
            yield drop.node, "A mask is drawn here in every mode: it drops in evaluation too."
    for node, _, found, passed in passed_on(source):
        if found.code != "THN012" or not passed or _is_kept_as_mask(source, node):
            continue
        if node not in told and _in_model(source, node):
            told.add(node)
            yield node, "A mask is drawn in every mode: it drops in evaluation too."


def _is_kept_as_mask(source: Source, node: ast.AST) -> bool:
    """Whether a function gives back the mask that it draws: when it is put on is not seen."""
    statement = source.parents[node]
    return isinstance(statement, ast.Assign) and any(
        isinstance(t, ast.Name) and "mask" in words_of(t.id) for t in statement.targets
    )


def _in_model(source: Source, node: ast.AST) -> bool:
    """Whether a node stands in a method that a model's forward pass runs."""
    function, info = source.function_of(node), source.class_of(node)
    if function is None or function.name == "__init__" or not is_in_model(source, node):
        return False
    if info is None:
        return True  # told the mode, and it does not ask
    if function.name in _FORWARD:
        return True
    return any(
        use_function is not None and use_function.name in _FORWARD
        for use in source.attributes.get(function.name, ())
        if is_self(use.value)
        for use_function in [source.function_of(use)]
    )


@rule(
    "THN029",
    "rate-lost-after-evaluation",
    sentence="Evaluation sets the rate of dropout to 0, and nothing sets it back.",
    why="After the first evaluation the training goes on without dropout, and nothing says so.",
    mend="Leave the rate alone and call model.eval(); or use a local: p = self.p if self.training "
    "else 0.0.",
    wrong="if not self.training: self.p = 0.0",
    right="p = self.p if self.training else 0.0",
)
def rate_lost(source: Source) -> Iterator[Hit]:
    yield from _lost_through(source)
    for name, attributes in list(source.attributes.items()):
        if not _RATE.match(name):
            continue
        stores = [a for a in attributes if isinstance(a.ctx, ast.Store)]
        for store in stores:
            statement = source.parents[store]
            if not isinstance(statement, ast.Assign) or source.value(statement.value) != 0:
                continue
            if is_test_code(source, store) or isinstance(source.value(statement.value), bool):
                continue
            if _is_lost(source, store, [s for s in stores if s is not store]):
                yield store, f"The rate {name} is set to 0 here, and never set back."


def _lost_through(source: Source) -> Iterator[Hit]:
    """A function of the file that sets the rates of a model, and is only ever told 0, where the
    model is trained."""
    setters: dict[ast.AST, tuple[str, int]] = {}
    for name, attributes in source.attributes.items():
        for store in attributes if _RATE.match(name) else ():
            statement, function = source.parents[store], source.function_of(store)
            if not isinstance(store.ctx, ast.Store) or not isinstance(statement, ast.Assign):
                continue
            given = statement.value
            if function is None or not isinstance(given, ast.Name) or is_self(store.value):
                continue
            plain = [a.arg for a in function.args.args]
            if given.id in plain and source.class_of(function) is None:
                setters[function] = (given.id, plain.index(given.id))
    for setter, (word, at) in setters.items():
        calls = [
            call
            for call in source.calls
            if isinstance(target := source.called(call).target, Defined)
            and target.node is setter
            and setter not in source.functions_of(call)  # it calls itself for what is inside
        ]
        values = [source.value(source.called(call).argument(at, word)) for call in calls]
        if not calls or any(isinstance(v, bool) or v != 0 for v in map(_number, values)):
            continue
        for call in calls:
            trains = any("backward" in _attributes(loop) for loop in source.loops_of(call))
            if trains and not is_test_code(source, call):
                yield call, "The rates are set to 0 in the loop that trains, and never set back."


def _number(value: object) -> object:
    return value if isinstance(value, (int, float)) else None


def _attributes(node: ast.AST) -> set[str]:
    return {n.attr for n in walk(node) if isinstance(n, ast.Attribute)}


def _is_lost(source: Source, store: ast.Attribute, others: list[ast.Attribute]) -> bool:
    function = source.function_of(store)
    if function is None or function.name in ("__init__", "setup"):
        return False
    later = [o for o in others if (f := source.function_of(o)) is None or f.name != "__init__"]
    if any(_value(source, other) != 0 for other in later):
        return False
    info = source.class_of(store)
    if info is not None and is_module(source, info):
        if function.name == "eval":
            return True
        return guard(source, store, around=False) is Says.EVALUATION
    names = [function.name]
    names += [f.name for u in source.loads.get(function.name, ()) if (f := source.function_of(u))]
    if not any(is_evaluation(name) for name in names) or not _learns(source):
        return False
    return not is_self(store.value) and bool(source.loops_of(store))


def _value(source: Source, store: ast.Attribute) -> object:
    statement = source.parents[store]
    return source.value(statement.value) if isinstance(statement, ast.Assign) else None


def _learns(source: Source) -> bool:
    return "backward" in source.attributes or "fit" in source.attributes
