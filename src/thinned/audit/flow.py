"""What a call does, and which call made the value that it is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from thinned.audit.layers import RECURRENT, TENSOR_METHODS
from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.source import Called, Source
from thinned.audit.values import NOTHING, Built, Items, Named

__all__ = ["Operation", "Step", "before", "chains", "operation", "producer", "steps_of"]

_SEQUENTIAL = frozenset({"torch.nn.Sequential", "keras.Sequential"})
# A chain of calls that is followed backwards, and the statements that are searched for each.
# Generated functions have many thousands, and all of them for each call would take hours.
_TENSOR = "torch.Tensor."
_STEPS = 12
_STATEMENTS = 100


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of a function that is known by name, or of a layer that was built from a known class.

    `built` is the call that built the layer, None for a function; `input` is what it is given.
    """

    name: str
    node: ast.Call
    called: Called
    built: Called | None
    attribute: str | None

    @property
    def input(self) -> ast.expr | None:
        if self.name.startswith(_TENSOR) and isinstance(self.node.func, ast.Attribute):
            return self.node.func.value
        return self.node.args[0] if self.node.args else None

    @property
    def made(self) -> Called:
        """The call that carries p: the layer's construction, or the function's own."""
        return self.built if self.built is not None else self.called


def operation(source: Source, node: ast.AST | None) -> Operation | None:
    """Return what a call does, where that is known."""
    if not isinstance(node, ast.Call):
        return None
    known = source.operations
    if node not in known:
        known[node] = _operation(source, node)
    found: Operation | None = known[node]
    return found


def _operation(source: Source, node: ast.Call) -> Operation | None:
    called = source.called(node)
    if called.name is not None and not called.name.startswith(_TENSOR):
        return Operation(called.name, node, called, None, None)
    layer = called.target
    if isinstance(layer, Built) and isinstance(layer.kind, Named) and layer.called is not None:
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else None
        return Operation(layer.kind.name, node, called, layer.called, attribute)
    if (
        isinstance(node.func, ast.Attribute)
        and node.func.attr in TENSOR_METHODS
        and layer is NOTHING
    ):
        name = f"{_TENSOR}{node.func.attr}"
        return Operation(name, node, called, None, None)
    return None


def producer(source: Source, node: ast.expr | None) -> ast.expr | None:
    """Return the expression that gave a value: itself, or what a local name was last given.

    Followed is a straight line of statements; after a branch or a loop that may give the name
    another value nothing is said.
    """
    if not isinstance(node, ast.Name):
        return node
    statement = source.statement_of(node)
    if statement is None:
        return None
    block, place = source.block_of(statement)
    for earlier in reversed(block[max(0, place - _STATEMENTS) : place]):
        if isinstance(earlier, ast.Assign):
            if len(earlier.targets) == 1 and _is_name(earlier.targets[0], node.id):
                return earlier.value
            if _is_first(earlier.targets[0], node.id) and _is_recurrent(source, earlier.value):
                return earlier.value  # out, state = lstm(x)
        elif isinstance(earlier, ast.AnnAssign) and _is_name(earlier.target, node.id):
            return earlier.value
        if _gives(earlier, node.id):
            return None
    return None


def _is_first(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Tuple) and bool(target.elts) and _is_name(target.elts[0], name)


def _is_recurrent(source: Source, node: ast.expr) -> bool:
    found = operation(source, node)
    return found is not None and found.name in RECURRENT


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _gives(statement: ast.stmt, name: str) -> bool:
    return any(
        isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
        for n in walk(statement)
    )


def before(source: Source, node: ast.expr | None) -> Iterator[Operation]:
    """Yield the operations that made a value, the last one first, as far as they are seen."""
    for _ in range(_STEPS):
        found = operation(source, producer(source, node))
        if found is None:
            return
        yield found
        node = found.input


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a sequence: where it stands, and the call that builds it."""

    node: ast.expr
    built: Called | None

    @property
    def name(self) -> str:
        return self.built.name or "" if self.built is not None else ""


@once
def chains(source: Source) -> list[tuple[ast.Call | None, list[Step]]]:
    """Return the sequences of layers that run one after the other, and the calls that hold them."""
    return list(_chains_of(source))


def _chains_of(source: Source) -> Iterator[tuple[ast.Call | None, list[Step]]]:
    for called in source.calls_of(_SEQUENTIAL):
        if called.args:
            yield called.node, steps_of(source, called)
    for block in source.blocks:
        run: list[Step] = []
        onto: str | None = None
        for statement in _flattened(block):
            name, layers = _added(statement)
            if name is None and run and _is_aside(statement):
                continue
            if name is None or name != onto or isinstance(statement, ast.Assign):
                if len(run) > 1:
                    yield None, run
                run, onto = [], name
            run += [_step(source, layer) for layer in layers]
        if len(run) > 1:
            yield None, run


def _flattened(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block with those of branches that only add layers, as where every
    condition holds: conditions that ask for the same apart, of which one may exclude the other."""
    asked: set[str] = set()
    for statement in block:
        if isinstance(statement, ast.If) and not statement.orelse:
            names = {n.id for n in walk(statement.test) if isinstance(n, ast.Name)}
            names |= {n.attr for n in walk(statement.test) if isinstance(n, ast.Attribute)}
            names.discard("self")
            if names.isdisjoint(asked) and all(_added(s)[0] for s in statement.body):
                asked |= names
                yield from statement.body
                continue
        yield statement


def _is_aside(statement: ast.stmt) -> bool:
    """Whether a statement does nothing to a list of layers: a number, a print, a docstring."""
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, (ast.Constant, ast.BinOp, ast.Attribute, ast.Subscript))
    return isinstance(statement, (ast.Pass, ast.AnnAssign))


def steps_of(source: Source, built: Called) -> list[Step]:
    """The layers of a sequence that was built by this call; none where it is no sequence."""
    if built.name not in _SEQUENTIAL:
        return []
    return [_step(source, element) for element in _members(source, built)]


def _members(source: Source, called: Called) -> list[ast.expr]:
    found: list[ast.expr] = []
    for arg in called.args:
        inner: ast.expr = arg.value if isinstance(arg, ast.Starred) else arg
        value = source.interpreter.of(inner)
        if isinstance(value, Items):
            found += [_value_of(e) for e in value.elements]
        elif isinstance(inner, ast.Call) and inner.args and _is_ordered(source, inner):
            listed = inner.args[0]
            if isinstance(listed, ast.Dict):
                found += listed.values
            elif isinstance(listed, (ast.List, ast.Tuple)):
                found += [_value_of(e) for e in listed.elts]
        else:
            found.append(arg)
    return found


def _value_of(element: ast.expr) -> ast.expr:
    """The layer of an (name, layer) pair, else the element itself."""
    if isinstance(element, ast.Tuple) and len(element.elts) == 2:
        return element.elts[1]
    return element


def _is_ordered(source: Source, call: ast.Call) -> bool:
    return source.resolve(call.func) == "collections.OrderedDict"


def _step(source: Source, node: ast.expr) -> Step:
    made = source.interpreter.of(node)
    if isinstance(made, Built) and isinstance(made.kind, Named):
        return Step(node, made.called)
    return Step(node, source.called(node) if isinstance(node, ast.Call) else None)


_ADDING = frozenset({ast.AugAssign, ast.Assign, ast.Expr})


def _added(statement: ast.stmt) -> tuple[str | None, list[ast.expr]]:
    """The list or model that a statement extends, and by what: append, add, extend, +=."""
    name: str | None = None
    added: list[ast.expr] = []
    if type(statement) not in _ADDING:
        return None, []
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
        name = _list_name(statement.target)
        added = _listed(statement.value)
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        if isinstance(statement.value, (ast.List, ast.Tuple)):
            name = _list_name(statement.targets[0])
            added = list(statement.value.elts)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        func = call.func
        if isinstance(func, ast.Attribute):
            if func.attr in ("append", "add") and len(call.args) == 1:
                name, added = _list_name(func.value), [call.args[0]]
            elif func.attr == "extend" and len(call.args) == 1:
                name, added = _list_name(func.value), _listed(call.args[0])
            elif func.attr == "add_module" and len(call.args) == 2:
                name, added = _list_name(func.value), [call.args[1]]
    if not all(isinstance(one, (ast.Call, ast.Name, ast.Attribute)) for one in added):
        return None, []
    return (name, added) if name is not None and added else (None, [])


def _list_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def _listed(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, (ast.List, ast.Tuple)) else []
