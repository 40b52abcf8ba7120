"""What the compilers of PyTorch 2.6 and 2.7 lack, and an adopted model needs.

Both releases are finished: what is reached into here does not move. From 2.8 on nothing is.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["FINISHED", "exports", "forward_of_a_module"]

FINISHED = torch.__version__ < "2.8"  # a TorchVersion: 2.13 is the later one

_Kind = TypeVar("_Kind", bound=type)
_forwards: tuple[type, ...] = ()


def forward_of_a_module(kind: _Kind) -> _Kind:
    """Of a class whose bound method stands in a module as its `forward`: let Dynamo trace into it.

    Before 2.8 it forgets where an object came from whose method stands in a module, and then
    refuses what the object holds. Methods of other objects go the way they went.
    """
    global _forwards
    if FINISHED:
        if not _forwards:
            _remember_where_forwards_come_from()
        _forwards = (*_forwards, kind)
    return kind


def _remember_where_forwards_come_from() -> None:
    from torch._dynamo.source import AttrSource
    from torch._dynamo.variables.base import VariableTracker
    from torch._dynamo.variables.functions import UserMethodVariable
    from torch._dynamo.variables.user_defined import UserDefinedObjectVariable

    before = UserDefinedObjectVariable.var_getattr

    def var_getattr(self: Any, tx: Any, name: str) -> Any:
        if name == "forward" and self.source and isinstance(self.value, nn.Module):
            method = self.value.__dict__.get(name)
            if isinstance(method, MethodType) and isinstance(method.__self__, _forwards):
                source = AttrSource(self.source, name)
                bound = VariableTracker.build(tx, method.__self__, AttrSource(source, "__self__"))
                return UserMethodVariable(method.__func__, bound, source=source)
        return before(self, tx, name)

    # It is a method, and mypy would not have another in its place.
    UserDefinedObjectVariable.var_getattr = var_getattr  # type: ignore[method-assign]


def exports() -> bool:
    """Whether torch.export traces, before 2.8. To be asked by code that is not traced itself."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    try:
        traced = InstructionTranslator.current_tx()
    except AttributeError:  # Dynamo has not traced yet in this thread
        traced = None
    return torch.compiler._is_compiling_flag if traced is None else bool(traced.output.export)
