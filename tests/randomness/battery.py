"""Tests of our own on a stream of bytes: each gives a p-value, uniform where the bits are fair.

The classical ones, as Knuth (TAOCP 2, 3.3.2), NIST SP 800-22 and Marsaglia describe them.
"""

import math

import numpy as np
from scipy import stats

ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def normal(z):
    return float(2 * stats.norm.sf(abs(z)))


def chi2(counts, expected):
    """Against given expectations, of which one is bound by the sum."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    value = ((counts - expected) ** 2 / expected).sum()
    both = stats.chi2.cdf(value, len(counts) - 1), stats.chi2.sf(value, len(counts) - 1)
    return float(min(1.0, 2 * min(both)))


def monobit(data):
    n = data.size * 8
    return normal((2 * int(ONES[data].sum(dtype=np.int64)) - n) / math.sqrt(n))


def block_frequency(data, block=128):
    ones = ONES[data[: data.size // block * block]].reshape(-1, block).sum(1, dtype=np.int64)
    n = block * 8
    value = ((ones - n / 2) ** 2 / (n / 4)).sum()
    both = stats.chi2.cdf(value, len(ones)), stats.chi2.sf(value, len(ones))
    return float(min(1.0, 2 * min(both)))


def runs(data):
    """How often a bit differs from the one before it."""
    turns = int(ONES[data ^ (data >> 1 | np.append(data[1:] & 1, 0) << 7)].sum(dtype=np.int64))
    n = data.size * 8 - 1
    return normal((turns - n / 2) / math.sqrt(n / 4))


def poker(data):
    return chi2(np.bincount(data, minlength=256), np.full(256, data.size / 256))


def serial(data):
    """Pairs of bytes that stand side by side."""
    pairs = data[: data.size // 2 * 2].view("<u2")
    return chi2(np.bincount(pairs, minlength=65536), np.full(65536, pairs.size / 65536))


def gaps(data, p=1 / 16, longest=64):
    """From one byte below 16 to the next."""
    found = np.diff(np.flatnonzero(data < 256 * p)) - 1
    counts = np.bincount(np.minimum(found, longest), minlength=longest + 1)
    share = p * (1 - p) ** np.arange(longest)
    return chi2(counts, found.size * np.append(share, 1 - share.sum()))


def ranks(data, most=40_000):
    """Of 32 by 32 matrices over two elements."""
    rows = data[: min(most, data.size // 128) * 128].view("<u4").reshape(-1, 32).copy()
    rank = np.zeros(len(rows), int)
    for bit in range(32):
        has = rows >> bit & 1 == 1
        pivot = has.argmax(1)
        found = has.any(1)
        row = np.where(found, rows[np.arange(len(rows)), pivot], 0).astype(rows.dtype)
        rows ^= np.where(has, row[:, None], 0).astype(rows.dtype)
        rank += found
    share = [_rank_share(32), _rank_share(31)]
    counts = [(rank == 32).sum(), (rank == 31).sum(), (rank < 31).sum()]
    return chi2(counts, len(rows) * np.array([*share, 1 - sum(share)]))


def _rank_share(r, n=32):
    value = 2.0 ** (r * (2 * n - r) - n * n)
    for i in range(r):
        value *= (1 - 2.0 ** (i - n)) ** 2 / (1 - 2.0 ** (i - r))
    return value


def birthdays(data, days=2**32, people=2**12):
    """Spacings that come twice among people whose birthdays are words, year after year."""
    years = data[: data.size // (4 * people) * 4 * people].view("<u4").reshape(-1, people)
    spacings = np.sort(np.diff(np.sort(years.astype(np.int64), 1), axis=1), 1)
    twice = int((np.diff(spacings, axis=1) == 0).sum())
    mean = len(years) * people**3 / (4 * days)
    both = stats.poisson.cdf(twice, mean), stats.poisson.sf(twice - 1, mean)
    return float(min(1.0, 2 * min(both)))


def spectral(data, length=2**16):
    """The largest peak of many short spectra, beside what the largest of so many should be."""
    bits = np.unpackbits(data[: length // 8 * min(512, data.size * 8 // length)])
    signs = bits.reshape(-1, length).astype(np.float32) * 2 - 1
    power = np.abs(np.fft.rfft(signs, axis=1)[:, 1 : length // 2]) ** 2 / length
    return float(-np.expm1(power.size * np.log1p(-np.exp(-float(power.max())))))


def neighbours(data, apart=128):
    """Each run of 1,024 bits, the first that an address gives, against that of the next address."""
    whole = data[: data.size // apart * apart].reshape(-1, apart)
    return monobit((whole[1:] ^ whole[:-1]).reshape(-1))


def avalanche(data, apart=128):
    """How many bits differ from one address to the next: binomial, address after address."""
    whole = data[: data.size // apart * apart].reshape(-1, apart)
    differ = ONES[whole[1:] ^ whole[:-1]].sum(1, dtype=np.int64)[::2]
    n = apart * 8
    edges = n / 2 + np.array([-40, -30, -20, -10, -4, 0, 4, 10, 20, 30, 40])
    share = np.diff(stats.binom.cdf(np.concatenate([[-1], edges, [n]]), n, 0.5))
    counts = np.bincount(np.searchsorted(edges, differ), minlength=len(share))
    return chi2(counts, differ.size * share)


TESTS = (
    monobit, block_frequency, runs, poker, serial, gaps, ranks, birthdays, spectral, neighbours,
    avalanche,
)  # fmt: skip


def of(data):
    return {test.__name__: test(data) for test in TESTS}
