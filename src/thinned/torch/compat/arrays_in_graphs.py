"""Arithmetic on NumPy's arrays in code that torch.compile traces under a mode.

Dynamo turns an array into a tensor, and under a mode that sees functions it turns `array / 2` into
a call of Tensor.div, which it then looks up in the array's class, in vain (PyTorch 2.6 to 2.14, for
any mode). Here such a function becomes the operator again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from thinned.backends.torch.values import inlined

__all__ = ["as_written"]

# By the names of PyTorch's functions: as objects they are not those that Dynamo has.
_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "add_": operator.iadd,
    "sub": operator.sub, "sub_": operator.isub,
    "mul": operator.mul, "mul_": operator.imul,
    "div": operator.truediv, "div_": operator.itruediv,
    "floor_divide": operator.floordiv, "__floordiv__": operator.floordiv,
    "floor_divide_": operator.ifloordiv, "__ifloordiv__": operator.ifloordiv,
    "remainder": operator.mod, "remainder_": operator.imod,
    "pow": operator.pow, "__pow__": operator.pow, "pow_": operator.ipow, "__ipow__": operator.ipow,
    "matmul": operator.matmul,
    "eq": operator.eq, "__eq__": operator.eq, "ne": operator.ne,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "neg": operator.neg, "positive": operator.pos, "abs": operator.abs,
}  # fmt: skip
# Those that have the array on their right.
_TURNED: dict[str, Callable[..., Any]] = {
    "__rsub__": operator.sub, "__rdiv__": operator.truediv, "__rtruediv__": operator.truediv,
    "__rfloordiv__": operator.floordiv, "__rmod__": operator.mod, "__rpow__": operator.pow,
    "__rmatmul__": operator.matmul,
}  # fmt: skip


@inlined
def as_written(func: Any, array: Any, *args: Any, **kwargs: Any) -> Any:
    """func(array, *args, **kwargs), where a mode may be traced."""
    if torch.compiler.is_compiling():
        if func.__name__ in _OPERATORS:
            return _OPERATORS[func.__name__](array, *args)
        if func.__name__ in _TURNED:
            return _TURNED[func.__name__](args[0], array)
    return func(array, *args, **kwargs)
