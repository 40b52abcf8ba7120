"""Noise of which whole rows share a draw, on plain memory: residual branches, channels.

A short way: the questions that a call of a few microseconds has time for.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from thinned import _native
from thinned.backends.base import Draw
from thinned.backends.torch_gradients import holders, nobody_else
from thinned.backends.torch_memory import (
    FLOATING,
    Drawn,
    Noise,
    lies_flat,
    threads_for,
)
from thinned.window import place

__all__ = ["noise_rows", "rows_of"]

CPU = torch.device("cpu")

_apply_rows: Any = _native.apply_rows
_apply_at: Any = _native.apply_at
_empty_like = torch.empty_like
_grad_enabled = torch.is_grad_enabled
_in_batch = torch._C._functorch.is_legacy_batchedtensor

# What there is to keep for a backward pass, in the kernel's order: rows, elements of a row, type,
# scale, the address, the threshold, threads.
Rows = tuple[Any, ...]


def rows_of(x: Tensor, axes: int, p: float, scale: float | None, at: Any) -> Rows:
    """One draw for each index of the leading axes (at most one) of x; scale None is 1 / (1 - p)."""
    total, n = x.numel(), x.shape[0] if axes else 1
    return (
        n, total // n if n else 0, FLOATING[x.dtype],
        1.0 / (1.0 - p) if scale is None else scale, at.seed, at.site, at.step, at.call,
        round(p * 4294967296.0), threads_for(total),
    )  # fmt: skip


# Elements from which on one draw for all is worth PyTorch's own operations: they split among their
# threads what is one row to the kernel.
LONG = 2**17


def _kept(rows: Rows) -> bool:
    """Whether the one row is kept."""
    keep = torch.empty((), dtype=torch.bool, device=CPU)
    _apply_at(
        0, keep.data_ptr(), 0, (), (), (), (), _native.Law.mask, rows[2], _native.Op.scale, 1.0,
        0.0, *rows[4:9], False, 0, None, 1,
    )  # fmt: skip
    return bool(keep)


def _into(x: Tensor, y: Tensor, rows: Rows) -> None:
    """The noise on x's memory, into y's, which is another or the same."""
    if rows[0] != 1 or rows[1] < LONG:
        _apply_rows(x.data_ptr(), y.data_ptr(), *rows)
    elif not _kept(rows):
        y.detach().zero_()
    elif rows[3] != 1.0:
        torch.mul(x.detach(), rows[3], out=y.detach())
    elif x.data_ptr() != y.data_ptr():
        y.detach().copy_(x.detach())


class _Rows(torch.autograd.Function):
    """y = noise(x), linear in x: every derivative is the same call on something else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        y = _empty_like(x)
        _into(x, y, rows)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        if lies_flat(grad) and not _grad_enabled() and not _in_batch(grad):
            dx = grad if nobody_else(holders(getrefcount(grad), grad), _Rows) else _empty_like(grad)
            _into(grad, dx, ctx.rows)
            return dx, None
        return _elsewhere(grad, ctx.rows), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _elsewhere(tangent, ctx.rows)

    @staticmethod
    def to_count(x: Tensor) -> Tensor:
        y: Tensor = _rows(x, rows_of(x, 1, 0.5, None, Drawn(0)))
        return y


# Function.apply without its questions about transforms of torch.func: `lies_flat` has asked them.
_rows: Any = super(torch.autograd.Function, _Rows).apply


def _elsewhere(x: Tensor, rows: Rows) -> Tensor:
    """The same noise on whatever tensor: the long way."""
    from thinned.backends.torch import noise

    at: Any = Drawn(*rows[4:8])
    axes = 0 if rows[0] == 1 else 1
    where = place("thinned", tuple(x.shape), tuple(range(axes, x.dim())))
    return noise(x, None, Noise(Draw(at, rows[8], where), rows[3]))


def noise_rows(x: Tensor, rows: Rows) -> Tensor:
    """y = scale m x, one draw for each index of the leading axis or for all; x must lie flat."""
    if (x.requires_grad and _grad_enabled()) or forward_ad._current_level >= 0:
        y: Tensor = _rows(x, rows)
        return y
    y = _empty_like(x)
    _into(x, y, rows)
    return y
