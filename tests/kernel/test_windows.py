"""Windows: parts of a logical array that may be far larger than any memory."""

import numpy as np
import pytest

import thinned
from thinned import _native, kernel, reference
from thinned.backends.numpy import backend

from .against import AT, TYPES, assert_drawn, assert_dropped, draw, numbers

SINGLE = TYPES["float32"]

# Shape at hand, start, shape of the whole.
WINDOWS = [
    ((4, 30), (7, 0), None),
    ((4, 30), (7, 0), (100, 30)),
    ((4, 30), (0, 11), (4, 50)),
    ((4, 30), (3, 11), (9, 70000)),
    ((3, 5, 17), (1, 2, 3), (10, 20, 30)),
    ((3, 5, 17), (0, 2, 0), (3, 20, 17)),
    ((2, 3000), (5, 1), (8, 4001)),
    ((2, 3000), (2**20 - 3, 4096), (2**20, 8192)),  # indices past 2^32
    ((3, 700), (2**27, 100), (2**28, 2**13)),  # past 2^40
    ((3, 700), (2**34 - 3, 2**13 - 700), (2**34, 2**13)),  # up to the last index of the spec
    ((2, 2, 2500), (1, 2**19, 0), (4, 2**20, 2**20 - 1)),
    ((5, 1), (2**40, 0), (2**41, 3)),
]


@pytest.mark.parametrize(("shape", "start", "whole"), WINDOWS, ids=str)
def test_windows_take_their_part_of_the_whole(kernel_name, shape, start, whole):
    for i, dtype in enumerate(TYPES.values()):
        x = numbers(shape, dtype)
        window = thinned.Window(start, whole)
        for shared in ((), 0, len(shape) - 1, tuple(range(len(shape)))):
            assert_dropped(x, (0.5, 0.1, 0.8, 0.3)[i], shared, window, mirror=bool(i % 2))
            assert_dropped(np.asfortranarray(x), 0.5, shared, window)


def test_windows_that_cover_an_array_give_its_mask(kernel_name):
    shape = (13, 7, 41)
    whole = thinned.keep_mask(shape, 0.3, AT)
    for rows in (slice(0, 5), slice(5, 6), slice(6, 13)):
        for columns in (slice(0, 16), slice(16, 41)):
            start = (rows.start, 0, columns.start)
            part = whole[rows, :, columns]
            got = thinned.keep_mask(part.shape, 0.3, AT, window=thinned.Window(start, shape))
            assert (got == part).all()


def test_a_long_window_meets_the_boundaries_of_the_counter(kernel_name):
    # Block 2^32 begins at element 2^39. The reference takes the part on either side by itself.
    for boundary in (2**32, 2**39, 2**40):
        start, n = boundary - 2100, 4200
        mask = thinned.keep_mask(n, 0.4, AT, window=thinned.Window(start))
        t = reference.threshold(0.4)
        for at, count in ((0, 2100), (2100, 2100)):
            want = reference.keep_range(AT, t, start + at, count)
            assert (mask[at : at + count] == want).all()


DRAWN = [
    ((3000,), None, ()),
    ((7, 33), None, ()),
    ((7, 33), None, 0),
    ((7, 33), None, 1),
    ((4, 5, 20), None, (0, 2)),
    ((4, 5, 20), thinned.Window((3, 1, 7), (9, 8, 31)), ()),
    ((500,), thinned.Window(2**34 - 250), ()),  # block 2^32 of four elements begins at 2^34
    ((300,), thinned.Window(2**42 - 300), ()),
    ((2, 40), thinned.Window((2**20, 3), (2**21, 2**21)), 1),
    ((), None, ()),
    ((0, 4), None, ()),
]


@pytest.mark.parametrize(("shape", "window", "shared"), DRAWN, ids=str)
@pytest.mark.parametrize("mirror", [False, True])
def test_words_and_gaussian_draws(kernel_name, shape, window, shared, mirror):
    d = draw(shape, 0.5, shared, window, mirror)
    for dtype in TYPES.values():
        x = numbers(shape, dtype)
        for array in (x, np.asfortranarray(x), x[..., ::-1] if shape else x):
            assert_drawn(d, array, std=0.75)


def test_gaussian_noise_in_place_and_to_anywhere(kernel_name):
    x = numbers((40, 50), SINGLE)
    d = draw(x.shape, 0.5, shared_axes=1)
    backend.require_floating("noise", x)
    want = backend.apply_gaussian(x, d, 0.5, None)
    inside = x.copy()
    assert backend.apply_gaussian(inside, d, 0.5, inside) is inside
    assert (inside.view(np.uint32) == want.view(np.uint32)).all()
    wide = np.zeros((80, 150), SINGLE)
    backend.apply_gaussian(x, d, 0.5, wide[::2, ::3])
    assert (wide[::2, ::3].copy().view(np.uint32) == want.view(np.uint32)).all()
    assert not wide[1::2].any()


def test_kernels_agree_on_gaussian_draws_to_the_bit():
    # More than is promised (4e-6): a result does not depend on the processor it was computed on.
    found = set()
    for name in _native.runnable():
        kernel.use_kernel(name)
        found.add(backend.gaussian(draw((30000,), 0.5)).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("n", [*range(70), 127, 128, 129, 1000, 4097])
def test_packed_masks_of_any_length(kernel_name, n):
    for start in (0, 3, 1000, 2**32 - 50, 2**39 - 500):
        for p in (0.5, 0.1, 0.0, 1.0):
            keep = reference.keep_range(AT, reference.threshold(p), start, n)
            packed = thinned.packed_mask(n, p, AT, window=thinned.Window(start))
            assert (packed == np.packbits(keep, bitorder="little")).all()
