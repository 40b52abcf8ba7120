"""norm(residual + dropout(x)) in one pass."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal, overload

import torch
from torch import Tensor

from thinned import checks
from thinned.address import Address
from thinned.backends.torch import rows, wire
from thinned.backends.torch.eager import _in_transform
from thinned.backends.torch.kernel import Noise, _in_batch
from thinned.backends.torch.library import LIBRARY, defined
from thinned.backends.torch.rows import Norm
from thinned.checks import message, real
from thinned.foreign_arguments import answering
from thinned.torch.dropin.functional import REQUIRED
from thinned.torch.dropin.noise import noisy, wire_of
from thinned.torch.fused.drawing import (
    by_formula,
    checked,
    drawn,
    in_program,
    one_number_a_column,
)
from thinned.window import Window

__all__ = ["dropout_add_norm"]

WHO = "dropout_add_norm"
KINDS = ("layer", "rms")


@overload
def dropout_add_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    p: float,
    at: Address | None = None,
    *,
    kind: str = "layer",
    bias: Tensor | None = None,
    eps: float = 1e-5,
    prenorm: Literal[False] = False,
    residual_in_fp32: bool = False,
    training: Any = REQUIRED,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor: ...
@overload
def dropout_add_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    p: float,
    at: Address | None = None,
    *,
    kind: str = "layer",
    bias: Tensor | None = None,
    eps: float = 1e-5,
    prenorm: Literal[True],
    residual_in_fp32: bool = False,
    training: Any = REQUIRED,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> tuple[Tensor, Tensor]: ...
@answering
def dropout_add_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    p: float,
    at: Address | None = None,
    *,
    kind: str = "layer",
    bias: Tensor | None = None,
    eps: float = 1e-5,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    training: Any = REQUIRED,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Drop with probability p, add to the residual stream, and norm the sum's last axis.

    z = residual + dropout(x),  y = (z - mean(z)) / sqrt(var(z) + eps) weight + bias  for "layer",
    y = z / sqrt(mean(z^2) + eps) weight + bias  for "rms".

    z is to the bit what `residual + thinned.torch.functional.dropout(x, p)` gives. On the CPU it is
    one pass over memory each way. Kept for the backward pass are z, the weight and two numbers a
    row; of the mask nothing.

    Parameters
    ----------
    x : tensor, shape (..., C), C > 0: float16, bfloat16, float32 or float64. Not modified.
    residual : tensor of x's shape, or None for z = dropout(x). It may be of a wider type than x.
    weight : tensor, shape (C,), or None for ones.
    p : float in [0, 1], or a 0-d tensor. p = 1 gives the norm of the residual.
    at : Address or None. The mask's address; its logical shape is x's.
    kind : "layer" or "rms".
    bias : tensor, shape (C,), or None: the norm's, added at the end.
    eps : float >= 0. Added to the variance, or to the mean square.
    prenorm : bool. Return (y, z): z is the residual of the next layer.
    residual_in_fp32 : bool. z is float32 where it would be of a half type.
    training : bool, required. False is the norm of residual + x, without dropout.
    generator : torch.Generator or None. Where the mask's seed is drawn if no address is given; None
        is PyTorch's default one.
    window : Window or None. Where x sits in the logical array. It splits no rows: C is whole.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    tensor y of x's shape, type and device, or (y, z). z has the type that PyTorch's sums have. The
    norm computes in float32 for half types and is rounded once; autocast changes nothing.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, if shapes or devices do not fit, if kind is another
    word, if eps is negative, or if at and generator are both given. TypeError if training is
    missing or a tensor is not floating.

    References
    ----------
    Ba, Kiros and Hinton, 2016, arXiv:1607.06450; Zhang and Sennrich, 2019, arXiv:1910.07467.

    Examples
    --------
    >>> import thinned, torch
    >>> from thinned.torch.fused import dropout_add_norm
    >>> at = thinned.Address(seed=0, site="mlp", step=3)
    >>> x, weight = torch.tensor([[3.0, 4.0]]), torch.ones(2)
    >>> y, z = dropout_add_norm(
    ...     x, torch.ones(1, 2), weight, 0.5, at, kind="rms", prenorm=True, training=True
    ... )
    >>> z
    tensor([[1., 1.]])
    """
    others = {"residual": residual, "weight": weight, "bias": bias}
    p, drops = checked(WHO, x, others, p, at, training, generator, window, mirror)
    norm = _checked_norm(
        x, residual, kind, eps, checks.flag(WHO, "residual_in_fp32", residual_in_fp32)
    )
    checks.flag(WHO, "prenorm", prenorm)
    _check_shapes(x, residual, weight, bias)
    wide = rows.arithmetic(norm.kind)
    weight, bias = (None if array is None else array.to(wide) for array in (weight, bias))
    residual = None if residual is None else residual.to(norm.kind)
    given = (residual, weight, bias)
    if not drops or by_formula(x, given, window) or not rows.suits(x.dtype, norm.kind):
        d = noisy(WHO, x, p, False, generator, at, (), window, mirror) if drops else x
        z = d.to(norm.kind) if residual is None else residual + d
        with _without_autocast(x):
            y = rows.normed(z, weight, bias, norm, x.dtype)
    elif in_program(x, *given):
        words = wire_of(WHO, tuple(x.shape), p, at, generator, window)
        y, z, *_ = NORM(x, *given, *words, norm.kind, norm.rms, norm.eps, mirror)
    else:
        how = drawn(WHO, x, p, at, generator, window, mirror)
        y, z = _Norm.apply(x, *given, how, norm)  # type: ignore[no-untyped-call]
    return (y, z) if prenorm else y


def _checked_norm(x: Tensor, residual: Tensor | None, kind: Any, eps: Any, single: bool) -> Norm:
    if kind not in KINDS:
        raise ValueError(message(WHO, "kind", "'layer' or 'rms'", repr(kind)))
    eps = real(WHO, "eps", eps, "a float >= 0")
    if not 0.0 <= eps < math.inf:
        raise ValueError(message(WHO, "eps", "a float >= 0", eps))
    z = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return Norm(kind == "rms", eps, torch.promote_types(z, torch.float32) if single else z)


def _check_shapes(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None
) -> None:
    if not x.shape[-1]:
        raise ValueError(
            message(WHO, "x", "of rows that hold something", f"shape {tuple(x.shape)}")
        )
    if residual is not None and residual.shape != x.shape:
        requirement = f"of x's shape {tuple(x.shape)}"
        raise ValueError(message(WHO, "residual", requirement, f"shape {tuple(residual.shape)}"))
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and not (array.dim() == 1 and one_number_a_column(x, array)):
            requirement = f"of shape ({x.shape[-1]},), a number for each element of a row"
            raise ValueError(message(WHO, name, requirement, f"shape {tuple(array.shape)}"))


def _without_autocast(x: Tensor) -> Any:
    known = torch.amp.is_autocast_available(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()


class _Norm(torch.autograd.Function):
    """Saves the sum, which is normed, and two numbers for each of its rows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        how: Noise,
        norm: Norm,
    ) -> tuple[Tensor, Tensor]:
        out, z, mean, rstd = rows.forward(x, residual, weight, bias, how, norm)
        ctx.save_for_backward(z, weight, mean, rstd)
        ctx.how, ctx.norm, ctx.kind = how, norm, x.dtype
        ctx.set_materialize_grads(False)
        return out, z

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, more: Tensor | None) -> tuple[Tensor | None, ...]:
        z, weight, mean, rstd = ctx.saved_tensors
        given = [x for x in (grad, more) if x is not None]
        if not given:
            return (None,) * 6
        how, norm, kind = ctx.how, ctx.norm, ctx.kind
        if torch.is_grad_enabled() or _in_transform() or any(_in_batch(x) for x in given):
            g = torch.zeros_like(z, dtype=kind) if grad is None else grad
            found = rows.gradients(g, more, z, weight, how, norm, kind)
        else:
            found = rows.backward(grad, more, z, weight, mean, rstd, how, norm, kind)
        wanted = ctx.needs_input_grad
        return *(x if want else None for x, want in zip(found, wanted, strict=False)), None, None


# ---------------------------------------------------------------------------------------- compiled


def _values(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, words: Tensor,
    rate: Tensor, kind: torch.dtype, rms: bool, eps: float, mirror: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    threshold, scale, *_ = rate.tolist()
    how = Noise(wire.read(words, threshold, x.shape, mirror), scale)
    return rows.forward(x, residual, weight, bias, how, Norm(rms, eps, kind))


def _fake(
    x: Tensor, residual: Any, weight: Any, bias: Any, words: Any, rate: Any, kind: torch.dtype,
    *_: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    row = x.new_empty(x.shape[:-1], dtype=rows.arithmetic(kind))
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=kind), row, torch.empty_like(row)


def _gradients(
    grad: Tensor, more: Tensor | None, z: Tensor, weight: Tensor | None, mean: Tensor,
    rstd: Tensor, words: Tensor, rate: Tensor, rms: bool, eps: float, mirror: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    threshold, scale, *_ = rate.tolist()
    how = Noise(wire.read(words, threshold, z.shape, mirror), scale)
    return rows.backward(
        grad, more, z, weight, mean, rstd, how, Norm(rms, eps, z.dtype), grad.dtype
    )


def _fake_gradients(grad: Tensor, more: Any, z: Tensor, *_: Any) -> tuple[Tensor, ...]:
    sums = z.new_empty(z.shape[-1:], dtype=rows.arithmetic(z.dtype))
    dx, dz = grad.new_empty(z.shape), z.new_empty(z.shape)
    return dx, dz, sums, torch.empty_like(sums)


_DRAWS = "Tensor words, Tensor rate"
_HOW = "bool rms, float eps, bool mirror"
NORM = defined(
    "dropout_add_norm(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, "
    f"{_DRAWS}, ScalarType kind, {_HOW}) -> (Tensor, Tensor, Tensor, Tensor)",
    _values,
    _fake,
)
NORM_BACKWARD = defined(
    "dropout_add_norm_backward(Tensor grad, Tensor? more, Tensor z, Tensor? weight, Tensor mean, "
    f"Tensor rstd, {_DRAWS}, {_HOW}) -> (Tensor, Tensor, Tensor, Tensor)",
    _gradients,
    _fake_gradients,
)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, residual, weight, bias, words, rate, _, *ctx.rest = inputs
    _, z, mean, rstd = output
    ctx.given = [array is not None for array in (x, residual, weight, bias)]
    ctx.kind = x.dtype
    ctx.save_for_backward(z, weight, mean, rstd, words, rate)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, more: Tensor | None, *_: Any) -> tuple[Any, ...]:
    z, *rest = ctx.saved_tensors
    if grad is None:
        grad = torch.zeros_like(z, dtype=ctx.kind)
    found = NORM_BACKWARD(grad, more, z, *rest, *ctx.rest)
    kept = [x if given else None for x, given in zip(found, ctx.given, strict=True)]
    return (*kept, *[None] * 6)


torch.library.register_autograd(f"thinned::{WHO}", _backward, setup_context=_save, lib=LIBRARY)
