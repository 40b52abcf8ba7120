"""Which elements are kept, to the bit: against the published vectors and against the naive twin."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

import thinned
from thinned import reference

from . import twin

VECTORS = Path(__file__).parents[1] / "data" / "mask_vectors.json"

HARD = thinned.Address(seed=2**64 - 1, site=2**32 - 1, step=2**32 - 2, call=2**16 - 1)
PLAIN = thinned.Address(seed=0, site="fc1", step=7)
MIXED = thinned.Address(seed=0x123456789ABCDEF0, site=0x0BADF00D, step=0x01020304, call=0x0506)

# Around every place where a counter, a word or a block ends.
STARTS = (0, 5, 127, 4096, 2**32 - 50, 2**39 - 50, 2**40 + 77, 2**46 + 12345, 2**47 - 100)


@cache
def vectors():
    return json.loads(VECTORS.read_text(encoding="utf-8"))


def bits(text, count):
    """Keep bits from hexadecimal, first element in the lowest bit of the first byte."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(packed, bitorder="little")[:count].astype(bool)


def address(entry):
    return thinned.Address(**entry["address"])


def seen_through_dropout(kind, shape, p, at, **how):
    """The mask as dropout shows it: where ones come out as anything but zero."""
    ones = kind.array(np.ones(shape))
    return kind.read(thinned.dropout(ones, p, at, **how)) != 0.0


def agrees_with_twin(kind, at, p, shape, start=None, whole=None, shared=(), mirror=False):
    """Mask and dropout of one window are what the twin draws, element by element."""
    window = None if start is None else thinned.Window(start, whole)
    whole = shape if whole is None else whole
    expected = np.array(twin.mask(at, p, shape, start, whole, shared, mirror), bool).reshape(shape)
    how = {"shared_axes": shared, "window": window, "mirror": mirror}
    like = kind.array(np.zeros(0))
    mask = kind.read_mask(thinned.keep_mask(shape, p, at, like=like, **how))
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(seen_through_dropout(kind, shape, p, at, **how), expected)


# ------------------------------------------------------------------------------------------- checks


def masks_are_the_twins(kind):
    for at in (PLAIN, HARD, MIXED):
        for start in STARTS:
            agrees_with_twin(kind, at, 0.3, (100,), (start,))
        agrees_with_twin(kind, at, 0.7, (3, 50), (0, 0), (3, 50))
        agrees_with_twin(kind, at, 0.1, (3, 5, 7), (2, 1, 4), (2**20, 9, 2**12))


def mirrored_masks_are_the_twins(kind):
    for at in (PLAIN, HARD):
        for p in (0.1, 0.5, 0.75):
            agrees_with_twin(kind, at, p, (300,), (1000,), mirror=True)


def shared_masks_are_the_twins(kind):
    for shared in ((0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)):
        agrees_with_twin(kind, PLAIN, 0.4, (4, 5, 6), shared=shared)
        agrees_with_twin(kind, PLAIN, 0.4, (2, 3, 4), (1, 2, 2), (4, 5, 6), shared=shared)


def masks_are_the_published_ones(kind):
    like = kind.array(np.zeros(0))
    for entry in vectors()["keep"]:
        window = thinned.Window(entry["start"])
        mask = thinned.keep_mask(
            entry["count"], entry["p"], address(entry), (), window, entry["mirror"], like
        )
        expected = bits(entry["keep"], entry["count"])
        np.testing.assert_array_equal(kind.read_mask(mask), expected)


def windows_are_the_published_ones(kind):
    like = kind.array(np.zeros(0))
    for entry in vectors()["window"]:
        window = thinned.Window(entry["start"], entry["global_shape"])
        mask = kind.read_mask(
            thinned.keep_mask(entry["shape"], entry["p"], address(entry), window=window, like=like)
        )
        expected = bits(entry["keep"], mask.size).reshape(entry["shape"])
        np.testing.assert_array_equal(mask, expected)


def shared_masks_are_the_published_ones(kind):
    like = kind.array(np.zeros(0))
    for entry in vectors()["shared_axes"]:
        axes = tuple(entry["shared_axes"])
        mask = kind.read_mask(
            thinned.keep_mask(entry["shape"], entry["p"], address(entry), axes, like=like)
        )
        expected = bits(entry["keep"], mask.size).reshape(entry["shape"])
        np.testing.assert_array_equal(mask, expected)


def the_boundary_is_strict(kind):
    """At p = u_i / 2^32 element i is kept (u_i < u_i is false), one step further dropped."""
    for at in (PLAIN, MIXED):
        for index in (0, 1, 31, 128, 2**40 + 3):
            u = reference.uniform32(at, index)
            assert u == twin.uniform(at, index)
            window = thinned.Window(index)
            at_u = seen_through_dropout(kind, (1,), u / 2**32, at, window=window)
            above = seen_through_dropout(kind, (1,), (u + 1) / 2**32, at, window=window)
            assert at_u[0]
            assert not above[0]


def every_coordinate_counts(kind):
    """Each bit of an address, high ones too, gives another mask, and no two coordinates mix."""
    shape = (512,)
    seen = {}
    bits_of = {"seed": 64, "site": 32, "step": 32, "call": 16}
    for name, count in bits_of.items():
        for bit in range(count):
            at = thinned.Address(**{name: 2**bit})
            seen[name, bit] = seen_through_dropout(kind, shape, 0.5, at).tobytes()
    assert len(set(seen.values())) == sum(bits_of.values())


def draws_repeat(kind):
    first = [seen_through_dropout(kind, (700,), 0.3, PLAIN.replace(call=n)) for n in range(6)]
    again = [seen_through_dropout(kind, (700,), 0.3, PLAIN.replace(call=n)) for n in range(6)]
    np.testing.assert_array_equal(first, again)


def threads_draw_alike(kind):
    calls = [n % 16 for n in range(64)]

    def draw(call):
        return seen_through_dropout(kind, (5000,), 0.3, PLAIN.replace(call=call))

    alone = [draw(call) for call in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, calls))
    for call, mask in zip(calls, together, strict=True):
        np.testing.assert_array_equal(mask, alone[call])


def the_mask_is_what_dropout_does(kind):
    like = kind.array(np.zeros(0))
    for p in (0.0, 0.1, 0.5, 0.9):
        mask = kind.read_mask(thinned.keep_mask((40, 30), p, PLAIN, like=like))
        np.testing.assert_array_equal(mask, seen_through_dropout(kind, (40, 30), p, PLAIN))


CHECKS = [
    masks_are_the_twins,
    mirrored_masks_are_the_twins,
    shared_masks_are_the_twins,
    masks_are_the_published_ones,
    windows_are_the_published_ones,
    shared_masks_are_the_published_ones,
    the_boundary_is_strict,
    every_coordinate_counts,
    draws_repeat,
    threads_draw_alike,
    the_mask_is_what_dropout_does,
]
