"""residual + dropout(x + bias) in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.address import Address
from thinned.backends.torch import rows, wire
from thinned.backends.torch.eager import _again
from thinned.backends.torch.kernel import Noise
from thinned.backends.torch.library import LIBRARY, defined
from thinned.backends.torch.operators import BERNOULLI, NOISED
from thinned.checks import message
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

__all__ = ["bias_dropout_add"]

WHO = "bias_dropout_add"


@answering
def bias_dropout_add(
    x: Tensor,
    bias: Tensor | None,
    residual: Tensor,
    p: float,
    at: Address | None = None,
    *,
    training: Any = REQUIRED,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor:
    """Add to the residual stream what a layer leaves, with its bias, dropped with probability p.

    y = residual + dropout(x + bias),  kept elements times 1 / (1 - p).

    To the bit what `residual + thinned.torch.functional.dropout(x + bias, p)` gives, gradients
    included: each step is rounded to its type. On the CPU it is one pass over memory, and neither
    x + bias nor a mask is kept for the backward pass, which draws again.

    Parameters
    ----------
    x : tensor, shape (..., C): float16, bfloat16, float32 or float64. Not modified.
    bias : tensor of a shape that broadcasts to x's, most often (C,), or None.
    residual : tensor of x's shape. It may be of a wider type than x.
    p : float in [0, 1], or a 0-d tensor. p = 1 gives the residual.
    at : Address or None. The mask's address; its logical shape is x's.
    training : bool, required. False is residual + x + bias, without dropout.
    generator : torch.Generator or None. Where the mask's seed is drawn if no address is given; None
        is PyTorch's default one.
    window : Window or None. Where x sits in the logical array.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    tensor of x's shape and device, in C order where the kernel makes it, of the type that PyTorch's
    sums have.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, if shapes or devices do not fit, or if at and
    generator are both given. TypeError if training is missing or a tensor is not floating.

    References
    ----------
    Shoeybi et al., 2019, arXiv:1909.08053.

    Examples
    --------
    >>> import thinned, torch
    >>> from thinned.torch.fused import bias_dropout_add
    >>> at = thinned.Address(seed=0, site="attention", step=3)
    >>> x, bias = torch.ones(2, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> bias_dropout_add(x, bias, torch.zeros(2, 4), 0.5, at, training=True)
    tensor([[ 0.,  0.,  8., 10.],
            [ 0.,  6.,  8.,  0.]])
    """
    others = {"bias": bias, "residual": residual}
    if residual is None:
        raise TypeError(message(WHO, "residual", "a torch tensor", "None"))
    p, drops = checked(WHO, x, others, p, at, training, generator, window, mirror)
    _check_shapes(x, bias, residual)
    kind = x.dtype if bias is None else torch.promote_types(x.dtype, bias.dtype)
    total = torch.promote_types(kind, residual.dtype)
    if not drops:
        return residual + (x if bias is None else x + bias)
    if by_formula(x, (bias, residual), window) or not rows.suits(kind, total):
        h = x if bias is None else x + bias
        return residual + noisy(WHO, h, p, False, generator, at, (), window, mirror)
    if bias is not None and not one_number_a_column(x, bias):
        x, bias = x + bias, None
    x, residual = x.to(kind), residual.to(total)
    bias = None if bias is None else bias.to(kind)
    y: Tensor
    if in_program(x, bias, residual):
        words = wire_of(WHO, tuple(x.shape), p, at, generator, window)
        y = ADD(x, bias, residual, *words, mirror)
        return y
    how = drawn(WHO, x, p, at, generator, window, mirror)
    y = _Add.apply(x, bias, residual, how)  # type: ignore[no-untyped-call]
    return y


def _check_shapes(x: Tensor, bias: Tensor | None, residual: Tensor) -> None:
    if residual.shape != x.shape:
        requirement = f"of x's shape {tuple(x.shape)}"
        raise ValueError(message(WHO, "residual", requirement, f"shape {tuple(residual.shape)}"))
    if bias is None:
        return
    fits = bias.dim() <= x.dim() and all(
        n in (1, whole)
        for n, whole in zip(bias.shape, x.shape[x.dim() - bias.dim() :], strict=True)
    )
    if not fits:
        requirement = f"of a shape that broadcasts to {tuple(x.shape)}"
        raise ValueError(message(WHO, "bias", requirement, f"shape {tuple(bias.shape)}"))


class _Add(torch.autograd.Function):
    """Saves no tensor: the sum is linear in all three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor, how: Noise) -> Tensor:
        ctx.how, ctx.kind = how, x.dtype
        ctx.bias = None if bias is None else bias.shape
        ctx.set_materialize_grads(False)
        return rows.add(x, bias, residual, how)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        x, bias, *_ = ctx.needs_input_grad
        dx = _again(grad.to(ctx.kind), ctx.how) if x or bias else None
        dbias = dx.sum_to_size(ctx.bias) if bias and dx is not None else None
        return dx, dbias, grad, None


# ---------------------------------------------------------------------------------------- compiled


def _values(
    x: Tensor, bias: Tensor | None, residual: Tensor, words: Tensor, rate: Tensor, mirror: bool
) -> Tensor:
    threshold, scale, *_ = rate.tolist()
    return rows.add(x, bias, residual, Noise(wire.read(words, threshold, x.shape, mirror), scale))


def _fake(x: Tensor, bias: Tensor | None, residual: Tensor, *_: Any) -> Tensor:
    return residual.new_empty(x.shape)


ADD = defined(
    "bias_dropout_add(Tensor x, Tensor? bias, Tensor residual, Tensor words, Tensor rate, "
    "bool mirror) -> Tensor",
    _values,
    _fake,
)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, bias, _, words, rate, ctx.mirror = inputs
    ctx.kind, ctx.bias = x.dtype, None if bias is None else bias.shape
    ctx.save_for_backward(words, rate)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dx = NOISED(grad.to(ctx.kind), *ctx.saved_tensors, 0.0, ctx.mirror, BERNOULLI)
    dbias = None if ctx.bias is None else dx.sum_to_size(ctx.bias)
    return dx, dbias, grad, None, None, None


torch.library.register_autograd(f"thinned::{WHO}", _backward, setup_context=_save, lib=LIBRARY)
