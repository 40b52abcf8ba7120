"""Keep bits packed by rows: what an attention kernel loads, an eighth of a byte for each weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.backends.base import Draw
from thinned.backends.torch import devices, spec, wire
from thinned.backends.torch.address import draw_values
from thinned.backends.torch.kernel import placed
from thinned.backends.torch.library import defined
from thinned.backends.torch.values import lengths

__all__ = ["packed_rows"]

# How many bits are drawn as bytes at a time, before they are packed.
AT_A_TIME = 2**25


def _values(
    like: Tensor, words: Tensor, threshold: Tensor, shape: Sequence[int], mirror: bool
) -> Tensor:
    draw = wire.read(words, threshold.item(), shape, mirror)
    if devices.uses_triton(like.device):
        from thinned.backends.torch.triton import launch, words as told

        return launch.mask_words(draw.place, told.told(draw), like.device, live=told.step_of(draw))
    out = _fake(like, words, threshold, shape, mirror)
    *lead, heads, length, width = shape
    flat = out.view(-1, heads, length, out.shape[-1])
    *outer, head, row, column = draw.place.strides
    group = max(1, AT_A_TIME // max(1, length * width))
    for i in range(flat.shape[0] if out.numel() else 0):
        offset, rest = draw.place.offset, i
        for n, step in zip(reversed(lead), reversed(outer), strict=True):
            offset, rest = offset + rest % n * step, rest // n
        for h in range(0, heads, group):
            n = min(group, heads - h)
            part = placed((n, length, width), offset + h * head, (head, row, column))
            keep = draw_values(Draw(draw.at, draw.threshold, part, mirror), "mask", like)
            flat[i, h : h + n] = spec.packed(keep)
    return out


def _fake(like: Tensor, words: Any, threshold: Any, shape: Sequence[int], mirror: bool) -> Tensor:
    return like.new_empty(
        (*shape[:-1], (shape[-1] + spec.BLOCK - 1) // spec.BLOCK * 4), dtype=torch.int32
    )


PACKED_ROWS = defined(
    "packed_rows(Tensor like, Tensor words, Tensor threshold, SymInt[] shape, bool mirror) "
    "-> Tensor",
    _values,
    _fake,
)


def packed_rows(
    like: Tensor, words: Tensor, threshold: Any, shape: Sequence[Any], mirror: bool
) -> Tensor:
    """Keep bits of an array of at least three axes on `like`'s device, in words of int32: four for
    each 128 elements of a row, or fewer at its end, where the rest is 0. `words` say which draws
    (wire.py)."""
    bits: Tensor = PACKED_ROWS(
        like.detach(), words, wire.number(threshold), lengths(tuple(shape)), mirror
    )
    return bits
