"""The mask spec in tensor operations: the same bits on any device PyTorch has, and on "meta".

It runs where there is no kernel of ours. Nothing depends on a drawn value (no early exit), so that
no device is waited for and every compiler can trace it. The coordinates may be Python integers or
int64 tensors. int64 stands for uint64: products of 32-bit words are exact mod 2^64, and after a
shift the sign's copies are masked away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.window import Placement

__all__ = ["BLOCK", "Coordinates", "keep", "keep_each", "packed", "words", "words_at"]

MASK32 = 0xFFFFFFFF
WORD_TAG = 32
# Lanes of a block of the mask, 16 bytes of bits.
BLOCK = 128


class Coordinates(NamedTuple):
    """An address in words: the seed's halves, site, step, call; each an int or an int64 tensor."""

    seed_low: Any
    seed_high: Any
    site: Any
    step: Any
    call: Any


def _high(a: Any) -> Any:
    return a >> 32 & MASK32


def _philox(counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, ...]:
    """As reference.philox, on signed 64-bit numbers that hold 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = _high(right) ^ c1 ^ k0, right & MASK32
        c2, c3 = _high(left) ^ c3 ^ k1, left & MASK32
        k0 = (k0 + 0x9E3779B9) & MASK32
        k1 = (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def _blocks(at: Coordinates, b: Tensor, tag: Any) -> Tensor:
    """Blocks number `b` with `tag` (they broadcast): int64 words, one more axis of 4 at the end."""
    # Tensors throughout: a Python integer times a word of 32 bits would not wrap at 64.
    zero = torch.zeros_like(b)
    counter = (b & MASK32, b >> 32 | at.call << 8 | tag << 24, zero + at.site, zero + at.step)
    out = _philox(counter, (zero + at.seed_low, zero + at.seed_high))
    return torch.stack(torch.broadcast_tensors(*out), dim=-1)


def _runs(place: Placement, device: torch.device, per_block: int) -> tuple[Tensor, Tensor, int]:
    """The draws as runs of consecutive indices: block numbers, positions in them, and run length.

    Returns blocks of shape (runs, k), positions of shape (runs, length), counted from the first
    element of the run's first block, and the length.
    """
    shape, length = place.drawn, 1
    axis = len(shape)
    while axis > 0 and (shape[axis - 1] == 1 or place.strides[axis - 1] == length):
        axis -= 1
        length *= shape[axis]
    start = torch.full(shape[:axis], place.offset, dtype=torch.int64, device=device)
    for i in range(axis):
        steps = torch.arange(shape[i], dtype=torch.int64, device=device) * place.strides[i]
        start = start + steps.reshape((-1,) + (1,) * (axis - i - 1))
    start = start.reshape(-1, 1)
    count = (length + 2 * per_block - 2) // per_block
    b = start // per_block + torch.arange(count, dtype=torch.int64, device=device)
    position = start % per_block + torch.arange(length, dtype=torch.int64, device=device)
    return b, position, length


def _on(device: torch.device, number: Any) -> Tensor:
    """A 0-d int64 tensor. One that is made there waits for no copy, and may be captured."""
    if isinstance(number, Tensor):
        return number.to(device, torch.int64)
    return torch.full((), number, dtype=torch.int64, device=device)


def _planes(threshold: Any) -> int:
    """How many planes tell whether a word is below: as many as the threshold has binary digits
    before its zeros at the end; a power of two. 32 where it is a tensor, which is not read."""
    if not isinstance(threshold, int):
        return 32
    last = (threshold & -threshold).bit_length() or 33
    return 1 << max(32 - last, 0).bit_length()


def keep(
    at: Coordinates, threshold: Any, place: Placement, mirror: bool, device: torch.device
) -> Tensor:
    """Keep bits as the array is placed: bool, `place.drawn`. `threshold` may be an int64 tensor."""
    b, position, _ = _runs(place, device, 128)
    planes = torch.arange(_planes(threshold), dtype=torch.int64, device=device)
    bits = _blocks(at, b.unsqueeze(-1), planes)  # (runs, blocks, planes, 4)
    if mirror:
        bits = bits ^ MASK32
    t = _on(device, threshold)
    ones = ((t >> (31 - planes) & 1) * MASK32).unsqueeze(-1)  # all lanes of a word, or none
    # Below the threshold: the highest plane in which the two differ has a 0 here and a 1 there.
    # Neighbouring planes are put together until one is left.
    below, same = ~bits & ones, ~(bits ^ ones)
    while below.shape[-2] > 1:
        below = below[..., ::2, :] | same[..., ::2, :] & below[..., 1::2, :]
        same = same[..., ::2, :] & same[..., 1::2, :]
    kept = (below ^ MASK32).flatten(1)
    word = kept.gather(1, position >> 5)
    drawn = (word >> (position & 31) & 1).to(torch.bool)
    # 2^32 has none of the 32 bits that were compared, and drops everything.
    drawn = drawn & (t < 2**32)
    return drawn.reshape(place.drawn)


def keep_each(at: Coordinates, threshold: Tensor, index: Tensor, mirror: bool) -> Tensor:
    """The keep bits of the elements with these indices, at a threshold for each: bool, in `index`'s
    shape. All 32 planes, one after another: a block for each element and plane."""
    b, word, lane = index >> 7, (index >> 5 & 3).unsqueeze(-1), index & 31
    u = torch.zeros_like(index)
    for j in range(32):
        bits = _blocks(at, b, j).gather(-1, word).squeeze(-1) >> lane & 1
        u = u << 1 | bits
    if mirror:
        u = u ^ MASK32
    return u >= threshold


def words(at: Coordinates, place: Placement, mirror: bool, device: torch.device) -> Tensor:
    """The 32-bit words of the elements as placed, in int64: `place.drawn`."""
    b, position, _ = _runs(place, device, 4)
    table = _blocks(at, b, WORD_TAG).flatten(1)
    if mirror:
        table = table ^ MASK32
    return table.gather(1, position).reshape(place.drawn)


def packed(keep: Tensor) -> Tensor:
    """(..., n) of bool in words of int32, rows padded to blocks: element i is bit i % 32 of word
    i // 32."""
    bits = torch.nn.functional.pad(keep.to(torch.uint8), (0, -keep.shape[-1] % BLOCK))
    values = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=keep.device)
    # Bytes are made rather than words: a sum of words would take eight bytes for each bit.
    octets: Tensor = (bits.unflatten(-1, (-1, 8)) * values).sum(-1, dtype=torch.uint8)
    return octets.contiguous().view(torch.int32)


def words_at(at: Coordinates, index: Tensor, mirror: bool) -> Tensor:
    """The 32-bit words of the elements with these indices, in int64 and `index`'s shape."""
    # A compiled program cannot refuse an index that is too large: it must not draw another call's.
    table = _blocks(at, (index >> 2) & (2**40 - 1), WORD_TAG)
    word = table.gather(-1, (index & 3).unsqueeze(-1)).squeeze(-1)
    return word ^ MASK32 if mirror else word


def _uniform(word: Tensor) -> Tensor:
    """(2 (w >> 9) + 1) / 2^24, in binary64."""
    return ((word >> 9) * 2 + 1).to(torch.float64) / 2**24


def gaussian(at: Coordinates, place: Placement, mirror: bool, device: torch.device) -> Tensor:
    """Standard normal draws in binary64, `place.drawn`; as reference.gaussian, digit for digit but
    for the last of the libraries' log, sin and cos."""
    start = torch.full((), place.offset, dtype=torch.int64, device=device)
    for axis, n in enumerate(place.drawn):
        steps = torch.arange(n, dtype=torch.int64, device=device) * place.strides[axis]
        start = start + steps.reshape((-1,) + (1,) * (len(place.drawn) - axis - 1))
    pair = _blocks(at, start >> 2, WORD_TAG)
    first = (start & 2).unsqueeze(-1)
    u = _uniform(pair.gather(-1, first).squeeze(-1))
    v = _uniform(pair.gather(-1, first + 1).squeeze(-1))
    angle = 2.0 * torch.pi * v
    z = torch.sqrt(-2.0 * torch.log(u)) * torch.where(
        (start & 1).to(torch.bool), torch.sin(angle), torch.cos(angle)
    )
    return -z if mirror else z
