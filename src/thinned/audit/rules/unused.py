"""Dropout that is written and has no effect: a result thrown away, an argument or layer unused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.binding import default_of
from thinned.audit.context import is_module, is_module_base, is_test_code
from thinned.audit.flow import Operation, operation
from thinned.audit.layers import DROPOUT_LAYERS, FUNCTIONAL, KERAS_DROPOUT
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.rules.rates import is_tried
from thinned.audit.source import ClassInfo, Function, Source, is_self
from thinned.audit.values import Built, Class, Named

__all__ = ["argument_unused", "never_called", "thrown_away"]

_JAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout", "equinox.nn.Dropout"})
_LAYERS = DROPOUT_LAYERS | KERAS_DROPOUT | _JAX
_KERAS_BASES = ("keras.layers.", "keras.Model", "keras.models.", "tensorflow.Module", "keras.Layer")
_BASES = frozenset({"torch.nn.Module", "lightning.LightningModule", "flax.linen.Module"})
_RATE_NAME = re.compile(
    r"(?i)^(?:\w+_)?(?:drop_?out|drop_?path|drop_?connect|pdrop|p_?drop|drop)"
    r"(?:_?(?:rate|prob|probability|ratio|p|val|value|pct))?$"
)
_LAYER_NAME = re.compile(r"(?i)^(?:\w+_)?drop(?:out)?(?:_?layer|_?\d+)?$")
_BY_NAME = frozenset({"getattr", "setattr", "vars", "locals", "hasattr"})
_ALL_CHILDREN = frozenset(
    {"children", "named_children", "modules", "named_modules", "_modules", "__dict__"}
    | {"get_submodule", "save_hyperparameters", "hparams"}
)
_LEFT_OUT = re.compile(r"(?i)unused|ignored|not used|compat|no.?op|deprecat|reserved|legacy")


@rule(
    "THN010",
    "dropout-result-thrown-away",
    severity="warning",
    sentence="The result of dropout is thrown away: it is given to no name, or to one never read.",
    why="Dropout returns a new tensor and leaves its input as it is: the model trains without it.",
    mend="Write x = self.drop(x), and go on with x.",
    wrong="self.drop(x); return self.fc(x)",
    right="x = self.drop(x); return self.fc(x)",
)
def thrown_away(source: Source) -> Iterator[Hit]:
    for call in source.calls:
        statement = source.parents[call]
        if not isinstance(statement, (ast.Expr, ast.Assign)):
            continue
        found = operation(source, call)
        if _is_handed_layer(source, statement, call):
            yield call, "The result is thrown away: dropout does not change what it is given."
        if found is None or not _drops(source, found) or is_test_code(source, call):
            continue
        if isinstance(statement, ast.Expr) and not is_tried(source, call):
            if source.function_of(call) is not None or found.name in KERAS_DROPOUT:
                yield call, "The result is thrown away: dropout does not change what it is given."
        elif (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            name = statement.targets[0].id
            if _is_never_read(source, statement.targets[0]):
                yield call, f"{name} is never read: what follows goes on without dropout."


def _is_handed_layer(source: Source, statement: ast.AST, call: ast.Call) -> bool:
    """Whether a function of a file of PyTorch calls the dropout that it was given as an argument,
    and nothing takes the result."""
    if not isinstance(statement, ast.Expr) or not isinstance(call.func, ast.Name):
        return False
    if not _LAYER_NAME.match(call.func.id) or len(call.args) != 1 or call.keywords:
        return False
    found = source.names.lookup(call.func.id, source.scope(call.func))
    if found is None or any(b.kind != "parameter" for b in found[1]):
        return False
    return "torch" in source.names.tops and not is_test_code(source, call)


def _drops(source: Source, found: Operation) -> bool:
    if found.built is not None:
        if found.name not in _LAYERS:
            return False
        inplace = found.built.argument(1, "inplace") if found.name in DROPOUT_LAYERS else None
    else:
        facts = FUNCTIONAL.get(found.name)
        if facts is None or found.name.endswith("_") or not found.node.args:
            return False
        if not found.name.rpartition(".")[2].endswith(("dropout", "dropout2d", "dropout3d")):
            return False
        inplace = found.called.argument(facts.inplace, "inplace")
    return inplace is None or source.value(inplace) is False


def _is_never_read(source: Source, target: ast.Name) -> bool:
    name = target.id
    if name.startswith("_"):
        return False
    function = source.function_of(target)
    inside: ast.AST = function if function is not None else source.tree
    if function is None and source.class_of(target) is not None:
        return False
    loops = source.loops_of(target)
    # The name of a loop's turn is given anew in the next: what it was last is lost.
    of_turn = bool(loops) and any(
        isinstance(n, ast.Name) and n.id == name
        for n in walk(getattr(loops[0], "target", ast.Pass()))
    )
    for use in source.loads.get(name, ()):
        if of_turn and use.lineno <= target.lineno and target.lineno == loops[0].body[-1].lineno:
            continue
        if function is None or any(at is inside for at in source.above(use)):
            return False
    for node in walk(inside):
        if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names:
            return False
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("locals", "vars"):
            return False
        if isinstance(node, ast.AugAssign) and getattr(node.target, "id", "") == name:
            return False
    return True


# ------------------------------------------------------------------------------------ arguments


@rule(
    "THN011",
    "dropout-argument-never-used",
    severity="note",
    sentence="An argument for the rate of dropout is never used.",
    why="Whatever is passed, the model drops at another rate or not at all; a search over the rate "
    "compares equal models.",
    mend="Use it where the layer is built, pass it on to super().__init__, or take it out.",
    wrong="def __init__(self, d, dropout=0.1): self.fc = nn.Linear(d, d)",
    right="def __init__(self, d, dropout=0.1): self.drop = nn.Dropout(dropout)",
)
def argument_unused(source: Source) -> Iterator[Hit]:
    yield from _set_too_late(source)
    for info in source.classes.values():
        kind = _kind(source, info)
        if kind is None or is_test_code(source, info.node):
            continue
        init = info.methods.get("__init__")
        if init is not None:
            yield from _unused(source, init, in_class=True)
            yield from _kept_for_nothing(source, info, init)
        if kind == "flax":
            yield from _fields(source, info)
    for function in source.functions:
        takes = any(
            _RATE_NAME.match(a.arg) for a in (*function.args.args, *function.args.kwonlyargs)
        )
        if takes and source.class_of(function) is None and _builds(source, function):
            yield from _unused(source, function, in_class=False)


def _kind(source: Source, info: ClassInfo) -> str | None:
    if is_module(source, info):
        return "torch"
    bases = [b for member in info.family() for b in member.bases if b is not None]
    if any(b.startswith(_KERAS_BASES) for b in bases):
        return "keras"
    return "flax" if "flax.linen.Module" in bases else None


def _unused(source: Source, function: Function, *, in_class: bool) -> Iterator[Hit]:
    arguments = function.args
    if _is_stub(function) or function.decorator_list or (arguments.kwarg and not in_class):
        return
    text = ast.get_docstring(function) or ""
    info = source.class_of(function)
    text += (ast.get_docstring(info.node) or "") if info is not None else ""
    for arg in (*arguments.args, *arguments.kwonlyargs):
        if not _RATE_NAME.match(arg.arg) or arg.arg.startswith("_"):
            continue
        read = any(
            any(at is function for at in source.above(use)) for use in source.loads.get(arg.arg, ())
        )
        if read or _LEFT_OUT.search(text) or _reads_all(function):
            continue
        default = default_of(function, arg.arg)
        if isinstance(default, ast.Constant) and (default.value is None or default.value is False):
            continue
        where = "The argument" if in_class else f"In {function.name} the argument"
        yield arg, f"{where} {arg.arg} is never used."


def _reads_all(function: ast.AST) -> bool:
    names = _BY_NAME | {"save_hyperparameters"}
    return any(
        isinstance(n, ast.Call) and getattr(n.func, "id", getattr(n.func, "attr", "")) in names
        for n in walk(function)
    )


def _kept_for_nothing(source: Source, info: ClassInfo, init: Function) -> Iterator[Hit]:
    """self.dropout = dropout, and nothing reads self.dropout."""
    parameters = {a.arg for a in (*init.args.args, *init.args.kwonlyargs)}
    for attribute, values in info.given.items():
        value = values[0]
        if len(values) != 1 or not isinstance(value, ast.Name) or value.id not in parameters:
            continue
        if not _RATE_NAME.match(attribute) or not _RATE_NAME.match(value.id):
            continue
        loads = [
            use
            for use in source.loads.get(value.id, ())
            if any(at is init for at in source.above(use))
        ]
        if len(loads) != 1 or _is_used(source, info, attribute):
            continue
        if _is_whole(source, info):
            place = info.at[attribute][0]
            yield (
                place,
                f"self.{attribute} is kept and never used: nothing is dropped at this rate.",
            )


def _fields(source: Source, info: ClassInfo) -> Iterator[Hit]:
    """A rate among the fields of a Flax module that nothing reads."""
    if not _is_whole(source, info, forward=("__call__", "setup")):
        return
    for statement in info.node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            if _RATE_NAME.match(name) and not source.attributes.get(name):
                yield statement, f"The field {name} is never used."


def _builds(source: Source, function: Function) -> bool:
    """Whether a function puts layers together."""
    if not function.name.startswith(("build", "make", "create", "get_", "define", "construct")):
        return _returns_layers(source, function)
    return any(
        isinstance(n, ast.Call)
        and (source.called(n).name or "").startswith(("torch.nn.", "keras.layers."))
        for n in walk(function)
    )


_LAYERS_OF_TORCH = ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict")


def _returns_layers(source: Source, function: Function) -> bool:
    """Whether a function gives back layers that it has put together, on every way."""
    returns = [n for n in walk(function) if isinstance(n, ast.Return)]
    if not returns or any(source.function_of(n) is not function for n in returns):
        return False
    made = [source.interpreter.of(n.value) for n in returns]
    return all(
        isinstance(m, Built) and isinstance(m.kind, Named) and m.kind.name in _LAYERS_OF_TORCH
        for m in made
    )


def _set_too_late(source: Source) -> Iterator[Hit]:
    """model.config.hidden_dropout_prob = p, of a model of transformers that is built already."""
    for attributes in [a for name, a in source.attributes.items() if _RATE_NAME.match(name)]:
        for use in attributes:
            config, statement = use.value, source.parents[use]
            if not isinstance(use.ctx, ast.Store) or not isinstance(statement, ast.Assign):
                continue
            if not isinstance(config, ast.Attribute) or config.attr != "config":
                continue
            given = source.given(config.value)
            name = source.called(given).name if isinstance(given, ast.Call) else None
            loads = (name or "").startswith("transformers.") and (name or "").endswith(
                (".from_pretrained", ".from_config")
            )
            if loads and not is_test_code(source, use):
                yield use, f"The layers are built already: config.{use.attr} is read no more."


# --------------------------------------------------------------------------------------- layers


@rule(
    "THN026",
    "dropout-module-never-called",
    severity="warning",
    sentence="A dropout module is built and never called.",
    why="The model trains without the dropout that its printout and its settings show.",
    mend="Call it in forward, or delete it.",
    wrong="self.drop = nn.Dropout(0.5)  # and forward: return self.fc(x)",
    right="self.drop = nn.Dropout(0.5)  # and forward: return self.fc(self.drop(x))",
)
def never_called(source: Source) -> Iterator[Hit]:
    for info in source.classes.values():
        for attribute, values in info.given.items():
            if len(values) != 1 or not isinstance(values[0], (ast.Call, ast.IfExp)):
                continue
            made = source.interpreter.of(values[0])
            if not isinstance(made, Built) or not isinstance(made.kind, Named):
                continue
            if made.kind.name not in DROPOUT_LAYERS | KERAS_DROPOUT or made.called is None:
                continue
            if source.value(made.called.argument(0, "p", "rate")) == 0:
                continue
            if not _is_used(source, info, attribute) and _is_whole(source, info):
                yield values[0], f"self.{attribute} is dropout that nothing in this class calls."


def _is_whole(
    source: Source, info: ClassInfo, forward: tuple[str, ...] = ("forward", "call")
) -> bool:
    """Whether all that uses the class's attributes stands in the classes that are read."""
    family = list(info.family())
    for member in family:
        for base, written in zip(member.bases, member.node.bases, strict=True):
            name = base or ""
            if name in _BASES or name.startswith(_KERAS_BASES):
                continue
            if is_module_base(name) and name.startswith("transformers."):
                continue
            if not isinstance(member.source.interpreter.of(written), Class):
                return False
    method = next((m.methods[n] for m in family for n in forward if n in m.methods), None)
    if not info.bases or method is None or _is_stub(method):
        return False
    if "__getattr__" in info.methods or "__getattribute__" in info.methods:
        return False
    for node in walk(info.node):
        if isinstance(node, ast.Attribute) and node.attr in _ALL_CHILDREN:
            return False
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name in _BY_NAME - {"hasattr"}:
                return False
            # self handed on whole: f(self)
            if name != "super" and any(is_self(a) for a in node.args):
                return False
    return True


def _is_stub(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(
        isinstance(s, (ast.Pass, ast.Raise))
        or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in function.body
    )


def _is_used(source: Source, info: ClassInfo, attribute: str) -> bool:
    """Whether the class, one above or below it, or code that holds an instance reads it."""
    family = list(info.family())
    for member in family:
        for use in member.source.attributes.get(attribute, ()):
            if not isinstance(use.ctx, ast.Load):
                continue
            owner = member.source.class_of(use)
            if not is_self(use.value) and not _is_config(use.value):
                return True
            if (owner is not None and (owner in family or info in owner.family())) and is_self(
                use.value
            ):
                return True
    return any(isinstance(n, ast.Constant) and n.value == attribute for n in walk(info.node))


def _is_config(node: ast.expr) -> bool:
    """Whether an attribute is read of a bundle of settings: config.dropout, args.dropout."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return bool(re.search(r"(?i)config|cfg|args|opt|param|hparams|settings", str(name)))
