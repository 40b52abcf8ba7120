"""What a module holds, as far as it is seen: whether anything in it drops."""

from __future__ import annotations

import ast

from thinned.audit.flow import steps_of
from thinned.audit.layers import DROPOUT_LAYERS, FACTORIES, FUNCTIONAL, KERAS_DROPOUT
from thinned.audit.masks import PLACES, masks_of
from thinned.audit.modes import Says, says
from thinned.audit.nodes import walk
from thinned.audit.source import ClassInfo, Source, is_self
from thinned.audit.values import Built, Class, Items, Named, Value
from thinned.audit.words import words_of

__all__ = ["drops_inside", "drops_itself"]

_JAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout", "equinox.nn.Dropout"})
_DEEP = 4
# Rates of timm's models, by the argument that sets them.
_RATES_OF_TIMM = ("drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate")


def drops_inside(source: Source, value: Value, depth: int = _DEEP) -> bool:
    """Say whether a module is dropout, or holds some, for sure."""
    if depth <= 0:
        return False
    if isinstance(value, Items):
        return any(
            drops_inside(source, source.interpreter.of(element), depth - 1)
            for element in value.elements
        )
    if not isinstance(value, Built):
        return False
    if isinstance(value.kind, Named):
        name, called = value.kind.name, value.called
        if name in DROPOUT_LAYERS | KERAS_DROPOUT | _JAX:
            return called is None or source.value(called.argument(0, "p", "rate")) != 0
        if called is None:
            return False
        if name == "timm.create_model":
            given = (source.value(called.argument(None, word)) for word in _RATES_OF_TIMM)
            return any(isinstance(rate, float) and rate > 0 for rate in given)
        if name in FACTORIES:
            return True
        if name in ("torch.nn.ModuleList", "torch.nn.ModuleDict"):
            return any(
                drops_inside(source, source.interpreter.of(arg), depth - 1) for arg in called.args
            )
        return any(
            drops_inside(source, source.interpreter.of(step.node), depth - 1)
            for step in steps_of(source, called)
        )
    if isinstance(value.kind, Class):
        return any(
            given is not None and drops_inside(source, source.interpreter.of(given), depth - 1)
            for member in value.kind.info.family()
            for values in list(member.given.values())
            for given in values
        )
    return False


def drops_itself(info: ClassInfo) -> bool:
    """Say whether the forward pass of a module's class draws a mask in training, by a function or
    by hand: DropPath, as everyone has one."""
    for member in info.family():
        forward = member.methods.get("forward")
        if forward is None:
            continue
        source = member.source
        asks = any(
            isinstance(node, ast.Attribute) and node.attr == "training" and is_self(node.value)
            for node in walk(forward)
        )
        masks = (mask.node for mask in masks_of(source))
        drawn = (*masks, *(called.node for called in source.calls_of(FUNCTIONAL)))
        return asks and (
            any(source.function_of(node) is forward for node in drawn)
            or any(_hands_on_mode(source, node) for node in walk(forward))
        )
    return False


def _hands_on_mode(source: Source, node: ast.AST) -> bool:
    """Whether a call of a function that is named for dropping is given the mode."""
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    given = (*node.args, *(k.value for k in node.keywords))
    return bool(set(words_of(name)) & PLACES) and any(
        says(source, arg) is Says.TRAINING for arg in given
    )
