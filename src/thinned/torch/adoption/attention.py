"""Attention whose weights are dropped at a site: for the calls that an adopted model makes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from thinned.torch.adoption.site import Site
from thinned.torch.attention.functional import (
    _autocast,
    _checked_shapes,
    attention_operator,
    require_reverse_mode,
    scaled_dot_product_attention,
)
from thinned.torch.compat.dtensor import is_sharded, product

__all__ = ["attend", "multi_head"]


def attend(
    site: Site,
    p: float | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot-product attention, its weights (..., L, S) dropped; p None: the site's own p."""
    # Rows lie along the leading axis, if there is one.
    return _attend(
        site, p, query, key, value, attn_mask, is_causal, scale, enable_gqa,
        0 if query.dim() > 2 else -1,
    )  # fmt: skip


def _attend(
    site: Site,
    p: float | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    axis: int,
) -> Tensor:
    shape = _checked_shapes(query, key, value, attn_mask, enable_gqa)
    if any(map(is_sharded, (query, key, value))):
        query, key, value = _alike(query, key, value, shape, enable_gqa)
        weights = softmax_of(query, key, attn_mask, is_causal, scale)
        return product(site.draw(weights, p=p, axis=axis), value)
    if torch.compiler.is_compiling():
        require_reverse_mode()
        query, key, value, attn_mask = _autocast(query, key, value, attn_mask)
        query, key, value = _alike(query, key, value, shape, enable_gqa)
        words, rate = site.wired(shape, (), axis, p)
        how = (words, rate, _scale(query, scale), is_causal, False)
        return attention_operator(query, key, value, attn_mask, *how)
    awake = site.clock.awake
    if awake is not None and awake.over_tokens:
        if awake.sleeps(site, shape, p):
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        query, key, value = _alike(query, key, value, shape, enable_gqa)
        weights = softmax_of(query, key, attn_mask, is_causal, scale)
        return product(site.draw(weights, p=p, axis=axis), value)
    several = 1 if awake is None else awake.entries_of(site, shape, axis)
    if awake is not None and several > 1:
        query, key, value = _alike(query, key, value, shape, enable_gqa)
        query, key, value, attn_mask = _by_rows(several, query, key, value, attn_mask)
        enable_gqa = False
        at, window = awake.place_by_rows(site, (shape[0] // several, several, *shape[1:]))
    else:
        at, window = site.place(shape, axis, None, query)
    p = site.p_at(at.step) if p is None else p
    assert p is not None
    y = scaled_dot_product_attention(
        query, key, value, attn_mask, p, at,
        training=True, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa, window=window,
        mirror=at.mirrored,
    )  # fmt: skip
    return y if several < 2 else y.flatten(0, 1)


def _by_rows(
    several: int, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """A leading axis that holds several entries of each row, as windows of an image, as two: rows
    and their entries, so that rows of a member can share their draws."""
    if attn_mask is not None and attn_mask.dim() == query.dim():
        whole = len(attn_mask) == len(query)
        attn_mask = attn_mask.unflatten(0, (-1, several)) if whole else attn_mask[None]
    query, key, value = (x.unflatten(0, (-1, several)) for x in (query, key, value))
    return query, key, value, attn_mask


def _alike(
    query: Tensor, key: Tensor, value: Tensor, shape: tuple[int, ...], enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The three with the leading axes of the weights, of `shape`."""
    if enable_gqa:
        key = key.repeat_interleave(shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(shape[-3] // value.shape[-3], -3)
    query, key, value = (x.expand(*shape[:-2], *x.shape[-2:]) for x in (query, key, value))
    return query, key, value


def _scale(query: Tensor, scale: float | None) -> float:
    if scale is not None:
        return float(scale)
    return 1.0 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0


def softmax_of(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    """softmax(scale q k' + mask), in query's type: for weights that are shown, or sharded.

    A row that has nothing to attend to gives zeros, as blockwise.py has it.
    """
    scores = product(query * _scale(query, scale), key.transpose(-2, -1))
    if is_causal:
        n, m = query.shape[-2], key.shape[-2]
        attn_mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    else:
        return torch.softmax(scores, -1)
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)


def multi_head(
    site: Site,
    p: float | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    *,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """torch.nn.functional.multi_head_attention_forward in training, with the site's draws.

    The draws are those of weights of shape (N, heads, L, S), whether weights are asked for or not.
    """
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "multi_head_attention_forward: attn_mask must be given where is_causal is True, got "
            "None. nn.Transformer.generate_square_subsequent_mask makes one."
        )
    # What PyTorch does: the hint takes the mask's place, bias_k and the zero key included.
    is_causal = is_causal and key_padding_mask is None and not need_weights
    attn_mask = None if is_causal else attn_mask
    batched = query.dim() == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    n, rows, width = query.shape
    if width != embed_dim_to_check:
        raise ValueError(f"multi-head attention: width {embed_dim_to_check} expected, got {width}.")
    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        assert in_proj_weight is not None
        weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        functional.linear(x, w, b)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    attn_mask, padding = _added(attn_mask, q), _added(key_padding_mask, q)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.view(rows, num_heads, n, attn_mask.shape[-1])
    if padding is not None:
        padding = padding.view(rows, 1, 1, padding.shape[-1])
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.repeat(1, rows, 1)])
        v = torch.cat([v, bias_v.repeat(1, rows, 1)])
        attn_mask, padding = _longer(attn_mask), _longer(padding)

    def split(x: Tensor, static: Tensor | None) -> Tensor:
        if static is not None:
            return static.view(rows, num_heads, *static.shape[1:])
        # All lengths are given: an empty batch does not determine one.
        return x.view(x.shape[0], rows, num_heads, x.shape[2] // num_heads).permute(1, 2, 0, 3)

    q, k, v = split(q, None), split(k, static_k), split(v, static_v)
    if add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(*x.shape[:2], 1, x.shape[3])], 2) for x in (k, v))
        attn_mask, padding = _longer(attn_mask), _longer(padding)
    if padding is not None:
        attn_mask = padding if attn_mask is None else attn_mask + padding
    axis = 0 if batched else -1
    shown = None
    if need_weights:
        shown = site.draw(softmax_of(q, k, attn_mask, False, None), p=p, axis=axis)
        out = shown @ v
    else:
        out = _attend(site, p, q, k, v, attn_mask, is_causal, None, False, axis)
    out = out.permute(2, 0, 1, 3).reshape(n, rows, num_heads * out.shape[3])
    out = functional.linear(out, out_proj_weight, out_proj_bias)
    if shown is not None and average_attn_weights:
        shown = shown.mean(1)
    if not batched:
        out, shown = out.squeeze(1), None if shown is None else shown.squeeze(0)
    return out, shown


def _added(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask as numbers to add: -inf where a boolean one says True, who is left out."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(
        mask, -math.inf
    )


def _longer(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else functional.pad(mask, (0, 1))
