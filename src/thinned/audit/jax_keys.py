"""Which JAX keys draw dropout: the calls that take them, at first and second hand."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from thinned.audit.binding import bind
from thinned.audit.contents import drops_inside
from thinned.audit.context import mentions
from thinned.audit.nodes import walk
from thinned.audit.source import Called, Function, Source
from thinned.audit.values import NOTHING, Built, Class, Function as DefinedFunction, Named, Value
from thinned.audit.words import words_of

__all__ = [
    "KEYS",
    "MAPS",
    "Use",
    "handed_on",
    "in_training",
    "is_key",
    "runs_model",
    "stores",
    "uses_equinox",
    "uses_of_keys",
]

KEYS = frozenset({"jax.random.PRNGKey", "jax.random.key"})
_EQUINOX = frozenset({"equinox.nn.Dropout", "equinox.nn.MultiheadAttention"})
MAPS = frozenset({"jax.vmap", "equinox.filter_vmap"})
_HANDS = 3
_DROPS = frozenset({"drop", "dropout", "dropouts"})
_JAX = frozenset({"jax", "flax", "equinox", "haiku", "optax", "chex", "jaxtyping", "distrax"})
_WITH_KEY = frozenset({"haiku.dropout", "jax.random.bernoulli"})


@dataclass(frozen=True, slots=True)
class Use:
    """A key handed to dropout: the expression that is the key, and the call that takes it."""

    key: ast.expr
    call: ast.Call


def uses_of_keys(source: Source) -> Iterator[Use]:
    if source.names.tops.isdisjoint(_JAX):
        return  # without keys there is nothing to use
    named = any(k.arg in ("rngs", "key") for call in source.calls for k in call.keywords)
    if not named and "apply" not in source.attributes and not any(source.calls_of(_WITH_KEY)):
        return
    for call in source.calls:
        rngs = next((k.value for k in call.keywords if k.arg == "rngs"), None)
        if isinstance(rngs, ast.Dict) and not _is_init(call):
            for name, value in zip(rngs.keys, rngs.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == "dropout":
                    yield Use(value, call)
            continue
        called = source.called(call)
        key: ast.expr | None = None
        if isinstance(call.func, ast.Attribute) and call.func.attr == "apply" and call.args[2:]:
            # Haiku's: the second argument is the key.
            made = call.args[1]
            if isinstance(made, ast.Call) and source.resolve(made.func) in KEYS:
                key = made if in_training(source, call) else None
        elif called.name in _WITH_KEY:
            key = called.argument(0, "rng", "key")
        elif isinstance(call.func, ast.Call):
            key = _mapped_key(source, call, call.func)
        elif _draws(source, call, called.target):
            key = next((k.value for k in call.keywords if k.arg == "key"), None)
        if key is not None:
            yield Use(key, call)


def _mapped_key(source: Source, call: ast.Call, mapping: ast.Call) -> ast.expr | None:
    """The keys that a model of Equinox, mapped over a batch, is given: vmap(model)(x, keys)."""
    mapped = source.called(mapping)
    if mapped.name not in MAPS or not uses_equinox(source) or not runs_model(mapped):
        return None
    if not any(source.calls_of(_EQUINOX)):
        return None
    return next((arg for arg in reversed(call.args) if is_key(arg)), None)


def handed_on(source: Source, uses: list[Use]) -> list[Use]:
    """Calls of the file's own functions that draw with a key which they are given, at first or
    second hand."""
    draws: dict[ast.AST, set[str]] = defaultdict(set)
    found: list[Use] = []
    seen: set[ast.AST] = set()
    for _ in range(_HANDS):
        for use in uses:
            if isinstance(use.key, ast.Name):
                for function in source.functions_of(use.call):
                    name = _split_of(use.key.id, function)
                    if not stores(source, name, function):
                        draws[function].add(name)
        uses = []
        for call in source.calls if draws else ():
            called = source.called(call)
            target = called.target
            if call in seen or not isinstance(target, DefinedFunction):
                continue
            if target.node not in draws:
                continue
            seen.add(call)
            frame = bind(target.node, called, target.skip, None)
            keys = [frame.given.get(name) for name in draws[target.node]] if frame else []
            uses += [Use(key, call) for key in keys if key is not None]
        found += uses
    return found


def _split_of(name: str, function: Function) -> str:
    """The name of the key that one was split off in a function; itself where it was not."""
    given = [
        node.value
        for node in walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(n, ast.Name) and n.id == name for t in node.targets for n in walk(t))
    ]
    made = given[0] if len(given) == 1 else None
    first = made.args[0] if isinstance(made, ast.Call) and made.args else None
    if isinstance(made, ast.Call) and isinstance(first, ast.Name) and _last(made.func) == "split":
        return first.id
    return name


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def _draws(source: Source, call: ast.Call, target: Value) -> bool:
    """Whether what is called is a module of Equinox that draws: dropout, or one that holds some."""
    if isinstance(target, Built) and isinstance(target.kind, Named):
        return target.kind.name in _EQUINOX
    if isinstance(target, Built):
        return drops_inside(source, target) or _has_field(source, target)
    if target is NOTHING and isinstance(call.func, ast.Name):
        return uses_equinox(source) and bool(_DROPS & set(words_of(call.func.id)))
    # self.attn(x, key=key), of which nothing is known but that it is part of a module
    root = call.func
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    info = source.class_of(call)
    return (
        root is not call.func
        and isinstance(root, ast.Name)
        and root.id == "self"
        and info is not None
        and "equinox.Module" in info.bases
        and target is NOTHING
    )


def _has_field(source: Source, value: Built) -> bool:
    """Whether a class of the tree declares a field that drops: dropout: eqx.nn.Dropout."""
    if not isinstance(value.kind, Class):
        return False
    for member in value.kind.info.family():
        for bindings in member.scope.bindings.values():
            for binding in bindings:
                kind = member.source.interpreter.of(binding.annotation)
                if kind == Named("equinox.nn.Dropout"):
                    return True
    return False


def _is_init(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("init", "init_with_output")


def stores(source: Source, name: str, inside: ast.AST) -> list[int]:
    return [
        node.lineno
        for node in walk(inside)
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
    ]


def in_training(source: Source, call: ast.Call) -> bool:
    """Whether the mode is passed as a constant that means training."""
    for keyword in call.keywords:
        value = source.value(keyword.value)
        if keyword.arg in ("train", "training", "is_training") and value is True:
            return True
        if keyword.arg in ("deterministic", "eval", "inference") and value is False:
            return True
    return False


def runs_model(mapped: Called) -> bool:
    return bool(mapped.args) and mentions(
        mapped.args[0], re.compile(r"(?i)(?:^|_)(?:model|net|network|forward|encoder|decoder|mlp)$")
    )


def is_key(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and re.search(r"(?i)key|rng", node.id) is not None


def uses_equinox(source: Source) -> bool:
    """Whether the models are Equinox's, which take a key for dropout and for nothing else."""
    top = source.names.scopes[source.tree]
    return any(b.target == "equinox" for found in top.bindings.values() for b in found)
