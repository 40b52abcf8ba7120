"""Exact dropout for FlexAttention, whose users write the scores and not the weights.

With m the mask, Z = sum_j exp(s_j) and Z_m the same over the kept j, dropout of the weights gives

    sum_j m_j exp(s_j) v_j / Z / (1 - p)  =  (Z_m / Z) softmax(s where m, else -inf) v / (1 - p).

So one attention gives Z, a second one the softmax over what is kept and Z_m: both are
FlexAttention's own, and so are their derivatives. A dropped score depends on a bit of packed words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned import checks
from thinned.address import Address
from thinned.backends.torch.backend import backend
from thinned.backends.torch.kernel import Drawn
from thinned.backends.torch.packed import packed_rows
from thinned.backends.torch.values import recorded
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.torch.dropin.functional import REQUIRED, _probability, _training
from thinned.torch.dropin.noise import check_mask, rate_in_program, wire_of
from thinned.torch.dropin.seeds import seed_for
from thinned.window import Window

__all__ = ["drop_key_mod", "flex_attention"]

WHO = "flex_attention"

# (score, sample, head, row, column) -> score
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

# What a dropped logit of DropKey becomes: see thinned.drop_key.
DROPPED_KEY = -30720.0


@answering
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    p: float,
    at: Address | None = None,
    training: Any = REQUIRED,
    return_aux: Any = None,
    generator: torch.Generator | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """FlexAttention whose weights are dropped with probability p: PyTorch's has no dropout.

    out = dropout(softmax(score_mod(scale q k') within block_mask)) v, kept weights times
    1 / (1 - p). The mask is that of `scaled_dot_product_attention` at the same address.

    It runs PyTorch's `flex_attention` twice, and draws the mask as packed words: an eighth of a
    byte for each weight, kept for the backward pass. Compile it as PyTorch's own:
    `torch.compile(thinned.torch.flex_attention)`; without, both hold all scores at once. On a CPU
    PyTorch compiles forward passes only, and has no backward pass.

    Parameters
    ----------
    query : tensor, shape (B, heads, L, E).
    key, value : tensors, shapes (B, heads, S, E) and (B, heads, S, V); fewer heads with enable_gqa.
    score_mod, block_mask, scale, enable_gqa, kernel_options : as in
        `torch.nn.attention.flex_attention.flex_attention`. A `drop_key_mod` needs no shape here.
    return_lse, return_aux : as there. They tell of the scores before dropout.
    p : float in [0, 1], or a 0-d tensor in a compiled program. p = 1 gives zeros, p = 0 what
        PyTorch's function gives.
    at : Address or None. The address of the weights' mask, of shape (B, heads, L, S).
    training : bool, required. False is PyTorch's function.
    generator : torch.Generator or None. Where the mask's seed is drawn if no address is given; None
        is PyTorch's default one.
    window : Window or None. Where these weights sit in the logical ones.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    what PyTorch's function returns. A row of which nothing is left is zeros.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, if query and key do not have four axes, or if at and
    generator are both given. TypeError if training is missing. And what PyTorch's function raises.

    References
    ----------
    Dong et al., 2024, arXiv:2412.05496.
    """
    p, training = _probability(WHO, p), _training(WHO, training)
    shape = _shape(query, key)
    if isinstance(score_mod, _OfAnyShape):
        score_mod = score_mod.make(shape, device=query.device)
    check_mask(WHO, at, generator, mirror)
    from torch.nn.attention import flex_attention as flex

    options: dict[str, Any] = {"kernel_options": kernel_options}
    if return_aux is not None:
        options["return_aux"] = return_aux
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return flex.flex_attention(
            query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, **options
        )
    # A seed of eager code is a number, one of a program a tensor that the program draws.
    named: Any = at
    if at is None and not recorded():
        named = Drawn(int(seed_for(query, generator)))
    words, rate = wire_of(WHO, shape, p, named, generator, window)
    bits = packed_rows(query, words, rate[0], shape, mirror)
    times = rate_in_program(p)[1]

    def attend(mod: ScoreMod | None, k: Tensor, v: Tensor, mask: Any, **more: Any) -> Any:
        return flex.flex_attention(query, k, v, mod, mask, scale, enable_gqa, **more)

    wanted = return_lse or return_aux is not None
    if query.device.type == "cpu" and torch.compiler.is_compiling() and not wanted:
        mod = _kept_of_two(bits, score_mod, block_mask, key.shape[-2])
        # Scaled before: PyTorch's template for the CPU takes no arithmetic behind it.
        scaled = (value * times).to(value.dtype)
        twice = torch.cat((key, key), -2), torch.cat((scaled, torch.zeros_like(value)), -2)
        return attend(mod, *twice, None, kernel_options=kernel_options)
    stats = _stats_request(flex)
    first = dict(options) if wanted and return_aux is not None else {**options, **stats}
    if return_aux is not None:
        first["return_aux"] = return_aux._replace(lse=True)
    _, told = attend(score_mod, key, value, block_mask, **first)
    second = {"kernel_options": kernel_options, **stats}
    out, kept = attend(_kept(bits, score_mod), key, value, block_mask, **second)
    lse, lse_kept = (x if isinstance(x, Tensor) else x.lse for x in (told, kept))
    # No NaN is made where all scores are -inf, whose derivative would be another.
    share = torch.exp(lse_kept - lse.masked_fill(lse == -math.inf, 0.0))
    y = (out * (share * times).unsqueeze(-1)).to(out.dtype)
    if return_aux is not None:
        return y, (told if return_aux.lse else told._replace(lse=None))
    return (y, lse) if return_lse else y


@answering
def drop_key_mod(
    p: float,
    at: Address,
    shape: Sequence[int] | None = None,
    training: bool = True,
    *,
    score_mod: ScoreMod | None = None,
    device: torch.device | str | None = None,
    window: Window | None = None,
    mirror: bool = False,
) -> ScoreMod:
    """DropKey as a score_mod of FlexAttention: keys are dropped before the softmax.

    Attention with it is softmax(thinned.drop_key(score_mod(scale q k'), p, at)) v, within the
    block_mask. It takes one attention, as without dropout.

    Parameters
    ----------
    p : float in [0, 1], or a 0-d tensor in a compiled program. Probability of dropping a key for a
        query; p = 1 gives uniform weights.
    at : Address. The mask is that of `thinned.drop_key` for logits of this shape.
    shape : the weights' (B, heads, L, S), `heads` those of the query. None is theirs to say in
        `thinned.torch.flex_attention`; PyTorch's own does not tell its score_mod.
    training : bool. False gives score_mod, or one that changes nothing.
    score_mod : function or None. What is done to scores before.
    device : where the attention runs; None is the CPU.
    window : Window or None. Where these weights sit in the logical ones.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    a function (score, b, h, i, j) -> score. It holds the mask of one address as packed words: make
    another for the next step.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or if shape does not have four lengths. TypeError if
    at is no Address; where PyTorch's own function calls one without a shape, its error says so.

    References
    ----------
    Li et al., 2023, arXiv:2208.02646.

    Examples
    --------
    >>> import thinned, torch
    >>> from thinned.torch import drop_key_mod
    >>> at = thinned.Address(seed=0, site="attention", step=3)
    >>> mod = drop_key_mod(0.5, at, (1, 1, 2, 4))
    >>> mod(torch.tensor(1.0), *map(torch.tensor, (0, 0, 1, 2)))
    tensor(1.)
    """
    who = "drop_key_mod"
    p, training = _probability(who, p), checks.flag(who, "training", training)
    if at is None:
        raise TypeError(message(who, "at", "a thinned.Address", "None"))
    check_mask(who, at, None, mirror)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _unchanged if score_mod is None else score_mod
    if shape is None:
        more: dict[str, Any] = {"score_mod": score_mod, "window": window, "mirror": mirror}
        return _OfAnyShape(functools.partial(drop_key_mod, p, at, **more))
    where = tuple(shape)
    if len(where) != 4:
        requirement = "the weights' (samples, heads, queries, keys)"
        raise ValueError(message(who, "shape", requirement, where))
    words, rate = wire_of(who, where, p, at, None, window)
    like = torch.empty(0, device=device if device is not None else "cpu")
    bits = packed_rows(like, words, rate[0], where, mirror)

    def dropped(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if score_mod is not None:
            score = score_mod(score, b, h, i, j)
        low = torch.clamp(score, max=DROPPED_KEY)  # what is masked stays so
        return torch.where(_bit(bits, b, h, i, j), score, low)

    return dropped


class _OfAnyShape:
    """DropKey whose mask waits for the weights' shape. make(shape, device=...) gives the mod."""

    def __init__(self, make: Callable[..., ScoreMod]) -> None:
        self.make = make

    def __call__(self, *_: Tensor) -> Tensor:
        raise TypeError(
            "drop_key_mod: shape must be the weights' (samples, heads, queries, keys) for "
            "PyTorch's own flex_attention. Give it, or call thinned.torch.flex_attention, which "
            "knows it."
        )


def _shape(query: Any, key: Any) -> tuple[int, ...]:
    """That of the weights."""
    for name, x in {"query": query, "key": key}.items():
        if not isinstance(x, Tensor):
            raise TypeError(message(WHO, name, "a torch tensor", type(x).__name__))
        if x.dim() != 4:
            requirement = "of 4 axes (samples, heads, tokens, width)"
            raise ValueError(message(WHO, name, requirement, f"shape {tuple(x.shape)}"))
    backend.require_floating(WHO, query, "query")
    return (*query.shape[:-1], key.shape[-2])


def _stats_request(flex: Any) -> dict[str, Any]:
    """How to ask PyTorch for the logarithm of Z: from 2.9 on by a request."""
    request = getattr(flex, "AuxRequest", None)
    return {"return_lse": True} if request is None else {"return_aux": request(lse=True)}


def _unchanged(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return score


def _bit(bits: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    word: Tensor = bits[b, h, i, j >> 5]
    return (word >> (j & 31)) & 1 != 0


def _kept(bits: Tensor, score_mod: ScoreMod | None) -> ScoreMod:
    """The user's scores, -inf where dropped."""

    def kept(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if score_mod is not None:
            score = score_mod(score, b, h, i, j)
        return torch.where(_bit(bits, b, h, i, j), score, -math.inf)

    return kept


def _kept_of_two(bits: Tensor, score_mod: ScoreMod | None, block_mask: Any, width: int) -> ScoreMod:
    """The same where every key stands twice, with values of zero the second time: what is dropped
    there is kept here, so that the softmax is over all. PyTorch's compiled attention on a CPU says
    no Z. Its blocks are those of keys that stand once, so that the block mask is taken by element.
    """
    mask = None if block_mask is None else block_mask.mask_mod

    def kept(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        second = j >= width
        column = torch.where(second, j - width, j)
        if score_mod is not None:
            score = score_mod(score, b, h, i, column)
        takes = _bit(bits, b, h, i, column) != second
        if mask is not None:
            takes = takes & mask(b, h, i, column)
        return torch.where(takes, score, -math.inf)

    return kept
