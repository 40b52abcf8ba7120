"""What single statements of a training loop do to the mode of a model.

eval() that is meant, methods and decorators that set a mode, gradients that are no model's.
"""

from __future__ import annotations

import ast

from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.source import Source, is_self
from thinned.audit.values import Built, Class, Function, Value

__all__ = [
    "LEARN",
    "called_itself",
    "decorated",
    "is_alternative",
    "is_manager",
    "is_module_class",
    "is_no_grad",
    "learns_inputs",
]
__all__ += ["matters", "only_method", "puts_back", "wrapper_of", "yields"]

_NO_GRAD = frozenset({"torch.no_grad", "torch.inference_mode"})
LEARN = frozenset({"backward", "manual_backward"})


def learns_inputs(source: Source, node: ast.Call) -> bool:
    """Whether the gradient that is taken is that of an input, which is then read: an adversarial
    example, say, for which a model stands in evaluation on purpose."""
    loops = source.loops_of(node)
    inside: ast.AST | None = loops[0] if loops else source.function_of(node)
    if inside is None:
        return False
    each = {
        n.id
        for n in walk(inside)
        if isinstance(n, (ast.For, ast.comprehension))
        for n in walk(n.target)
        if isinstance(n, ast.Name)
    }
    return any(
        isinstance(n, ast.Attribute)
        and n.attr == "grad"
        and isinstance(n.value, ast.Name)
        and n.value.id not in each
        and n.value.id != "self"
        and source.resolve(n) is None  # jax.grad
        for n in walk(inside)
    )


def puts_back(source: Source, node: ast.If) -> bool:
    """Whether a branch returns to the mode of before: `if was_training: model.train()`."""
    test = node.test
    value = source.given(test) if isinstance(test, ast.Name) else test
    return (
        isinstance(value, ast.Attribute)
        and value.attr == "training"
        and any(
            isinstance(n, ast.Attribute) and n.attr == "train" for s in node.body for n in walk(s)
        )
    )


def called_itself(target: Value) -> Value:
    """What a call of an object of the tree runs: its class's __call__, where that is no module."""
    if not isinstance(target, Built) or not isinstance(target.kind, Class):
        return target
    for member in target.kind.info.family():
        method = member.methods.get("__call__")
        if method is not None:
            found = Function(member.source, method, 1)
            return target if is_module_class(found) else found
    return target


def is_manager(target: Function) -> bool:
    """Whether a function of the tree is a context manager that sets a mode."""
    return (
        not isinstance(target.node, ast.Lambda)
        and yields(target.node)
        and any(
            getattr(d, "attr", getattr(d, "id", "")) == "contextmanager"
            for d in target.node.decorator_list
        )
        and matters(target.source, target.node)
    )


def yields(function: ast.AST) -> bool:
    """Whether a function is a generator: a context manager that puts the mode back, say."""
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in walk(function))


def only_method(source: Source, func: ast.Attribute) -> Function | None:
    """The method that sets a mode, where one class of the file alone has a method of this name, and
    the object is not known: `model.val_start()`."""
    if "_" not in func.attr or not isinstance(func.value, (ast.Name, ast.Attribute)):
        return None
    found = [i.methods[func.attr] for i in source.classes.values() if func.attr in i.methods]
    if len(found) != 1 or not matters(source, found[0]):
        return None
    return Function(source, found[0], 1)


def decorated(source: Source, func: ast.Attribute) -> Function | None:
    """A method of the class itself that one of the tree's decorators wraps."""
    info = source.class_of(func) if is_self(func.value) else None
    for member in info.family() if info is not None else ():
        method = member.methods.get(func.attr)
        if method is not None:
            found = Function(member.source, method, 1)
            return found if wrapper_of(found) is not None else None
    return None


def wrapper_of(target: Function) -> tuple[str, Function] | None:
    """What a decorator of the tree puts around a function, where that sets a mode; and the name
    that it has for the function."""
    if isinstance(target.node, ast.Lambda):
        return None
    for decorator in target.node.decorator_list:
        if not isinstance(decorator, (ast.Name, ast.Attribute)):
            continue
        made = target.source.interpreter.of(decorator)
        if not isinstance(made, Function) or isinstance(made.node, ast.Lambda):
            continue
        inner = [s for s in made.node.body if isinstance(s, ast.FunctionDef)]
        if len(inner) == 1 and made.node.args.args and matters(made.source, inner[0]):
            return made.node.args.args[0].arg, Function(made.source, inner[0])
    return None


def is_alternative(source: Source, node: ast.Call) -> bool:
    """Whether train() stands in the other branch: a setting chooses what is frozen."""
    written = ast.dump(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    statement = source.statement_of(node)
    branch = source.parents.get(statement) if statement is not None else None
    if not isinstance(branch, ast.If):
        return False
    other = branch.orelse if statement in branch.body else branch.body
    return any(
        isinstance(n, ast.Attribute) and n.attr == "train" and ast.dump(n.value) == written
        for s in other
        for n in walk(s)
    )


def is_module_class(target: Function) -> bool:
    info = target.source.class_of(target.node)
    return info is not None and any(
        (b or "").startswith(("torch.nn.", "lightning.")) for m in info.family() for b in m.bases
    )


@once
def _mattering(_: Source) -> dict[ast.AST, bool]:
    """What `matters` has found of the functions of a file."""
    return {}


def matters(source: Source, function: ast.AST) -> bool:
    """Whether a function sets a mode or learns, itself or through one that it calls."""
    known = _mattering(source)
    if function not in known:
        known[function] = _may_matter(function)
    return known[function]


def _may_matter(function: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Call)
        and (
            isinstance(n.func, ast.Name)
            or (isinstance(n.func, ast.Attribute) and (n.func.attr in _WORDS or _on_self(n.func)))
        )
        for n in walk(function)
    )


_WORDS = LEARN | {"train", "eval", "step"}


def _on_self(func: ast.Attribute) -> bool:
    return isinstance(func.value, ast.Name) and func.value.id == "self"


def is_no_grad(source: Source, node: ast.expr) -> bool:
    inner = node.func if isinstance(node, ast.Call) else node
    return source.resolve(inner) in _NO_GRAD
