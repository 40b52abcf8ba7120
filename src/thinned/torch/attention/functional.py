"""Attention with dropout on its weights, which are never there as a whole: nor is their mask.

Eager mode goes through a torch.autograd.Function over blockwise.py, compiled and exported graphs
and dispatch modes through the registered operators `thinned::attention` and
`thinned::attention_backward` over the same. Where a derivative of the derivative, forward mode or a
transform of torch.func is asked for, the plain formula is run: correct, but as large as its
weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch import wire
from thinned.backends.torch.backend import backend
from thinned.backends.torch.eager import _in_transform, _modes, _wraps
from thinned.backends.torch.internals import forward_ad
from thinned.backends.torch.kernel import Drawn, Noise, _in_batch
from thinned.backends.torch.library import LIBRARY, defined
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import recorded
from thinned.checks import message, real
from thinned.foreign_arguments import answering
from thinned.torch.attention import blockwise, flash, sharded
from thinned.torch.attention.blockwise import Plan, grouped
from thinned.torch.attention.derivatives import derived
from thinned.torch.dropin.functional import REQUIRED, _probability, _training
from thinned.torch.dropin.noise import check_mask, rate_in_program, words_in_program
from thinned.torch.dropin.seeds import seed_for
from thinned.window import Window, _window, index_strides, place

__all__ = ["attention_compiled", "scaled_dot_product_attention"]

WHO = "scaled_dot_product_attention"


@answering
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    p: float = 0.0,
    at: Address | None = None,
    *,
    training: Any = REQUIRED,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor:
    """Scaled dot-product attention whose weights are dropped with probability p.

    out = dropout(softmax(scale q k' + mask)) v, kept weights times 1 / (1 - p).

    Forward and backward go block by block: neither the weights nor their mask are ever stored, and
    the backward pass makes both again.

    Parameters
    ----------
    query : tensor, shape (..., heads, L, E): float16, bfloat16, float32 or float64. Query, key and
        value may be DTensors, cut alike along samples or heads: each process draws its part.
    key, value : tensors of the same type, shapes (..., heads, S, E) and (..., heads, S, V). Leading
        axes broadcast.
    attn_mask : bool tensor (True takes part) or floating tensor (added to the scores), of a shape
        that broadcasts to (..., heads, L, S), or None. A row without a True, or of -inf alone,
        gives zeros. A floating mask gets its gradient.
    p : float in [0, 1]. p = 1 gives zeros, p = 0 what PyTorch's own function gives.
    at : Address or None. The address of the weights' mask, whose logical shape is that of the
        weights: (..., heads, L, S), `heads` those of the query.
    training : bool, required. False is attention without dropout.
    is_causal : bool. Token i attends to tokens 0 to i. Not together with attn_mask.
    scale : float or None for 1 / sqrt(E).
    enable_gqa : bool. Each head of key and value serves a group of heads of the query.
    generator : torch.Generator or None. Where the mask's seed is drawn if no address is given; None
        is PyTorch's default one.
    window : Window or None. Where these weights sit in the logical ones: with some of the samples
        or of the heads at hand, say, its start along those axes.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    tensor, shape (..., heads, L, V), of query's type and device, and of its strides if V = E. Half
    types compute in float32 and are rounded once.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, if shapes do not fit, or if at and generator, or
    attn_mask and is_causal, are both given. TypeError if training is missing, query is not
    floating, types differ, or DTensors are cut within a sequence.

    References
    ----------
    Vaswani et al., 2017, arXiv:1706.03762; recomputation after Rabe and Staats, 2021,
    arXiv:2112.05682, and Dao et al., 2022, arXiv:2205.14135.
    """
    p, training = _probability(WHO, p), _training(WHO, training)
    is_causal = checks.flag(WHO, "is_causal", is_causal)
    enable_gqa = checks.flag(WHO, "enable_gqa", enable_gqa)
    if at is not None and generator is not None:
        raise ValueError(f"{WHO}: at and generator both say which mask. Pass one of them.")
    if at is not None and not isinstance(at, Address):
        raise TypeError(message(WHO, "at", "a thinned.Address", f"{at!r} ({type(at).__name__})"))
    check_mask(WHO, None, generator, False)
    if attn_mask is not None and is_causal:
        raise ValueError(
            f"{WHO}: attn_mask and is_causal both say who attends to whom. Pass one of them."
        )
    scale = _checked_scale(scale)
    shape = _checked_shapes(query, key, value, attn_mask, enable_gqa)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if sharded.is_wanted(query, key, value):

        def local(q: Tensor, k: Tensor, v: Tensor, at: Address, here: Window) -> Tensor:
            return scaled_dot_product_attention(
                q, k, v, attn_mask, p, at, training=True, is_causal=is_causal, scale=scale,
                enable_gqa=enable_gqa, window=here, mirror=mirror,
            )  # fmt: skip

        arrays = query, key, value
        return sharded.attend(WHO, local, arrays, attn_mask, shape, at, generator, window)
    q, k, v, attn_mask = _autocast(query, key, value, attn_mask)
    flat = flash.suits(q, k, v, attn_mask, shape)
    if enable_gqa and not (flat and k.shape[-3] == v.shape[-3]):
        k, v = (grouped(x, shape[-3]) for x in (k, v))
    own = 3 if enable_gqa else 2  # axes that are not the others'
    q, k, v = (x.expand(*shape[:-own], *x.shape[-own:]) for x in (q, k, v))
    if scale is None:
        scale = 1.0 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0
    if torch.compiler.is_compiling() or (recorded() and not _in_transform()):
        words = words_in_program(at, generator)
        rate = rate_in_program(p)
        return attention_compiled(
            q, k, v, attn_mask, words, *rate, scale, is_causal, window, mirror
        )
    where = place(WHO, shape, (), window)
    seed, named = None, at
    if at is None:
        drawn = seed_for(q, generator)
        if isinstance(drawn, Tensor):
            named, seed = Address(), drawn
        else:
            named = Drawn(drawn)  # type: ignore[assignment]
    draw = Draw(named, reference.threshold(p), where, mirror)  # type: ignore[arg-type]
    plan = Plan(Noise(draw, reference.scale_for(p)), scale, is_causal)
    return _attention(q, k, v, attn_mask, plan, seed)


# ------------------------------------------------------------------------------------------ checks


def _checked_scale(scale: Any) -> float | None:
    if scale is None or type(scale) is float:
        return scale
    return real(WHO, "scale", scale, "a float or None")


def _checked_shapes(q: Any, k: Any, v: Any, mask: Any, enable_gqa: bool) -> tuple[int, ...]:
    """The shape of the weights, (..., heads, L, S), if everything fits."""
    for name, x in {"query": q, "key": k, "value": v}.items():
        if not isinstance(x, Tensor):
            raise TypeError(message(WHO, name, "a torch tensor", type(x).__name__))
        if x.dim() < 2:
            raise ValueError(message(WHO, name, "of at least 2 axes", f"shape {tuple(x.shape)}"))
        if x.dtype != q.dtype:
            raise TypeError(message(WHO, name, f"of query's type {q.dtype}", str(x.dtype)))
        if x.device != q.device:
            raise ValueError(message(WHO, name, f"on query's device {q.device}", str(x.device)))
    backend.require_floating(WHO, q)
    if q.shape[-1] != k.shape[-1]:
        got = f"shape {tuple(k.shape)}"
        raise ValueError(message(WHO, "key", f"of query's last length {q.shape[-1]}", got))
    if k.shape[-2] != v.shape[-2]:
        got = f"shape {tuple(v.shape)}"
        raise ValueError(message(WHO, "value", f"of key's {k.shape[-2]} tokens", got))
    leading = [tuple(x.shape[:-2]) for x in (q, k, v)]
    if enable_gqa:
        leading = [leading[0], *(_grouped(leading[0], shape) for shape in leading[1:])]
    try:
        batch = tuple(torch.broadcast_shapes(*leading))
    except RuntimeError:
        got = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        requirement = "of leading axes that broadcast"
        raise ValueError(message(WHO, "query, key and value", requirement, got)) from None
    shape = (*batch, q.shape[-2], k.shape[-2])
    if mask is not None:
        _check_mask(mask, q, shape)
    return shape


def _grouped(query: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """The leading axes of key or value once each of its heads stands once for each of its group."""
    if not query or not other or other[-1] == 0 or query[-1] % other[-1]:
        requirement = "of a number of heads that divides query's"
        raise ValueError(message(WHO, "key and value", requirement, f"{other} for {query}"))
    return (*other[:-1], query[-1])


def _check_mask(mask: Any, q: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(message(WHO, "attn_mask", "a torch tensor", type(mask).__name__))
    if mask.dtype not in (torch.bool, torch.float32, q.dtype):
        requirement = f"of type torch.bool, torch.float32 or {q.dtype}"
        raise TypeError(message(WHO, "attn_mask", requirement, str(mask.dtype)))
    if mask.device != q.device:
        raise ValueError(message(WHO, "attn_mask", f"on query's device {q.device}", mask.device))
    fits = mask.dim() <= len(shape) and all(
        n in (1, whole)
        for n, whole in zip(mask.shape, shape[len(shape) - mask.dim() :], strict=True)
    )
    if not fits:
        requirement = f"of a shape that broadcasts to {shape}"
        raise ValueError(message(WHO, "attn_mask", requirement, f"shape {tuple(mask.shape)}"))


def _autocast(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What torch.autocast would hand to F.scaled_dot_product_attention."""
    kind = q.device.type
    if q.dtype == torch.float64 or kind == "meta" or not torch.is_autocast_enabled(kind):
        return q, k, v, mask
    dtype = torch.get_autocast_dtype(kind)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(dtype)
    return q.to(dtype), k.to(dtype), v.to(dtype), mask


# ------------------------------------------------------------------------------------------- eager


class _Attention(torch.autograd.Function):
    """Saves query, key, value and the user's mask, which are there anyway, and nothing else."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        ctx.plan = plan
        return blockwise.forward(q, k, v, mask, plan)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        # A batch of gradients is nothing that blocks could be written into.
        if torch.is_grad_enabled() or _in_transform() or _in_batch(grad):
            wanted = ctx.needs_input_grad[:4]
            return *derived((q, k, v, mask), wanted, grad, ctx.plan), None
        mask_gradient = ctx.needs_input_grad[3]
        return *blockwise.backward(grad, q, k, v, mask, ctx.plan, mask_gradient), None


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan, seed: Tensor | None
) -> Tensor:
    arrays = [x for x in (q, k, v, mask) if x is not None]
    if _in_transform() or forward_ad._current_level >= 0:
        with torch.autocast(q.device.type, enabled=False):
            return blockwise.plain(q, k, v, mask, plan, seed)
    if _modes() or any(_wraps(x) for x in arrays):
        return _registered(q, k, v, mask, plan)
    if flash.suits(q, k, v, mask, plan.how.draw.place.shape):
        return flash.attend(q, k, v, mask, plan)
    if torch.is_grad_enabled() and any(x.requires_grad for x in arrays):
        out: Tensor = _Attention.apply(q, k, v, mask, plan)  # type: ignore[no-untyped-call]
        return out
    return blockwise.forward(q, k, v, mask, plan)


# ---------------------------------------------------------------------------------------- compiled


def _plan(
    q: Tensor, k: Tensor, words: Tensor, rate: Tensor, scale: float, is_causal: bool, mirror: bool
) -> Plan:
    threshold, times, *_ = rate.tolist()
    draw = wire.read(words, threshold, (*q.shape[:-1], k.shape[-2]), mirror)
    return Plan(Noise(draw, times), scale, is_causal)


def _values(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    words: Tensor,
    rate: Tensor,
    scale: float,
    is_causal: bool,
    mirror: bool,
) -> Tensor:
    plan = _plan(q, k, words, rate, scale, is_causal, mirror)
    return blockwise.forward(q, k, v, mask, plan)


def _fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    return blockwise.output_like(q, v, q.dtype)


def _gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    mask_gradient: bool,
    words: Tensor,
    rate: Tensor,
    scale: float,
    is_causal: bool,
    mirror: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    plan = _plan(q, k, words, rate, scale, is_causal, mirror)
    dq, dk, dv, dmask = blockwise.backward(grad, q, k, v, mask, plan, mask_gradient)
    return dq, dk, dv, q.new_empty(0) if dmask is None else dmask


def _fake_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Any, mask_gradient: bool, *_: Any
) -> tuple[Tensor, ...]:
    dmask = torch.empty_like(mask) if mask_gradient else q.new_empty(0)
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), dmask


_WEIGHTS = "Tensor words, Tensor rate, float scale, bool is_causal, bool mirror"
ATTENTION = defined(
    f"attention(Tensor q, Tensor k, Tensor v, Tensor? mask, {_WEIGHTS}) -> Tensor", _values, _fake
)
_ATTENTION_BACKWARD = defined(
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? mask, "
    f"bool mask_gradient, {_WEIGHTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _gradients,
    _fake_gradients,
)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, mask, words, rate, *ctx.rest = inputs
    ctx.save_for_backward(q, k, v, mask, words, rate)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    q, k, v, mask, *draw = ctx.saved_tensors
    wanted = ctx.needs_input_grad[3]
    dq, dk, dv, dmask = _ATTENTION_BACKWARD(grad, q, k, v, mask, wanted, *draw, *ctx.rest)
    return (dq, dk, dv, dmask if wanted else None) + (None,) * 5


torch.library.register_autograd("thinned::attention", _backward, setup_context=_save, lib=LIBRARY)


def attention_compiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    at: Coordinates,
    threshold: Any,
    times: Any,
    scale: float,
    is_causal: bool = False,
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor:
    """The registered operator; coordinates, threshold and times may be numbers or 0-d tensors.

    times is what kept weights are multiplied with. q, k and v have the same leading axes.
    """
    require_reverse_mode()
    start, whole = _window(WHO, (*q.shape[:-1], k.shape[-2]), (), window)
    strides = index_strides(whole, ())
    offset = sum([s * n for s, n in zip(start, strides, strict=True)])
    words, rate = wire.pack_place(at, offset, strides), wire.pack_rate(threshold, times)
    return attention_operator(q, k, v, attn_mask, words, rate, scale, is_causal, mirror)


def attention_operator(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *how: Any) -> Tensor:
    """The registered operator for these: of the flash kernels, where they suit, or of blocks."""
    out: Tensor
    if flash.suits(q, k, v, mask, (*q.shape[:-1], k.shape[-2])):
        out, _ = flash.FLASH(q, k, v, mask, *how)
    else:
        out = ATTENTION(q, k, v, mask, *how)
    return out


def require_reverse_mode() -> None:
    """NotImplementedError in forward mode, in which a registered operator would give zeros."""
    if forward_ad._current_level >= 0:
        raise NotImplementedError(
            f"{WHO}: forward-mode differentiation does not go through a compiled program. "
            "Call torch.func.jvp outside of torch.compile."
        )


def _registered(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan) -> Tensor:
    """The registered operator for a plan that is known, for modes and wrapper tensors to see."""
    ((at, threshold, where, mirror), times, *_), scale, is_causal = plan
    words = wire.pack_place(at, where.offset, where.strides)
    rate = wire.pack_rate(threshold, times)
    return attention_operator(q, k, v, mask, words, rate, scale, is_causal, mirror)
