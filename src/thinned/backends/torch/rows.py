"""The fused kernels on the memory of plain tensors: values, without a thought for derivatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from thinned import kernel
from thinned.backends.torch.backend import _again
from thinned.backends.torch.kernel import FLOATING, Noise, _pointer, _readable, make
from thinned.backends.torch.threads import threads_for
from thinned.kernel import _native

__all__ = ["Norm", "add", "arithmetic", "backward", "forward", "gradients", "normed", "suits"]

# Sums over rows are made in so many parts at most, of at least so many elements each: the same
# parts whichever threads take them.
PARTS, OF_A_PART = 64, 2**15


class Norm(NamedTuple):
    """Which norm of the last axis. `kind` is the type of z, which is normed."""

    rms: bool
    eps: float
    kind: torch.dtype


def arithmetic(kind: torch.dtype) -> torch.dtype:
    """Half types compute in float32."""
    return torch.float64 if kind == torch.float64 else torch.float32


def suits(x: torch.dtype, z: torch.dtype) -> bool:
    """Whether the kernel has sums of type z for an x of that type."""
    return x == z or (z == torch.float32 and x in (torch.float16, torch.bfloat16))


def _compiled(x: Tensor, how: Noise) -> bool:
    """Whether the kernel takes this x, whose rows must be drawn in order."""
    steps = how.draw.place.strides
    in_order = x.shape[-1] == 1 or steps[-1] == 1
    return x.device.type == "cpu" and in_order and not kernel.uses_reference()


def _flat(x: Tensor | None) -> Tensor | None:
    """x in C order, in memory that can be read."""
    return None if x is None else _readable(x).contiguous()


def _pointers(*arrays: Tensor | None) -> tuple[int, ...]:
    return tuple([0 if x is None else _pointer(x) for x in arrays])


def _rest(x: Tensor, kind: torch.dtype, how: Noise) -> tuple[object, ...]:
    """What follows the pointers: the rows of x, and their draws."""
    (at, threshold, where, mirror), scale, *_ = how
    return (
        x.shape[-1], tuple(x.shape[:-1]), where.strides[:-1], FLOATING[x.dtype], kind != x.dtype,
        scale, at.seed, at.site, at.step, at.call, threshold, mirror, where.offset,
        threads_for(x.numel()),
    )  # fmt: skip


def add(x: Tensor, bias: Tensor | None, residual: Tensor, how: Noise) -> Tensor:
    """residual + noise(x + bias), of residual's type. bias: of x's type, one number a column."""
    if not _compiled(x, how):
        return residual + make(x if bias is None else x + bias, how)
    flat = _flat(x)
    assert flat is not None
    z = torch.empty(x.shape, dtype=residual.dtype)
    held = flat, _flat(bias), _flat(residual)  # until the kernel is done
    pointers = _pointers(*held, z, None, None, None, None, None)
    _native.rows_forward(pointers, False, 0.0, *_rest(flat, z.dtype, how))  # type: ignore[arg-type]
    return z


def forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    shift: Tensor | None,
    how: Noise,
    norm: Norm,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(norm(z) weight + shift, z, mean, 1 / deviation) of z = residual + noise(x).

    residual is of z's type, weight and shift are numbers of the arithmetic. The last two are what
    `backward` takes, one number a row.
    """
    kind = arithmetic(norm.kind)
    if not _compiled(x, how):
        z = make(x, how).to(norm.kind)
        z = z if residual is None else residual + z
        nothing = x.new_empty(0, dtype=kind)
        return normed(z, weight, shift, norm, x.dtype), z, nothing, nothing
    flat = _flat(x)
    assert flat is not None
    z, out = torch.empty(x.shape, dtype=norm.kind), torch.empty(x.shape, dtype=x.dtype)
    mean, rstd = (torch.empty(x.shape[:-1], dtype=kind) for _ in range(2))
    held = flat, _flat(residual), _flat(weight), _flat(shift)
    pointers = _pointers(flat, None, held[1], z, held[2], held[3], out, mean, rstd)
    rest = _rest(flat, norm.kind, how)
    _native.rows_forward(pointers, norm.rms, norm.eps, *rest)  # type: ignore[arg-type]
    return out, z, mean, rstd


def backward(
    grad: Tensor | None,
    more: Tensor | None,
    z: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    how: Noise,
    norm: Norm,
    kind: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x (of type `kind`), residual, weight and shift, from those of the norm and,
    as `more`, of z."""
    if grad is None:
        grad = torch.zeros(z.shape, dtype=kind, device=z.device)
    if not _compiled(z, how) or mean.shape != z.shape[:-1]:
        return gradients(grad, more, z, weight, how, norm, kind)
    n, wide = z.shape[-1], arithmetic(norm.kind)
    parts = max(1, min(PARTS, z.numel() // OF_A_PART, z.numel() // max(1, n)))
    dz, dx = torch.empty(z.shape, dtype=norm.kind), torch.empty(z.shape, dtype=kind)
    dweight, dshift = torch.zeros(2, parts, n, dtype=wide)
    held = _flat(grad), _flat(z), _flat(more), _flat(weight), mean, rstd
    pointers = _pointers(*held, dz, dx, dweight, dshift)
    rest = _rest(dx, norm.kind, how)
    _native.rows_backward(pointers, norm.rms, parts, *rest)  # type: ignore[arg-type]
    return dx, dz, dweight.sum(0), dshift.sum(0)


# ------------------------------------------------------------------------- by PyTorch's operations


def normed(
    z: Tensor, weight: Tensor | None, shift: Tensor | None, norm: Norm, kind: torch.dtype
) -> Tensor:
    """The norm of z's last axis, computed in `arithmetic` and rounded to `kind`."""
    wide = z.to(arithmetic(z.dtype))
    if not norm.rms:
        return functional.layer_norm(wide, wide.shape[-1:], weight, shift, norm.eps).to(kind)
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps)
    y = y if weight is None else y * weight
    return (y if shift is None else y + shift).to(kind)


def gradients(
    grad: Tensor,
    more: Tensor | None,
    z: Tensor,
    weight: Tensor | None,
    how: Noise,
    norm: Norm,
    kind: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `backward`, in operations that PyTorch differentiates and transforms itself."""
    wide = z.to(arithmetic(norm.kind))
    centred = wide if norm.rms else wide - wide.mean(-1, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(-1, keepdim=True) + norm.eps)
    h, g = centred * rstd, grad.to(wide.dtype)
    v = g if weight is None else g * weight
    dz = v - h * (h * v).mean(-1, keepdim=True)
    dz = rstd * (dz if norm.rms else dz - v.mean(-1, keepdim=True))
    dz = (dz if more is None else dz + more).to(norm.kind)
    rows = tuple(range(z.dim() - 1))
    products = g * h
    sums = [x.sum(rows) if rows else x for x in (products, g)]
    return _again(dz.to(kind), how), dz, sums[0], sums[1]
