"""Philox's blocks in 64 bits, in operations of XLA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Counter", "narrow", "rounds", "u32", "u64", "wide"]

u32, u64 = np.uint32, np.uint64
# By Philox's row: what the other row's upper word is multiplied by, and the key's steps.
FACTORS = np.array([0xCD9E8D57, 0xD2511F53], np.uint64)
STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)


class Counter(NamedTuple):
    """What Philox makes blocks of, in 64 bits: each half of a block is one number, whose upper word
    the next round multiplies. So a round is one product on an array of two rows, where products put
    together of 32-bit words take some fifty operations.

    first : the upper half of each block's counter without its tag. second : the lower, of all or of
    each. key : its two words, of all or of each.
    """

    first: Any
    second: Any
    key: Any

    @classmethod
    def of(cls, at: Any, numbers: Any) -> Counter:
        """Of the blocks with these numbers (uint64, one axis) at an address, or each at its own:
        uint32, shape (5,) or (5, blocks)."""
        words = wide(at)
        first = numbers << u64(32) | numbers >> u64(32) | words[4] << u64(8)
        return cls(first, words[2] << u64(32) | words[3], words[:2])

    def blocks(self, first: Any, count: int) -> Any:
        """The blocks with tags from `first` on: uint64, shape (2, count, *first's)."""
        tags = wide(first + lax.iota(jnp.uint32, count)) << u64(24)
        upper = self.first | tags.reshape(-1, *(1,) * self.first.ndim)
        return rounds(jnp.stack([upper, jnp.broadcast_to(self.second, upper.shape)]), self.key)


def wide(word: Any) -> Any:
    return jnp.asarray(word).astype(jnp.uint64)


def narrow(halves: Any) -> Any:
    """The four words of blocks given as two rows of halves: uint32, shape (4, ...)."""
    words = jnp.stack([halves >> u64(32), halves], 1).astype(jnp.uint32)
    return words.reshape(4, *halves.shape[1:])


def rounds(state: Any, key: Any) -> Any:
    """Philox's ten, on the halves of blocks: shape (2, ...), and a key of shape (2,), or that has
    their last axes."""
    column = (2,) + (1,) * (state.ndim - 1)
    key = key.reshape(2, *(1,) * (state.ndim - key.ndim), *key.shape[1:])
    factors, steps = FACTORS.reshape(column), STEPS.reshape(column)

    def turn(i: Any, state: Any) -> Any:
        mixed = key + wide(i) * steps << u64(32)
        return lax.rev(state >> u64(32), (0,)) * factors ^ state << u64(32) ^ mixed

    def two(state: tuple[Any, Any]) -> tuple[Any, Any]:
        i, halves = state
        return i + u32(2), turn(i + u32(1), turn(i, halves))

    return lax.while_loop(lambda state: state[0] < u32(10), two, (jnp.uint32(0), state))[1]
