"""The battery of tests on a little of each stream, and bits that it must find wanting."""

import numpy as np
import pytest

from .battery import TESTS, of
from .streams import STREAMS, taken

BITS = 2**21


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_passes_every_test(name):
    # The inputs are fixed: a p-value so low would be no accident of this run.
    found = of(taken(name, BITS))
    assert min(found.values()) > 1e-4, found


def test_streams_differ():
    first = {name: taken(name, 2**16).tobytes() for name in STREAMS}
    assert len(set(first.values())) == len(first)


def fair(size=BITS // 8):
    return np.random.default_rng(1).integers(0, 256, size, np.uint8)


def slanted():
    return np.packbits(np.random.default_rng(1).random(BITS) < 0.505)


def a_counter():
    return np.arange(BITS // 32, dtype="<u4").view(np.uint8)


def each_address_again():
    return np.repeat(fair().reshape(-1, 128)[::2], 2, axis=0).reshape(-1)


def half_of_the_words():
    return (fair().view("<u4") & 0x0FFFFFFF).view(np.uint8)


def a_linear_register():
    """The words of a shift register of 24 bits, whose matrices are never of full rank."""
    return (fair().view("<u4") & 0xFFFFFF | 0xAA000000).view(np.uint8)


def a_wave():
    bits = np.random.default_rng(1).random(BITS) < 0.5 + 0.06 * np.sin(np.arange(BITS) * 0.7)
    return np.packbits(bits)


@pytest.mark.parametrize(
    ("bits", "tests"),
    [
        (slanted, {"monobit", "poker"}),
        (a_counter, {"monobit", "poker", "serial", "gaps", "birthdays", "avalanche"}),
        (each_address_again, {"neighbours", "avalanche"}),
        (half_of_the_words, {"runs", "monobit", "gaps"}),
        (a_linear_register, {"ranks"}),
        (a_wave, {"spectral"}),
    ],
)
def test_bits_that_are_not_random_fail(bits, tests):
    found = of(bits())
    assert tests <= {name for name, p in found.items() if p < 1e-6}, found


def test_p_values_of_fair_bits_are_spread_evenly():
    values = [of(fair(2**15 * seed)[-(2**15) :]) for seed in range(1, 31)]
    for test in TESTS:
        p = [found[test.__name__] for found in values]
        assert 0.25 < np.mean(p) < 0.75, test.__name__
        assert min(p) > 1e-4, test.__name__
