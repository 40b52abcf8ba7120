"""Attention with dropout on a device that has Triton: flash kernels that load the mask's bits.

Kept for the backward pass are query, key, value, the user's mask, the output and a number for each
row. The bits are drawn again. In eager code it is a torch.autograd.Function, in programs the
operators `thinned::flash` and `thinned::flash_backward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch import devices, wire
from thinned.backends.torch.eager import _in_transform
from thinned.backends.torch.internals import forward_ad
from thinned.backends.torch.kernel import Noise, _in_batch, placed
from thinned.backends.torch.library import LIBRARY, defined
from thinned.torch.attention.blockwise import EVERYTHING, Plan, _four, output_like
from thinned.torch.attention.derivatives import derived

__all__ = ["FLASH", "attend", "suits"]

# Of binary32 no tile of use fits into the registers.
KINDS = (torch.float16, torch.bfloat16)

# Elements from row to row, of which a tile has at most 128.
MOST_STEP = 2**24

# Elements of a head: of wider ones a program's registers do not hold a tile.
WIDEST = 256


def suits(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, shape: tuple[int, ...]) -> bool:
    """Whether the kernels take these, with weights of `shape`.

    The blocks of blockwise.py, on any device, do the rest: float32 and float64, wide heads, the
    gradient of a mask; and the plain formula the transforms.
    """
    return (
        devices.holds_tiles(q.device)
        and q.dtype in KINDS
        and len(shape) <= 4
        and all(shape)
        and 0 < q.shape[-1] <= WIDEST
        and 0 < v.shape[-1] <= WIDEST
        and (mask is None or not mask.requires_grad)
        and not _in_transform()
        and forward_ad._current_level < 0
    )


def _even(x: Tensor) -> Tensor:
    """With four axes, of which the last steps by 1; in C order where a tile of rows would reach
    over 2^31 elements, more than the kernels' offsets hold."""
    x = _four(x)
    return x if x.stride(-1) == 1 and x.stride(-2) < MOST_STEP else x.contiguous()


def _whole(plan: Plan) -> Any:
    """The draw, of weights of four axes."""
    draw = plan.how.draw
    place, more = draw.place, max(0, 4 - len(draw.place.shape))
    shape, strides = (1,) * more + place.shape, (0,) * more + place.strides
    return draw._replace(place=placed(shape, place.offset, strides))


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan
) -> tuple[Tensor, Tensor]:
    from thinned.backends.torch.triton import attending

    q = q if q.stride(-1) == 1 else q.contiguous()
    out = output_like(q, v, q.dtype)
    if plan.how.draw.threshold == EVERYTHING:
        return out.zero_(), q.new_zeros(_four(q).shape[:-1], dtype=torch.float32)
    lse = attending.attend(
        _even(q), _even(k), _even(v), mask, _four(out),
        _whole(plan), plan.how.scale, plan.scale, plan.is_causal,
    )  # fmt: skip
    return out, lse


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor,
    plan: Plan,
) -> list[Tensor]:  # fmt: skip
    from thinned.backends.torch.triton import attending

    if plan.how.draw.threshold == EVERYTHING:
        return [torch.zeros_like(x) for x in (q, k, v)]
    grads = attending.gradients(
        _even(grad.to(q.dtype)), _even(q), _even(k), _even(v), _even(out), lse, mask,
        _whole(plan), plan.how.scale, plan.scale, plan.is_causal,
    )  # fmt: skip
    return [x.view(like.shape) for x, like in zip(grads, (q, k, v), strict=True)]


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan
    ) -> Tensor:
        out, lse = _forward(q, k, v, mask, plan)
        ctx.save_for_backward(q, k, v, mask, out, lse)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, lse = ctx.saved_tensors
        if torch.is_grad_enabled() or _in_transform() or _in_batch(grad):
            wanted = ctx.needs_input_grad[:4]
            return *derived((q, k, v, mask), wanted, grad, ctx.plan), None
        return *_backward(grad, q, k, v, mask, out, lse, ctx.plan), None, None


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan) -> Tensor:
    """In eager code; `k` and `v` may have fewer heads than q."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        out: Tensor = _Flash.apply(q, k, v, mask, plan)  # type: ignore[no-untyped-call]
        return out
    return _forward(q, k, v, mask, plan)[0]


# ------------------------------------------------------------------------------------- in programs


def _plan(
    q: Tensor, k: Tensor, words: Tensor, rate: Tensor, scale: float, is_causal: bool, mirror: bool
) -> Plan:
    threshold, times, *_ = rate.tolist()
    draw = wire.read(words, threshold, (*q.shape[:-1], k.shape[-2]), mirror)
    return Plan(Noise(draw, times), scale, is_causal)


def _values(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *how: Any
) -> tuple[Tensor, Tensor]:
    return _forward(q, k, v, mask, _plan(q, k, *how))


def _fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    q = q if q.stride(-1) == 1 else q.contiguous()
    lead = (1,) * (4 - q.dim()) + tuple(q.shape[:-1])
    return output_like(q, v, q.dtype), q.new_empty(lead, dtype=torch.float32)


def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor,
    *how: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    grads = _backward(grad, q, k, v, mask, out, lse, _plan(q, k, *how))
    return tuple(x.contiguous() for x in grads)


def _fake_gradients(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


_HOW = "Tensor words, Tensor rate, float scale, bool is_causal, bool mirror"
FLASH = defined(
    f"flash(Tensor q, Tensor k, Tensor v, Tensor? mask, {_HOW}) -> (Tensor, Tensor)", _values, _fake
)
FLASH_BACKWARD = defined(
    "flash_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor out, "
    f"Tensor lse, {_HOW}) -> (Tensor, Tensor, Tensor)",
    _gradients,
    _fake_gradients,
)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, mask, words, rate, *ctx.rest = inputs
    ctx.save_for_backward(q, k, v, mask, *output, words, rate)
    ctx.mark_non_differentiable(output[1])


def _derived(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    return (*FLASH_BACKWARD(grad, *ctx.saved_tensors, *ctx.rest), *[None] * 6)


torch.library.register_autograd("thinned::flash", _derived, setup_context=_save, lib=LIBRARY)
