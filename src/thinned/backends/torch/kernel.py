"""Noise on the memory of plain tensors: values, without a thought for derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thinned import kernel
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch import devices, spec
from thinned.backends.torch.internals import in_legacy_batch
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.threads import threads_for
from thinned.kernel import _native
from thinned.window import Placement, index_strides

__all__ = [
    "FLOATING",
    "Drawn",
    "Noise",
    "affine",
    "coordinates_of",
    "make",
    "placed",
    "run",
]

Law, Op = _native.Law, _native.Op

FLOATING = {
    torch.float16: _native.Type.float16,
    torch.bfloat16: _native.Type.bfloat16,
    torch.float32: _native.Type.float32,
    torch.float64: _native.Type.float64,
}


class Noise(NamedTuple):
    """What is done to an array: kept elements fill + scale (x - fill), dropped ones fill.

    With `gaussian`, x (1 + scale z) instead, z the normal draws.
    """

    draw: Draw
    scale: float
    fill: float = 0.0
    gaussian: bool = False


class Drawn(NamedTuple):
    """The address of a seed that a generator gave. An Address, with its checks, takes ten times as
    long to make: a twentieth of a whole forward and backward pass of 1,024 elements."""

    seed: int
    site: int = 0
    step: int = 0
    call: int = 0


def coordinates_of(at: Address) -> Coordinates:
    """An address in 32-bit words."""
    return Coordinates(at.seed & 0xFFFFFFFF, at.seed >> 32, at.site, at.step, at.call)


def placed(shape: tuple[int, ...], offset: int, strides: Sequence[int]) -> Placement:
    """The placement whose element (i, j, ...) has index offset + i strides[0] + ..."""
    strides = tuple(strides)
    in_order = strides == index_strides(shape, ())
    return Placement(shape, offset, strides, in_order, None if in_order else strides)


# A batch of gradients (is_grads_batched=True) has no readable memory, but supports where and mul.
_in_batch = in_legacy_batch


def _bytes(strides: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple([size * s for s in strides])


def _pointer(x: Tensor) -> int:
    where = x.data_ptr()
    if not where and x.numel():
        raise RuntimeError(f"thinned: {type(x).__name__} has no memory that could be read.")
    return where


def run(
    x: Tensor | None,
    y: Tensor,
    draw: Draw,
    scale: float = 1.0,
    fill: float = 0.0,
    law: _native.Law = Law.bernoulli,
    array: Tensor | None = None,
) -> None:
    """The compiled kernel on the memory of CPU tensors; `array` holds fill values of y's shape."""
    at, threshold, where, mirror = draw
    size = y.element_size()
    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    f: tuple[int, tuple[int, ...]] = 0, ()
    steps = where.steps
    if steps is None and array is None and y.is_contiguous() and (x is None or x.is_contiguous()):
        shape = (y.numel(),)
        x_strides = y_strides = (size,)
    else:
        shape, y_strides = where.shape, _bytes(y.stride(), size)
        x_strides = () if x is None else _bytes(x.stride(), size)
        steps = where.strides
    op = Op.affine if fill else Op.scale
    if array is not None:
        op, f = Op.affine_array, (_pointer(array), _bytes(array.stride(), size))
    _native.apply_at(
        0 if x is None else _pointer(x), _pointer(y), f[0], shape, x_strides, y_strides, f[1],
        law, FLOATING.get(y.dtype, _native.Type.float32), op, scale, fill,
        at.seed, at.site, at.step, at.call, threshold, mirror, where.offset, steps,
        threads_for(y.numel()),
    )  # fmt: skip


def _single(x: Tensor) -> torch.dtype:
    """The type that arithmetic on x runs in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _pure(x: Tensor, how: Noise, array: Tensor | None) -> Tensor:
    """reference.apply and reference.apply_gaussian in tensor operations."""
    (at, threshold, where, mirror), scale, fill, gaussian = how
    words, kind = coordinates_of(at), _single(x)
    if gaussian:
        z = spec.gaussian(words, where, mirror, x.device).to(kind)
        return (x.to(kind) * (1.0 + _rounded(scale, kind) * z)).to(x.dtype)
    mask = spec.keep(words, threshold, where, mirror, x.device)
    if array is not None:
        return torch.where(mask, affine(x, scale, array), array)
    number = _fill(fill, kind)
    # By way of the wider type: the narrower refuses a number that it has no finite value for.
    f = torch.full_like(x, number, dtype=kind).to(x.dtype)
    return torch.where(mask, affine(x, scale, number), f)


def affine(x: Tensor, scale: float, fill: Tensor | float) -> Tensor:
    """What kept elements are, fill + scale (x - fill), of x's type."""
    kind = _single(x)
    s = _rounded(scale, kind)
    if s == 1.0:
        return x
    if not isinstance(fill, Tensor) and fill == 0.0:
        return (x.to(kind) * s).to(x.dtype)
    wide = fill.to(kind) if isinstance(fill, Tensor) else fill
    return (wide + s * (x.to(kind) - wide)).to(x.dtype)


def _rounded(scale: float, kind: torch.dtype) -> float:
    if kind == torch.float64 or math.isinf(scale):
        return scale
    return float(torch.tensor(scale, dtype=torch.float32, device="cpu"))


def _fill(number: float, kind: torch.dtype) -> float:
    """A fill that is one number, in the type of the arithmetic and with -0.0 as 0."""
    return _rounded(number, kind) + 0.0


def _readable(x: Tensor) -> Tensor:
    """x with its values in memory: the imaginary part of a conjugate holds them negated, and a
    tangent that is zero everywhere holds none."""
    if x.is_neg():
        return x.resolve_neg()
    return x.clone() if x._is_zerotensor() else x


def _on_device(x: Tensor, how: Noise, out: Tensor | None, array: Tensor | None) -> Tensor:
    """The noise by the kernels in Triton, in one launch; Gaussian noise in a few."""
    from thinned.backends.torch.triton import launch, words

    x = _readable(x)
    draw, scale, fill, gaussian = how
    live = words.step_of(draw)
    if gaussian:
        kind = _single(x)
        z = launch.draws_of(draw.place, words.told(draw), x.device, True, live).to(kind)
        y = (x.to(kind) * (1.0 + _rounded(scale, kind) * z)).to(x.dtype)
        return y if out is None else out.copy_(y)
    y = torch.empty_like(x) if out is None else out
    number = _fill(fill, _single(x)) if fill else 0.0
    array = None if array is None else _readable(array)
    unit = _rounded(scale, _single(x)) == 1.0
    told = words.told(draw, scale, number)
    launch.drop(x, y, draw.place, told, unit, array, number != 0.0, live)
    return y


def make(x: Tensor, how: Noise, out: Tensor | None = None, array: Tensor | None = None) -> Tensor:
    """The noise on x, into `out` if given (which may be x); `array` are fill values, as x's."""
    if devices.uses_triton(x.device) and not _in_batch(x):
        return _on_device(x, how, out, array)
    if x.device.type != "cpu" or kernel.uses_reference() or _in_batch(x):
        y = _pure(x, how, array)
        return y if out is None else out.copy_(y)
    if x.is_neg() or x._is_zerotensor():
        y = make(_readable(x), how, None, array)
        return y if out is None else out.copy_(y)
    draw, scale, fill, gaussian = how
    y = torch.empty_like(x) if out is None else out
    if array is not None:
        array = _readable(array)
    number = _fill(fill, _single(x)) if fill else 0.0
    run(x, y, draw, scale, number, Law.gaussian if gaussian else Law.bernoulli, array)
    return y
