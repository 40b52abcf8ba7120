"""The fused kernels on the memory of plain tensors: values, without a thought for derivatives."""

from __future__ import annotations

from typing import NamedTuple, overload

import torch
from torch import Tensor
from torch.nn import functional

from thinned.backends.torch import devices
from thinned.backends.torch.eager import _again
from thinned.backends.torch.kernel import FLOATING, Noise, _pointer, _readable, make
from thinned.backends.torch.threads import threads_for
from thinned.kernel import _native

__all__ = ["Norm", "add", "arithmetic", "backward", "forward", "gradients", "normed", "suits"]

# Elements of a row that a program of a device norms; longer ones go through PyTorch's operations.
WIDEST_ON_DEVICES = 2**14

# Sums over rows are made in at most this many parts, of at least this many elements each: the same
# parts whichever threads take them.
PARTS, OF_A_PART = 64, 2**15


# Of the ways of devices.py, those that fuse.
KERNELS = ("compiled", "triton")


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


def _path(x: Tensor, how: Noise, normed: bool) -> str:
    """Which kernel takes this x, whose rows must be drawn in order; or PyTorch's operations."""
    if x.numel() == 0 or not (x.shape[-1] == 1 or how.draw.place.strides[-1] == 1):
        return "operations"
    path = devices.path_of(x.device)
    if path == "triton" and normed and x.shape[-1] > WIDEST_ON_DEVICES:
        return "operations"
    return path


@overload
def _flat(x: Tensor) -> Tensor: ...
@overload
def _flat(x: None) -> None: ...
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
    path = _path(x, how, False)
    if path not in KERNELS:
        return residual + make(x if bias is None else x + bias, how)
    flat, column, beside = _flat(x), _flat(bias), _flat(residual)
    z = torch.empty(x.shape, dtype=residual.dtype, device=x.device)
    if path == "triton":
        from thinned.backends.torch.triton import summing

        summing.add(flat, column, beside, z, how)
        return z
    pointers = _pointers(flat, column, beside, z, None, None, None, None, None)
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
    kind, path = arithmetic(norm.kind), _path(x, how, True)
    if path not in KERNELS:
        z = make(x, how).to(norm.kind)
        z = z if residual is None else residual + z
        wide = z.to(kind)
        mean = wide.mean(-1) * (not norm.rms)
        centred = wide - mean.unsqueeze(-1)
        rstd = torch.rsqrt(centred.square().mean(-1) + norm.eps)
        return normed(z, weight, shift, norm, x.dtype), z, mean, rstd
    flat, beside, weight, shift = _flat(x), _flat(residual), _flat(weight), _flat(shift)
    z, out = flat.new_empty(x.shape, dtype=norm.kind), flat.new_empty(x.shape)
    mean, rstd = (flat.new_empty(x.shape[:-1], dtype=kind) for _ in range(2))
    if path == "triton":
        from thinned.backends.torch.triton import summing

        summing.norm(flat, beside, z, weight, shift, out, mean, rstd, how, norm.rms, norm.eps)
        return out, z, mean, rstd
    pointers = _pointers(flat, None, beside, z, weight, shift, out, mean, rstd)
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
    path = _path(z, how, True)
    if path not in KERNELS:
        return gradients(grad, more, z, weight, how, norm, kind)
    n, wide = z.shape[-1], arithmetic(norm.kind)
    g, flat, also = _flat(grad), _flat(z), _flat(more)
    weight = _flat(weight)
    dz, dx = flat.new_empty(z.shape), flat.new_empty(z.shape, dtype=kind)
    if path == "triton":
        from thinned.backends.torch.triton import summing

        sums = summing.gradients(g, flat, also, weight, mean, rstd, dz, dx, how, norm.rms)
        return dx, dz, *sums
    parts = max(1, min(PARTS, z.numel() // OF_A_PART, z.numel() // n))
    dweight, dshift = torch.zeros(2, parts, n, dtype=wide)
    pointers = _pointers(g, flat, also, weight, mean, rstd, dz, dx, dweight, dshift)
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
