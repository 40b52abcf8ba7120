"""Attention for transformers' models: attn_implementation="thinned".

Weights are dropped without being stored, by address in an adopted model. Where a model asks for
what the blockwise form lacks (soft caps, sinks), the weights are computed as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.attention.functional import scaled_dot_product_attention
from thinned.torch.compat.covers import covers_of
from thinned.torch.dropin.functional import dropout as fresh_dropout

__all__ = ["NAME", "attention", "register"]

NAME = "thinned"


def register() -> None:
    """Make attn_implementation="thinned" known to transformers, with the masks of "sdpa"."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers asks of an attention function.

    Parameters
    ----------
    module : the attention layer that calls. If it belongs to an adopted model, its site draws.
    query : tensor (N, heads, L, E). key, value : tensors (N, groups, S, E), (N, groups, S, V); each
        of the groups serves heads / groups heads.
    attention_mask : bool (True takes part) or floating (added) tensor, (N or 1, heads or 1, L, S),
        or None.
    dropout : float in [0, 1]. Probability of dropping a weight; 0 in evaluation.
    scaling : float or None for 1 / sqrt(E).
    is_causal : bool or None for the module's own. Looked at where there is no mask and L > 1.
    position_bias : tensor added to the scores, or None.
    softcap : float c > 0 or None. Scores become c tanh(scores / c).
    s_aux : tensor (heads,) or None. Scores of a sink, which takes its part of each row's weight.

    Returns
    -------
    tensor (N, L, heads, V), and None in the place of the weights.
    """
    length = query.shape[2]
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", True))
    is_causal = is_causal and attention_mask is None and length > 1
    if is_causal and key.shape[2] > length:  # an empty cache: what lies behind is not filled
        key, value = key[:, :, :length], value[:, :, :length]
        position_bias = None if position_bias is None else position_bias[..., :length]
    if position_bias is not None:
        attention_mask = _with_bias(position_bias, attention_mask, is_causal)
        is_causal = False
    if softcap is None and s_aux is None:
        y = _attend(module, query, key, value, attention_mask, dropout, is_causal, scaling)
    else:
        weights = _weights(query, key, attention_mask, is_causal, scaling, softcap, s_aux)
        y = _dropped(module, weights, dropout) @ _for_heads(value, query)
    return y.transpose(1, 2).contiguous(), None


def _adopted(module: nn.Module) -> bool:
    """Whether a mode sees the functional calls that a module's forward makes."""
    return any(isinstance(c, AdoptedForward) and c.site is not None for c in covers_of(module))


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    p: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    if not p or _adopted(module):
        # PyTorch's function without dropout, and the adopted module's own with it.
        y: Tensor = functional.scaled_dot_product_attention(
            query, key, value, mask, p, is_causal, scale=scale, enable_gqa=grouped
        )
        return y
    return scaled_dot_product_attention(
        query, key, value, mask, p,
        training=True, is_causal=is_causal, scale=scale, enable_gqa=grouped,
    )  # fmt: skip


def _dropped(module: nn.Module, weights: Tensor, p: float) -> Tensor:
    if not p:
        return weights
    drop: Any = functional.dropout if _adopted(module) else fresh_dropout
    dropped: Tensor = drop(weights, p, training=True)
    return dropped


def _for_heads(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values, once for each head of the query."""
    return x.repeat_interleave(query.shape[1] // x.shape[1], 1)


def _causal(length: int, like: Tensor) -> Tensor:
    rows = torch.arange(length, device=like.device)
    return rows[:, None] >= rows


def _with_bias(bias: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """What is added to the scores: the bias, and -inf where nothing takes part."""
    if mask is None and is_causal:
        mask = _causal(bias.shape[-1], bias)
    if mask is None:
        return bias
    return bias + mask if mask.is_floating_point() else bias.masked_fill(~mask, -math.inf)


def _weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """The whole softmax, (N, heads, L, S), in float32 as long as it is computed."""
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query @ _for_heads(key, query).transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if is_causal:
        mask = _causal(scores.shape[-1], scores)
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    elif mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    if sinks is None:
        nobody = scores.amax(-1, keepdim=True) == -math.inf  # rows to which nobody is shown
        weights = torch.softmax(scores.masked_fill(nobody, 0.0), -1).masked_fill(nobody, 0.0)
    else:
        sink = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    return weights.to(query.dtype)
