"""Attention whose weights are dropped at a site: for the calls that an adopted model makes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from thinned.torch.addressed import Site
from thinned.torch.attention import scaled_dot_product_attention
from thinned.torch.sharded import is_sharded

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
    # Rows lie in front where there is a leading axis at all.
    axis = 0 if query.dim() > 2 else -1
    if not torch.compiler.is_compiling() and not any(map(is_sharded, (query, key, value))):
        heads = query.shape[-3:-2] if enable_gqa else key.shape[-3:-2]
        broadcast: Any = torch.broadcast_shapes
        lead = broadcast(query.shape[:-2], (*key.shape[:-3], *heads))
        shape = (*lead, query.shape[-2], key.shape[-2])
        at, window = site.place(shape, axis)
        p = site.p_at(at.step) if p is None else p
        assert p is not None
        return scaled_dot_product_attention(
            query, key, value, attn_mask, p, at,
            training=True, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa, window=window,
            mirror=at.mirrored,
        )  # fmt: skip
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    weights = _weights(query, key, attn_mask, is_causal, scale)
    return site.draw(weights, p=p, axis=axis) @ value


def _weights(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    """softmax(scale q k' + mask), in query's type."""
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        n, m = query.shape[-2], key.shape[-2]
        attn_mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1)


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
        attn_mask = attn_mask.view(rows, num_heads, n, -1)
    if padding is not None:
        padding = padding.view(rows, 1, 1, -1)
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.repeat(1, rows, 1)])
        v = torch.cat([v, bias_v.repeat(1, rows, 1)])
        attn_mask, padding = _longer(attn_mask), _longer(padding)

    def split(x: Tensor, static: Tensor | None) -> Tensor:
        if static is not None:
            return static.view(rows, num_heads, *static.shape[1:])
        return x.view(x.shape[0], rows, num_heads, -1).permute(1, 2, 0, 3)

    q, k, v = split(q, None), split(k, static_k), split(v, static_v)
    if add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(*x.shape[:2], 1, x.shape[3])], 2) for x in (k, v))
        attn_mask, padding = _longer(attn_mask), _longer(padding)
    if padding is not None:
        attn_mask = padding if attn_mask is None else attn_mask + padding
    axis = 0 if batched else -1
    shown = None
    if need_weights:
        shown = site.draw(_weights(q, k, attn_mask, False, None), p=p, axis=axis)
        out = shown @ v
    elif axis < 0:
        out = site.draw(_weights(q, k, attn_mask, False, None), p=p, axis=axis) @ v
    else:
        out = attend(site, p, q, k, v, attn_mask)
    out = out.permute(2, 0, 1, 3).reshape(n, rows, -1)
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
