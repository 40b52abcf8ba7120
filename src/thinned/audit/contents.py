"""What a module holds, as far as it is seen: whether anything in it drops."""

from __future__ import annotations

from thinned.audit.flow import steps_of
from thinned.audit.layers import DROPOUT_LAYERS, KERAS_DROPOUT
from thinned.audit.source import Source
from thinned.audit.values import Built, Class, Items, Named, Value

__all__ = ["drops_inside"]

_JAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout", "equinox.nn.Dropout"})
_DEEP = 4


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
