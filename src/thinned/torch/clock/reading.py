"""A moment: what the clock says at one time, and the same as words in a tensor."""

from __future__ import annotations

from typing import NamedTuple

from thinned.torch.clock.ranks import Ranks

__all__ = ["CALLS", "HEAD", "Moment", "moment_of", "require_call", "words_of"]

# Calls of one site in one step: what an address has room for.
CALLS = 2**16
_MASK32 = 0xFFFFFFFF


class Moment(NamedTuple):
    """What the clock says at one time: all of an address but the site and the call, and the place.

    epoch : a number that no other step or piece of this clock has.
    start, rows, of : the piece's first row, its rows, the rows of the whole batch; -1 for unknown.
        start is -1 outside any piece.
    """

    seed: int
    step: int
    clock: int
    epoch: int
    start: int
    rows: int
    of: int
    ranks: Ranks


def words_of(moment: Moment) -> list[int]:
    """A moment as HEAD integers, for a tensor."""
    seed, step, *rest, ranks = moment
    return [seed & _MASK32, seed >> 32, step, *rest, *ranks]


def moment_of(words: list[int]) -> Moment:
    """The moment that `words_of` gave these words for."""
    low, high, step, clock, epoch, start, rows, of, *ranks = words
    return Moment(low | high << 32, step, clock, epoch, start, rows, of, Ranks(*ranks))


# The length of a moment in words.
HEAD = 8 + len(Ranks._fields)


def require_call(call: int, name: str) -> None:
    """OverflowError beyond the calls that an address can count."""
    if call >= CALLS:
        raise OverflowError(
            f"thinned: site {name!r} was called {CALLS} times in one step, which is all that the "
            "mask spec counts. Is clock.tick() missing, or the optimizer not given to adopt? For "
            "more calls in one step, adopt with another seed: Address.fold_in makes one."
        )
