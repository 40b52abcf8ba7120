"""Philox4x32-10, the generator beneath every draw, and the seeds that it makes of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["FOLD_STEP", "MASK32", "fold_in", "key_of", "philox"]

MASK32 = 0xFFFFFFFF
FOLD_STEP = 2**32 - 1  # the step that no draw has: reserved for folding


def philox(counter: Sequence[Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10 (Salmon et al., 2011), on Python integers or on uint64 arrays of 32-bit words.

    Parameters
    ----------
    counter : four words c0..c3, each an int or a uint64 array (they broadcast), below 2^32.
    key : two ints below 2^32.

    Returns
    -------
    The four words of the block, of the counter's kind.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = (right >> 32) ^ c1 ^ k0, right & MASK32
        c2, c3 = (left >> 32) ^ c3 ^ k1, left & MASK32
        k0 = (k0 + 0x9E3779B9) & MASK32
        k1 = (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def key_of(seed: int) -> tuple[int, int]:
    """The two words of a 64-bit seed, the lower first."""
    return seed & MASK32, seed >> 32


def fold_in(seed: int, n: int) -> int:
    """The seed that `n` (64 bits) makes of `seed`: a member, an epoch, a rank."""
    out = philox((n & MASK32, n >> 32, 0, FOLD_STEP), key_of(seed))
    return int(out[0] | out[1] << 32)
