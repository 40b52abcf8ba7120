"""Noise of which whole rows share a draw, on plain memory: residual branches, channels.

There are few draws and much memory, and so it is PyTorch's own multiply that runs over it: its
threads are awake inside of a training step, where ours would wait for the processors. What a
dropped row held, a NaN too, is written over.
"""

from __future__ import annotations

from ctypes import memset
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from thinned import _native
from thinned.backends.base import Draw
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
BERNOULLI, MASK, SCALE = _native.Law.bernoulli, _native.Law.mask, _native.Op.scale
FLOAT32 = _native.Type.float32

_apply_at: Any = _native.apply_at
_empty_like = torch.empty_like
_grad_enabled = torch.is_grad_enabled
_in_batch = torch._C._functorch.is_legacy_batchedtensor

# Elements of a row from which on PyTorch's own operations are worth their start.
LONG = 2**15

# The kernel's arguments behind the two pointers, in its order: what there is to keep for a backward
# pass.
Rows = tuple[Any, ...]


def rows_of(x: Tensor, axes: int, p: float, scale: float | None, at: Any) -> Rows:
    """One draw for each index of the leading `axes` axes of x; scale None is 1 / (1 - p)."""
    shape, total, n, size = x.shape, x.numel(), 1, x.element_size()
    for axis in range(axes):
        n *= shape[axis]
    m = total // n if n else 0
    strides = (m * size, size)
    return (
        0, (n, m), strides, strides, (), BERNOULLI, FLOATING[x.dtype], SCALE,
        1.0 / (1.0 - p) if scale is None else scale, 0.0, at.seed, at.site, at.step, at.call,
        round(p * 4294967296.0), False, 0, (1, 0), threads_for(total),
    )  # fmt: skip


def _kept(rows: Rows) -> list[bool]:
    """Which rows are kept."""
    n, address = rows[1][0], rows[10:15]
    keep = torch.empty(n, dtype=torch.bool, device=CPU)
    _apply_at(
        0, keep.data_ptr(), 0, (n,), (), (1,), (), MASK, FLOAT32, SCALE, 1.0, 0.0, *address, False,
        0, None, 1,
    )  # fmt: skip
    found: list[bool] = keep.tolist()
    return found


def _into(x: Tensor, y: Tensor, rows: Rows) -> None:
    """The noise on x's memory, into y's, which is another."""
    n, m = rows[1]
    if m < LONG:
        if n and m:
            _apply_at(x.data_ptr(), y.data_ptr(), *rows)
        return
    kept, scale = _kept(rows), rows[8]
    x, y = x.detach().view(n, m), y.detach().view(n, m)
    count = sum(kept)
    if 4 * count >= 3 * n:
        # One operation over all, and then the few dropped rows: threads that meet cost more.
        _scaled(x, y, scale)
    first = 0
    for keeps, run in groupby(kept):
        stop = first + len(list(run))
        if not keeps and count:
            # In this thread: PyTorch's own would call the others for it.
            memset(y[first].data_ptr(), 0, (stop - first) * rows[2][0])
        elif not keeps:
            y.zero_()
        elif 4 * count < 3 * n:
            _scaled(x[first:stop], y[first:stop], scale)
        first = stop


def _scaled(x: Tensor, y: Tensor, scale: float) -> None:
    if scale != 1.0:
        torch.mul(x, scale, out=y)
    else:
        y.copy_(x)


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
            dx = _empty_like(grad)
            _into(grad, dx, ctx.rows)
            return dx, None
        return _elsewhere(grad, ctx.rows), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _elsewhere(tangent, ctx.rows)


# Function.apply without its questions about transforms of torch.func: `lies_flat` has asked them.
_rows: Any = super(torch.autograd.Function, _Rows).apply


class _Zero(torch.autograd.Function):
    """y = 0 whatever x is, and a gradient that is zero and not absent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.zeros_like(grad)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return torch.zeros_like(tangent)


_zero: Any = super(torch.autograd.Function, _Zero).apply


def _elsewhere(x: Tensor, rows: Rows) -> Tensor:
    """The same noise on whatever tensor: the long way."""
    from thinned.backends.torch import noise

    n, axes = 1, 0
    while n < rows[1][0]:
        n *= x.shape[axes]
        axes += 1
    at: Any = Drawn(*rows[10:14])
    where = place("thinned", tuple(x.shape), tuple(range(axes, x.dim())))
    return noise(x, None, Noise(Draw(at, rows[14], where), rows[8]))


def noise_rows(x: Tensor, rows: Rows) -> Tensor:
    """y = scale m x, one draw for each index of the leading axes; x must lie flat."""
    if rows[1][0] == 1 and rows[8] == 1.0:  # the whole batch stays as it is, or goes
        whole: Tensor = x.clone() if _kept(rows)[0] else _zero(x)
        return whole
    if (x.requires_grad and _grad_enabled()) or forward_ad._current_level >= 0:
        y: Tensor = _rows(x, rows)
        return y
    y = _empty_like(x)
    _into(x, y, rows)
    return y
