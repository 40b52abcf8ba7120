"""How masks are distributed: shares, moments, independence. Addresses are fixed: nothing is flaky.

Bounds are five standard deviations of the law claimed: a true law stands far inside of them, and an
address that happened to fall outside would do so always, in front of whoever adds it.
"""

from itertools import pairwise
from math import sqrt

import numpy as np

import thinned

from .checks_draw import PLAIN, seen_through_dropout

SIGMAS = 5.0
RATES = (0.001, 0.05, 0.1, 0.3, 0.5, 0.75, 0.9, 0.999)


def assert_share(mask, share):
    """The number of true entries is binomial with this share."""
    n = mask.size
    deviation = abs(int(mask.sum()) - n * share) / sqrt(n * share * (1.0 - share))
    assert deviation < SIGMAS, f"{int(mask.sum())} of {n}: {deviation:.1f} sigmas off {share}"


def the_kept_share_is_binomial(kind):
    # 2^18 elements tell 5% from the 4.69% of a probability kept in 8 bits, by seven sigmas.
    for p in RATES:
        assert_share(seen_through_dropout(kind, (2**18,), p, PLAIN), 1.0 - p)


def moments_are_those_of_the_law(kind):
    """E[y] = x and Var[y] = x^2 p / (1 - p), over elements that all hold x."""
    n, x = 2**17, 3.0
    for p in (0.1, 0.5, 0.9):
        y = kind.read(thinned.dropout(kind.array(np.full(n, x)), p, PLAIN))
        variance = x * x * p / (1.0 - p)
        rounding = x / (1.0 - p) * kind.epsilon
        assert abs(y.mean() - x) < SIGMAS * sqrt(variance / n) + rounding
        # A sample variance has the variance (kurtosis - 1) Var^2 / n, which is 0 at p = .5: there
        # the term of second order is left, the mean's own deviation squared.
        kurtosis = 1.0 / (p * (1.0 - p)) - 3.0
        spread = variance * sqrt((kurtosis - 1.0) / n) + 2.0 * rounding * x / (1.0 - p)
        assert abs(y.var() - variance) < SIGMAS * spread + SIGMAS**2 * variance / n


def neighbouring_addresses_are_independent(kind):
    here = thinned.Address(seed=42, site=7, step=9, call=3)
    others = [
        here.replace(seed=43),
        here.replace(seed=42 + 2**32),
        here.replace(seed=42 << 32),
        here.replace(site=8),
        here.replace(step=10),
        here.replace(call=4),
        here.replace(site=9, step=7),
        here.replace(seed=41, site=8),
        here.fold_in(0),
        here.fold_in(1),
    ]
    for p in (0.1, 0.5):
        mask = seen_through_dropout(kind, (2**15,), p, here)
        for other in others:
            agreement = mask == seen_through_dropout(kind, (2**15,), p, other)
            assert_share(agreement, p * p + (1.0 - p) * (1.0 - p))


def neighbouring_elements_are_independent(kind):
    p = 0.3
    mask = seen_through_dropout(kind, (2**17,), p, PLAIN)
    for lag in (1, 2, 31, 32, 33, 64, 96, 127, 128, 129, 256, 4096, 2**15, 2**16):
        assert_share(mask[lag:] == mask[:-lag], p * p + (1.0 - p) * (1.0 - p))


def rows_are_independent(kind):
    """No mask is shared across a batch, and no pattern is repeated down the rows."""
    p = 0.5
    mask = seen_through_dropout(kind, (64, 1024), p, PLAIN)
    for row in range(1, 64):
        assert_share(mask[row] == mask[0], 0.5)
    assert_share(mask, 0.5)


def a_larger_p_keeps_a_subset(kind):
    for mirror in (False, True):
        masks = [seen_through_dropout(kind, (3000,), p, PLAIN, mirror=mirror) for p in RATES]
        for smaller, larger in pairwise(masks):
            assert not (larger & ~smaller).any()
            assert (smaller & ~larger).any()


def a_mirrored_draw_is_antithetic(kind):
    """u and 1 - u: complements at p = .5, never both dropped below, never both kept above."""
    for p in (0.1, 0.3, 0.5, 0.75):
        mask = seen_through_dropout(kind, (2**14,), p, PLAIN)
        other = seen_through_dropout(kind, (2**14,), p, PLAIN, mirror=True)
        assert_share(other, 1.0 - p)
        if p <= 0.5:
            assert (mask | other).all()
        if p >= 0.5:
            assert not (mask & other).any()


CHECKS = [
    the_kept_share_is_binomial,
    moments_are_those_of_the_law,
    neighbouring_addresses_are_independent,
    neighbouring_elements_are_independent,
    rows_are_independent,
    a_larger_p_keeps_a_subset,
    a_mirrored_draw_is_antithetic,
]
