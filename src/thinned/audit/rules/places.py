"""Rates and tensors handed to dropout at another place than they belong."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from thinned.audit.context import is_test_code
from thinned.audit.handed import built_by
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source
from thinned.audit.words import words_of

__all__ = ["around_shortcut", "other_place"]

# What stands at the places where rates are put by mistake.
_TAKEN: dict[str, tuple[tuple[int, str], ...]] = {
    "torch.nn.LSTM": ((3, "bias"),),
    "torch.nn.GRU": ((3, "bias"),),
    "torch.nn.RNN": ((3, "nonlinearity"), (4, "bias")),
    "torch.nn.MultiheadAttention": ((3, "bias"),),
    "torch.nn.TransformerEncoderLayer": ((2, "dim_feedforward"),),
    "torch.nn.TransformerDecoderLayer": ((2, "dim_feedforward"),),
}
_RATE = re.compile(
    r"(?i)^_?(?:\w+_)?(?:drop_?(?:out)?|drop_?path|drop_?connect)(?:_?(?:rate|prob|p|ratio))?$"
)
_PLAIN = {"rate", "prob", "p", "ratio", "probability", "out"}


@rule(
    "THN014",
    "rate-at-the-place-of-another",
    sentence="A rate of dropout is passed at the place of another argument.",
    why="The layer takes it for something else, a bias, a width or another rate, and drops at the "
    "rate that it has by default.",
    mend="Pass it by its name: dropout=p.",
    wrong="rnn = nn.LSTM(32, 64, 2, dropout)",
    right="rnn = nn.LSTM(32, 64, 2, dropout=dropout)",
)
def other_place(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(_TAKEN):
        for place, name in _TAKEN[called.name or ""]:
            given = called.args[place] if place < len(called.args) else None
            if given is None or called.open or not _is_rate(source, given):
                continue
            if not is_test_code(source, called.node):
                kind = (called.name or "").rpartition(".")[2]
                yield given, f"This argument of {kind} is {name}: pass dropout by its name."
    handing: dict[ast.Call, int] = defaultdict(int)
    for name, uses in _uses(source):
        for use in uses if _RATE.match(name) else ():
            above = source.parents[use]
            if isinstance(above, ast.Call) and use in above.args:
                handing[above] += 1
    for call, rates in handing.items():
        if rates > 1:
            yield from _swapped(source, source.called(call))


def _is_rate(source: Source, node: ast.expr) -> bool:
    value = source.value(node)
    if isinstance(value, float):
        return 0 < value < 1
    return _RATE.match(_name(node)) is not None and not isinstance(value, (bool, int))


def _name(node: ast.expr) -> str:
    return str(node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", ""))


def _swapped(source: Source, called: Called) -> Iterator[Hit]:
    """Two rates or more, each of which has the name of a parameter that is given another one."""
    target = built_by(called)
    if target is None or called.open or isinstance(target.node, ast.Lambda):
        return
    arguments = target.node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][target.skip :]
    kinds = {_kind(name) for name in names if _RATE.match(name)}
    wrong = [
        (arg, name)
        for arg, name in zip(called.args, names, strict=False)
        if _RATE.match(name)
        and _RATE.match(_name(arg))
        and _kind(_name(arg)) != _kind(name)
        and _kind(_name(arg)) in kinds
    ]
    if len(wrong) > 1 and not is_test_code(source, called.node):
        arg, name = wrong[0]
        yield arg, f"{_name(arg)} is passed as {name} here, and others of the rates are moved too."


def _kind(name: str) -> frozenset[str]:
    """The words of a rate that say what it is of: attention, a path, elements."""
    words = {word.removesuffix("out") for word in words_of(name)}
    return frozenset(words - _PLAIN)


@rule(
    "THN015",
    "stochastic-depth-around-the-shortcut",
    sentence="Stochastic depth is applied to the sum of a block and its shortcut.",
    why="A dropped row becomes 0 altogether, and all that the layers before have made of it is "
    "lost: only the branch is to be dropped.",
    mend="Write x = x + self.drop_path(self.branch(x)).",
    wrong="x = self.drop_path(x + self.mlp(x))",
    right="x = x + self.drop_path(self.mlp(x))",
)
def around_shortcut(source: Source) -> Iterator[Hit]:
    for call in _skipping(source):
        given = call.args[0] if call.args else None
        if not isinstance(given, ast.BinOp) or not isinstance(given.op, ast.Add):
            continue
        if isinstance(source.parents[call], ast.BinOp) or is_test_code(source, call):
            continue
        for side, other in ((given.left, given.right), (given.right, given.left)):
            if isinstance(side, ast.Name) and isinstance(other, ast.Call) and _reads(other, side):
                yield call, f"The shortcut {side.id} is dropped too, and not the branch alone."
                break


def _uses(source: Source) -> Iterator[tuple[str, Sequence[ast.expr]]]:
    """The names and attributes that a file writes, each with its places."""
    yield from source.loads.items()
    yield from source.attributes.items()


def _skipping(source: Source) -> Iterator[ast.Call]:
    """The calls of what is named for stochastic depth."""
    for name, uses in _uses(source):
        words = set(words_of(name))
        if words >= {"drop", "path"} or words >= {"stochastic", "depth"} or "droppath" in words:
            for use in uses:
                call = source.parents[use]
                if isinstance(call, ast.Call) and call.func is use:
                    yield call


def _reads(branch: ast.Call, shortcut: ast.Name) -> bool:
    return any(isinstance(n, ast.Name) and n.id == shortcut.id for n in walk(branch))
