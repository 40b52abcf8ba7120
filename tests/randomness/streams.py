"""The draws as streams of bits: along the index of one address, and across neighbouring addresses,
whose counters and keys differ in the lowest bit or two."""

from itertools import count

import numpy as np

import thinned
from thinned.methods.draws import NO_P, Draws

PIECE = 2**23  # bits of one address that are drawn at a time
EACH = 2**10  # bits that each of many addresses gives


def masks(at, p, bits, start=0, mirror=False):
    """Keep bits at p, eight to a byte."""
    return thinned.packed_mask(bits, p, at, window=thinned.Window(start), mirror=mirror)


def words(at, number, start=0):
    x = np.empty(number, np.float32)
    drawn = Draws("words", x, NO_P, at, window=thinned.Window(start)).words()
    return drawn.astype("<u4").view(np.uint8)


def second(at, bits, start=0):
    """The second bit of each uniform, from three masks: at 1/4, 1/2 and 3/4."""
    low, half, high = (masks(at, p, bits, start) for p in (0.25, 0.5, 0.75))
    return low ^ half ^ high


def along(draw):
    """One address, index after index."""
    for piece in count():
        yield draw(thinned.Address(seed=1, site="stream", step=2, call=3), piece)


def across(coordinate, first=0):
    """The first bits of one address after the other."""
    at = thinned.Address(seed=5, site=6, step=7, call=8)
    top = {"call": 2**16, "step": 2**32 - 1, "site": 2**32, "seed": 2**64}[coordinate]
    for number in count(first):
        here = at.replace(**{coordinate: number % top})
        if coordinate == "call":  # of which there are few: the step takes over
            here = here.replace(step=number // top)
        yield masks(here, 0.5, EACH)


def folded():
    at = thinned.Address(seed=9)
    return (words(at.fold_in(n), EACH // 32) for n in count())


STREAMS = {
    "masks at p = 1/2 of one address": lambda: along(
        lambda at, piece: masks(at, 0.5, PIECE, piece * PIECE)
    ),
    "second bits of one address, from masks at 1/4, 1/2, 3/4": lambda: along(
        lambda at, piece: second(at, PIECE, piece * PIECE)
    ),
    "words of one address": lambda: along(
        lambda at, piece: words(at, PIECE // 32, piece * (PIECE // 32))
    ),
    "steps": lambda: across("step"),
    "calls": lambda: across("call"),
    "sites": lambda: across("site"),
    "seeds": lambda: across("seed"),
    "seeds folded with 0, 1, 2, ...": folded,
}


def taken(name, bits):
    """The first bits of a stream, as bytes."""
    pieces, size = [], 0
    for piece in STREAMS[name]():
        pieces.append(piece)
        size += piece.size
        if size * 8 >= bits:
            return np.concatenate(pieces)[: bits // 8]
    raise AssertionError(name)
