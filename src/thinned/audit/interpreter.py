"""The interpreter: what an expression stands for, through names, attributes, calls, files.

It runs backwards from a question: the value of a name is that of what the name was last given, the
value of an attribute is what its class gives it, the value of a call of a function of the tree is
that of what the function returns. Nothing is run, and what cannot be followed is NOTHING.
"""

from __future__ import annotations

import ast
from typing import Any

from thinned.audit.binding import bind, default_of
from thinned.audit.expressions import HANDLERS
from thinned.audit.layers import FACTORIES
from thinned.audit.names import Binding, Scope, canonical
from thinned.audit.nodes import is_none, walk
from thinned.audit.outcomes import outcomes
from thinned.audit.reaching import Reaching
from thinned.audit.values import (
    NOTHING,
    OPTIONS,
    Bound,
    Built,
    Choice,
    Class,
    ClassInfo,
    Const,
    Dictionary,
    Frame,
    Function,
    Items,
    Module,
    Named,
    Value,
    choice,
    is_number,
)

__all__ = ["Interpreter"]

# How far a question is followed, and how many steps it may take altogether.
_DEPTH = 9
_STEPS = 400
# Functions of more statements than these build nothing that is followed.
_LONG = 12

# Calls that give back what they are given.
_SAME_METHODS = frozenset(
    {"to", "cuda", "cpu", "double", "half", "float", "bfloat16", "eval", "train", "type"}
    | {"requires_grad_", "share_memory", "apply", "to_empty", "xpu", "copy", "clone"}
)
_SAME_FUNCTIONS = frozenset(
    {"staticmethod", "torch.compile", "torch.jit.script", "copy.deepcopy", "copy.copy", "list"}
    | {"tuple", "torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel"}
    | {"collections.OrderedDict", "equinox.filter_jit", "jax.jit", "flax.nnx.jit", "nnx.jit"}
    | {"torch.ao.quantization.quantize_dynamic", "torch.quantization.quantize_dynamic"}
    | {"torch.jit.ignore", "torch.no_grad", "float", "int", "jax.checkpoint", "jax.remat"}
    # What is called with the function's own arguments, and gives back more.
    | {"jax.value_and_grad", "jax.grad", "equinox.filter_value_and_grad", "equinox.filter_grad"}
)
_FACTORIES = FACTORIES | {"timm.create_model"}
_HOLDERS = frozenset({"torch.nn.ModuleList", "torch.nn.ModuleDict", "flax.nnx.List"})
_NESTED = 2
_PARTIAL = "functools.partial"
_NAMESPACE = Named("argparse.Namespace")
_FIELDS = frozenset({"dataclasses.field", "equinox.field", "pydantic.Field", "flax.struct.field"})
# Where built layers of packages keep what they were given.
_KEPT: dict[str, tuple[int, tuple[str, ...]]] = {
    "p": (0, ("p",)),
    "drop_prob": (0, ("drop_prob", "p")),
    "rate": (0, ("rate",)),
}


class Interpreter:
    """Answers what the expressions of one file stand for."""

    # Steps that the present question may still take: one may go through several files.
    left = 0

    def __init__(self, source: Any) -> None:
        self.source = source
        self._known: dict[ast.AST, Value] = {}
        self._running: set[tuple[ast.AST, int]] = set()
        self._cut = 0  # answers that were given up: what rests on them is not kept
        self.reaching = Reaching(source)

    def of(self, node: ast.AST | None, frame: Frame | None = None, depth: int = _DEPTH) -> Value:
        """Return what an expression stands for, seen from a call of its function."""
        if node is None:
            return NOTHING
        home = self.source.home(node)
        if home is not self.source:
            return NOTHING if home is None else home.interpreter.of(node, frame, depth)
        if isinstance(node, ast.Constant):
            return Const(node.value)
        if frame is None and node in self._known:
            return self._known[node]
        if depth == _DEPTH:
            Interpreter.left = _STEPS
        Interpreter.left -= 1
        key = node, id(frame)
        if depth <= 0 or Interpreter.left <= 0 or key in self._running:
            self._cut += 1
            return NOTHING
        handle = _HANDLE.get(type(node))
        if handle is None:
            return NOTHING
        before = self._cut
        self._running.add(key)
        try:
            value: Value = handle(self, node, frame, depth)
        finally:
            self._running.discard(key)
        if frame is None and (self._cut == before or depth == _DEPTH):
            self._known[node] = value
        return value

    # -- names ---------------------------------------------------------------------------------

    def _name(self, node: ast.Name, frame: Frame | None, depth: int) -> Value:
        scope = self.source.scope(node)
        found = self.source.names.lookup(node.id, scope)
        if found is None:
            name = self.source.names.resolve(node, scope)
            return self.dotted(name or node.id, depth - 1)
        where, bindings = found
        chosen = self.reaching.of(node, where, bindings)
        inner = frame if frame is not None and where.owner is frame.function else None
        return choice(self._bound(b, where, inner, depth) for b in chosen)

    def _bound(self, binding: Binding, where: Scope, frame: Frame | None, depth: int) -> Value:
        node = binding.node
        if binding.kind == "import":
            return self.dotted(binding.target, depth - 1)
        if isinstance(node, ast.ClassDef):
            return Class(self.source.classes[node])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return Function(self.source, node)
        if binding.kind == "parameter" and isinstance(node, ast.arg):
            return self._parameter(where.owner, node, frame, depth)
        if binding.kind == "value":
            return self.of(node, frame, depth - 1)
        if binding.kind == "each":
            return self._element(node, frame, depth - 1)
        return NOTHING

    def _element(self, over: ast.AST | None, frame: Frame | None, depth: int) -> Value:
        """What each element of a list or dict of layers stands for, where all are alike."""
        value = self.of(over, frame, depth)
        for _ in range(_NESTED):
            if not isinstance(value, Built) or value.called is None or not value.called.args:
                break
            if not isinstance(value.kind, Named) or value.kind.name not in _HOLDERS:
                break
            home = self.source.home(value.called.args[0]) or self.source
            value = home.interpreter.of(value.called.args[0], None, depth - 1)
        parts: list[ast.expr] = []
        if isinstance(value, Items):
            parts = list(value.elements)
        elif isinstance(value, Dictionary) and value.whole:
            parts = [part for _, part in value.entries]
        if len(parts) > OPTIONS:
            return NOTHING
        found = choice(self.of(part, None, depth - 1) for part in parts)
        if isinstance(found, Choice) and all(isinstance(o, Built) for o in found.options):
            kinds = {o.kind for o in found.options if isinstance(o, Built)}
            return found.options[0] if len(kinds) == 1 else NOTHING
        return found if isinstance(found, Built) else NOTHING

    def _parameter(self, owner: ast.AST, node: ast.arg, frame: Frame | None, depth: int) -> Value:
        if frame is not None and frame.function is owner:
            given = frame.given.get(node.arg)
            if given is not None:
                return self.of(given, frame.outer, depth - 1)
            return self.of(default_of(owner, node.arg), None, depth - 1)
        method = isinstance(self.source.parents.get(owner), ast.ClassDef)
        if method and isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            plain = [*owner.args.posonlyargs, *owner.args.args]
            if plain and plain[0] is node and not _is_static(owner):
                info = self.source.class_of(node)
                return NOTHING if info is None else Built(Class(info), None)
        if node.annotation is not None:
            kind = self.of(node.annotation, None, depth - 1)
            if isinstance(kind, Class):
                return Built(kind, None)
        return NOTHING

    def dotted(self, name: str, depth: int = _DEPTH) -> Value:
        """Return what a dotted name of an import stands for: a thing of the tree, or its name."""
        if depth <= 0:  # files that import a name of each other, or of themselves
            self._cut += 1
            return NOTHING
        found = self.source.imported(name)
        if found is None:
            return Named(canonical(name))
        other, rest = found
        self.source.met.add(other)
        value: Value = Module(other)
        for part in rest.split(".") if rest else ():
            value = self.attribute(value, part, depth - 1)
        return Named(canonical(name)) if value is NOTHING else value

    def of_module(self, name: str, depth: int = _DEPTH) -> Value:
        """Return what a name of this file's top level stands for."""
        top = self.source.names.scopes[self.source.tree]
        bindings = top.bindings.get(name)
        if not bindings or len(bindings) > OPTIONS:
            return NOTHING
        kept = [b for b in bindings if not is_none(b.node)] or bindings
        return choice(self._bound(b, top, None, depth - 1) for b in kept)

    # -- attributes ----------------------------------------------------------------------------

    def _attribute(self, node: ast.Attribute, frame: Frame | None, depth: int) -> Value:
        # A name of an import is asked for as a whole: its file is read only for what is in it.
        name = self.source.names.imported(node, self.source.scope(node))
        if name is not None:
            return self.dotted(name, depth - 1)
        return self.attribute(self.of(node.value, frame, depth - 1), node.attr, depth - 1)

    def attribute(self, base: Value, name: str, depth: int = _DEPTH) -> Value:
        """Return what an attribute of a value stands for."""
        if depth <= 0:
            self._cut += 1
            return NOTHING
        if isinstance(base, Named):
            return Named(canonical(f"{base.name}.{name}"))
        if isinstance(base, Module):
            there: Interpreter = base.source.interpreter
            return there.of_module(name, depth - 1)
        if isinstance(base, Choice):
            return choice(self.attribute(option, name, depth - 1) for option in base.options)
        if isinstance(base, Class):
            return self._of_class(base.info, name, depth)
        if isinstance(base, Built):
            if isinstance(base.kind, Class):
                return self._of_instance(base, base.kind.info, name, depth)
            if base.kind == _NAMESPACE and base.called is not None:
                return self._of_option(base.called.node, name, depth)
            if base.called is not None and name in _KEPT:
                position, names = _KEPT[name]
                return self.of(base.called.argument(position, *names), None, depth - 1)
        return NOTHING

    def _of_option(self, parsed: ast.Call, name: str, depth: int) -> Value:
        """The default of an option of the command line, where that is a number: of a switch the
        default says nothing."""
        home = self.source.home(parsed)
        default = None if home is None else home.options.get(name)
        found = self.of(default, None, depth - 1)
        return found if isinstance(found, Const) and is_number(found.value) else NOTHING

    def _of_instance(self, base: Built, info: ClassInfo, name: str, depth: int) -> Value:
        for member in info.family():
            init = member.methods.get("__init__")
            if name in member.given:
                values = member.given[name]
                if len(values) > OPTIONS:
                    return NOTHING
                frame = None
                if base.called is not None and member is info and init is not None:
                    frame = bind(init, base.called, 1, None)
                return choice(
                    NOTHING if v is None else self.of(v, frame, depth - 1) for v in values
                )
            if base.called is not None and init is None and name in base.called.keywords:
                return self.of(base.called.keywords[name], None, depth - 1)
            found = self._in_body(member, name, depth, instance=True)
            if found is not None:
                return found
        return NOTHING

    def _of_class(self, info: ClassInfo, name: str, depth: int) -> Value:
        for member in info.family():
            found = self._in_body(member, name, depth, instance=False)
            if found is not None:
                return found
        return NOTHING

    def _in_body(self, info: ClassInfo, name: str, depth: int, *, instance: bool) -> Value | None:
        """What the body of a class itself gives a name; None where it does not."""
        method = info.methods.get(name)
        if method is not None:
            words = {_last(d) for d in method.decorator_list}
            if words & {"property", "cached_property"}:
                made = _returned(method)
                return NOTHING if made is None else self.of(made, None, depth - 1)
            if words - {"no_grad", "jit", "compact", "inference_mode", "staticmethod"}:
                return NOTHING
            return Function(info.source, method, int(instance and "staticmethod" not in words))
        bindings = info.scope.bindings.get(name)
        if bindings:
            if len(bindings) > 1:
                return NOTHING
            interpreter: Interpreter = info.source.interpreter
            value = interpreter._bound(bindings[0], info.scope, None, depth)
            is_field = instance and bindings[0].annotation is not None
            if is_field and isinstance(value, Const) and isinstance(value.value, bool):
                return NOTHING  # the default of a field: who builds one may say otherwise
            if value is NOTHING and bindings[0].annotation is not None:
                kind = interpreter.of(bindings[0].annotation, None, depth - 1)
                if isinstance(kind, (Class, Named)) and instance:
                    return Built(kind, None)
            return value
        return None

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, node: ast.Call, frame: Frame | None, depth: int) -> Value:
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr in _SAME_METHODS:
            inner = self.of(func.value, frame, depth - 1)
            if isinstance(inner, (Built, Dictionary)):
                return inner
        if isinstance(func, ast.Attribute) and func.attr == "parse_args":
            return Built(_NAMESPACE, self.source.called(node))
        return self._applied(self.of(func, frame, depth - 1), node, frame, depth)

    def _applied(self, func: Value, node: ast.Call, frame: Frame | None, depth: int) -> Value:
        if isinstance(func, Choice):
            return choice(self._applied(option, node, frame, depth) for option in func.options)
        if isinstance(func, Named):
            return self._of_package(func, node, frame, depth)
        if isinstance(func, Class):
            return Built(func, self.source.called(node))
        if isinstance(func, Bound):
            target = func.target
            if isinstance(target, Class) or (isinstance(target, Named) and _is_class(target.name)):
                return Built(target, self.source.called(node))
            return NOTHING
        if isinstance(func, Function):
            return self._outcome(func, node, frame, depth)
        return NOTHING

    def _outcome(self, func: Function, node: ast.Call, frame: Frame | None, depth: int) -> Value:
        """The value that a function of the tree returns for the arguments of this call."""
        if not isinstance(func.node, ast.Lambda) and len(func.node.body) > _LONG:
            return NOTHING
        bound = bind(func.node, self.source.called(node), func.skip, frame)
        if bound is None or bound.depth >= 4:
            return NOTHING
        there: Interpreter = func.source.interpreter
        made = outcomes(func.node, lambda part: there.of(part, bound, depth - 1))
        return choice(there.of(part, bound, depth - 1) for part in made)

    def _of_package(self, func: Named, node: ast.Call, frame: Frame | None, depth: int) -> Value:
        name = func.name
        first = node.args[0] if node.args else None
        if name == _PARTIAL and first is not None:
            return Bound(
                self.of(first, frame, depth - 1),
                tuple(node.args[1:]),
                tuple((k.arg, k.value) for k in node.keywords if k.arg is not None),
                any(k.arg is None for k in node.keywords),
            )
        if name in _SAME_FUNCTIONS:
            return NOTHING if first is None else self.of(first, frame, depth - 1)
        if name == "getattr" and len(node.args) > 1:
            word = self.of(node.args[1], frame, depth - 1)
            if isinstance(word, Const) and isinstance(word.value, str):
                return self.attribute(self.of(first, frame, depth - 1), word.value, depth - 1)
            return NOTHING
        if name == "dict" and not node.args:
            return Dictionary(
                tuple((k.arg, k.value) for k in node.keywords if k.arg is not None),
                all(k.arg is not None for k in node.keywords),
            )
        if name in _FIELDS:
            given = next((k.value for k in node.keywords if k.arg == "default"), None)
            return self.of(given, frame, depth - 1)
        if _is_class(name) or name in _FACTORIES:
            return Built(func, self.source.called(node))
        return NOTHING

    def _lambda(self, node: ast.Lambda, frame: Frame | None, depth: int) -> Value:
        return Function(self.source, node)


_HANDLE: dict[type[ast.AST], Any] = {
    ast.Name: Interpreter._name,
    ast.Attribute: Interpreter._attribute,
    ast.Call: Interpreter._call,
    ast.Lambda: Interpreter._lambda,
    **HANDLERS,
}


def _returned(function: ast.AST) -> ast.expr | None:
    """What a function returns, where it has one return."""
    if isinstance(function, ast.Lambda):
        return function.body
    found = [n for n in walk(function) if isinstance(n, ast.Return)]
    return found[0].value if len(found) == 1 else None


def _is_class(name: str) -> bool:
    """Whether the last part of a dotted name is written as classes are."""
    last = name.rpartition(".")[2]
    return last[:1].isupper() and "." in name


def _is_static(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(_last(d) in ("staticmethod", "classmethod") for d in function.decorator_list)


def _last(node: ast.AST) -> str:
    """The last word of a decorator."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
