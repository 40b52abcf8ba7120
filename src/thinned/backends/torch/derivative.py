"""The derivative of noise, for every torch.autograd.Function that makes some."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["Linear"]


class Linear:
    """y = f + s m (x - f), or x (1 + s z): linear in x and in an array f, the first two arguments.

    A Function that is of this class has a `forward`, which tells ctx to leave out gradients that
    are None (set_materialize_grads), and `again`: the same noise without a fill.
    """

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        """s m x, or x (1 + s z), with derivatives of its own."""
        raise NotImplementedError

    @classmethod
    def backward(cls, ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """dy/dx is s m, and dy/df what that leaves of 1."""
        wanted = ctx.needs_input_grad
        rest = (None,) * (len(wanted) - 2)
        if grad is None:
            return None, None, *rest
        dx = cls.again(ctx, grad)
        return dx, grad - dx if wanted[1] else None, *rest

    @classmethod
    def jvp(cls, ctx: Any, dx: Tensor | None, df: Tensor | None, *_: Any) -> Tensor | None:
        """The same of tangents."""
        if df is None:
            return None if dx is None else cls.again(ctx, dx)
        left = df - cls.again(ctx, df)
        return left if dx is None else left + cls.again(ctx, dx)
