"""Dropout modules of PyTorch: where they are built, and whether they are ever reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit.binding import bind
from thinned.audit.contents import drops_inside, drops_itself
from thinned.audit.context import (
    is_guarded,
    is_module,
    is_monte_carlo,
    is_test_code,
)
from thinned.audit.layers import DROPOUT_LAYERS, RECURRENT
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, ClassInfo, Source, is_self
from thinned.audit.values import Built, Class

__all__ = ["built_in_forward", "one_layer", "out_of_reach"]

_FORWARD = frozenset(
    {"forward", "__call__", "call", "training_step", "validation_step", "test_step"}
)
# What hands a module on to code that is not seen here.
_REGISTERING = frozenset({"ModuleList", "Sequential", "ModuleDict"})


def _layers(source: Source) -> Iterator[Called]:
    yield from source.calls_of(DROPOUT_LAYERS)


def _own_layers(source: Source) -> Iterator[Called]:
    """Modules of the tree that drop, built and called at once or held by a name."""
    for node in source.calls:
        function = source.function_of(node)
        if function is None or function.name not in _FORWARD:
            continue
        called = source.called(node)
        target = called.target
        if not isinstance(target, Class) or not is_module(target.info.source, target.info):
            continue
        if drops_itself(target.info) or drops_inside(source, Built(target, called)):
            yield called


@rule(
    "THN020",
    "dropout-built-in-forward",
    sentence="A dropout layer is built where it is called, inside forward.",
    why="A new module is in training mode, and model.eval() never saw it: it drops in evaluation "
    "too.",
    mend="Build it in __init__ as self.drop and call that; or "
    "F.dropout(x, p, training=self.training).",
    wrong="def forward(self, x): return nn.Dropout(0.5)(x)",
    right="def forward(self, x): return self.drop(x)",
)
def built_in_forward(source: Source) -> Iterator[Hit]:
    for called in [*_layers(source), *_own_layers(source)]:
        node = called.node
        if is_test_code(source, node) or is_monte_carlo(source, node):
            continue
        if source.value(called.argument(0, "p")) == 0:
            continue
        is_called = _is_called_at_once(source, node) or _is_called_by_name(source, node)
        if is_called and not is_guarded(source, node):
            name = ast.unparse(node.func).rpartition(".")[2]
            yield node, f"{name} is built anew at each call: eval() never reaches it."


def _is_called_at_once(source: Source, node: ast.Call) -> bool:
    node = _moved(source, node)
    parent = source.parents[node]
    if not (isinstance(parent, ast.Call) and parent.func is node):
        return False
    return source.function_of(node) is not None and _is_step(source, node)


def _moved(source: Source, node: ast.Call) -> ast.Call:
    """The whole of nn.Dropout(p).to(device), or of the sequence that holds it."""
    parent = source.parents[node]
    if isinstance(parent, ast.Attribute) and parent.attr in ("to", "cuda", "cpu", "half", "float"):
        call = source.parents[parent]
        return _moved(source, call) if isinstance(call, ast.Call) else node
    if (
        isinstance(parent, ast.Call)
        and node in parent.args
        and source.called(parent).name == "torch.nn.Sequential"
    ):
        return _moved(source, parent)
    return node


def _is_step(source: Source, node: ast.AST) -> bool:
    """Whether the code runs at each step of a model: a module's method, or a model function."""
    function = source.function_of(node)
    if function is None:
        return False
    info = source.class_of(function)
    if info is not None:
        return function.name != "__init__" and (
            is_module(source, info) or function.name in _FORWARD
        )
    return bool(function.args.args)


def _is_called_by_name(source: Source, node: ast.Call) -> bool:
    """Whether a local of forward, or an attribute set in forward, holds it and is called there."""
    functions = source.functions_of(node)
    if not functions or functions[0].name not in _FORWARD:
        return False
    statement = source.parents[_moved(source, node)]
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = statement.targets[0]
    if isinstance(target, ast.Attribute) and is_self(target.value):
        return not _is_first_time_only(source, statement)
    if not isinstance(target, ast.Name):
        return False
    called = handled = False
    for use in source.loads.get(target.id, ()):
        if source.function_of(use) is not functions[0]:
            continue
        parent = source.parents[use]
        called |= isinstance(parent, ast.Call) and parent.func is use
        # drop.train(self.training), drop.eval(): the mode is set by hand.
        handled |= isinstance(parent, ast.Attribute) and parent.attr in (
            "train",
            "eval",
            "training",
        )
    return called and not handled


def _is_first_time_only(source: Source, statement: ast.stmt) -> bool:
    return any(isinstance(at, ast.If) for at in source.above(statement))


@rule(
    "THN021",
    "recurrent-dropout-with-one-layer",
    severity="note",
    sentence="LSTM, GRU or RNN is given dropout and has one layer.",
    why="dropout acts between stacked layers only: with num_layers=1 nothing is dropped.",
    mend="Put a Dropout after the layer, or use num_layers of 2 or more, or leave dropout out.",
    wrong="rnn = nn.LSTM(32, 64, dropout=0.3)",
    right="rnn = nn.LSTM(32, 64, num_layers=2, dropout=0.3)",
)
def one_layer(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(RECURRENT):
        if called.open or is_test_code(source, called.node):
            continue
        # RNN has its nonlinearity before bias: there only the keyword is looked at.
        name = (called.name or "").rpartition(".")[2]
        p = called.argument(None if name == "RNN" else 5, "dropout")
        layers = called.argument(2, "num_layers")
        if p is None or source.value(p) == 0:
            continue
        if layers is None or source.value(layers) == 1 or _is_given_one(source, layers):
            if isinstance(p, ast.IfExp) or is_guarded(source, called.node):
                continue
            yield called.node, f"{name} has one layer, and its dropout acts between layers only."


def _is_given_one(source: Source, layers: ast.expr) -> bool:
    """Whether a constructor's parameter is given 1 wherever the file builds that class."""
    info, init = source.class_of(layers), source.function_of(layers)
    if not isinstance(layers, ast.Name) or info is None or init is None:
        return False
    if init is not info.methods.get("__init__"):
        return False
    given = []
    for call in source.calls:
        target = source.called(call).target
        if isinstance(target, Class) and target.info is info:
            frame = bind(init, source.called(call), 1, None)
            given.append(None if frame is None else source.value(frame.given.get(layers.id)))
    return bool(given) and all(type(value) is int and value == 1 for value in given)


@rule(
    "THN027",
    "dropout-modules-in-a-plain-list",
    sentence="Dropout modules are kept in a plain list, tuple or dict of a module.",
    why="PyTorch registers modules, ModuleLists and ModuleDicts: eval() does not reach what a "
    "plain list holds, which drops in evaluation too.",
    mend="Keep them in nn.ModuleList, nn.ModuleDict or nn.Sequential.",
    wrong="self.drops = [nn.Dropout(0.1) for _ in range(4)]",
    right="self.drops = nn.ModuleList(nn.Dropout(0.1) for _ in range(4))",
)
def out_of_reach(source: Source) -> Iterator[Hit]:
    for info in source.classes.values():
        if not is_module(source, info):
            continue
        for attribute, values in info.given.items():
            for value in values:
                held = _held(value)
                if value is not None and _held_is(value):
                    held = [*held, *_added(source, info, attribute)]
                # What is an attribute of its own is registered there.
                own = [e for e in held if not isinstance(e, ast.Attribute)]
                if not any(_drops(source, e) for e in own):
                    continue
                if value is not None and not _is_registered(source, info, attribute):
                    yield value, f"self.{attribute} is a plain container: eval() does not reach it."


def _drops(source: Source, node: ast.expr) -> bool:
    if isinstance(node, (ast.List, ast.Tuple)):
        return any(_drops(source, e) for e in node.elts if not isinstance(e, ast.Attribute))
    return drops_inside(source, source.interpreter.of(node))


def _held_is(value: ast.expr) -> bool:
    return isinstance(value, (ast.List, ast.Dict))


def _held(value: ast.expr | None) -> list[ast.expr]:
    if isinstance(value, (ast.List, ast.Tuple)):
        return value.elts
    if isinstance(value, ast.ListComp):
        return [value.elt]
    if isinstance(value, ast.Dict):
        return value.values
    if isinstance(value, ast.DictComp):
        return [value.value]
    return []


def _added(source: Source, info: ClassInfo, attribute: str) -> Iterator[ast.expr]:
    """What is appended to self.drops, or entered into self.drops[name]."""
    for use in source.attributes.get(attribute, ()):
        if not is_self(use.value) or source.class_of(use) is not info:
            continue
        parent = source.parents[use]
        if isinstance(parent, ast.Attribute) and parent.attr == "append":
            call = source.parents[parent]
            if isinstance(call, ast.Call) and call.args:
                yield call.args[0]
        if isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store):
            statement = source.parents[parent]
            if isinstance(statement, ast.Assign):
                yield statement.value


def _is_registered(source: Source, info: ClassInfo, attribute: str) -> bool:
    """Whether the list goes on into something that registers what it holds."""
    for use in source.attributes.get(attribute, ()):
        if not isinstance(use.ctx, ast.Load):
            continue
        if source.class_of(use) is not info:
            continue
        for at in source.above(use):
            if isinstance(at, ast.Call) and isinstance(at.func, (ast.Attribute, ast.Name)):
                name = at.func.attr if isinstance(at.func, ast.Attribute) else at.func.id
                if name in _REGISTERING or name in ("add_module", "register_module", "setattr"):
                    return True
            if isinstance(at, (ast.For, ast.AsyncFor)) and any(
                isinstance(n, ast.Attribute)
                and n.attr in ("add_module", "register_module", "train", "eval")
                for n in walk(at)
            ):
                return True
            if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef)):
                break
    return False
