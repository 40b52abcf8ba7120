"""What a row claims of its noise: moments, who shares a draw, how much is dropped, its two ends."""

import numpy as np
import pytest

import thinned

from .trying import AT, DOUBLE, as_numpy, call, inputs, outputs

# Standard errors that a mean over fixed addresses may be off: at 6, one element in 5e8 by chance.
SIGMAS = 6.0


def moments_are_the_rows(row):
    if row.moments.of is None:
        return
    arrays, sample = inputs(row), row.sample
    y = outputs(row.name)
    mean, variance = row.moments.of(*arrays, p=sample.p, **sample.options)
    mean, variance = (np.broadcast_to(m, y.shape[1:]) for m in (mean, variance))
    n = len(y)
    deviation = np.sqrt(variance / n)
    assert (abs(y.mean(0) - mean) <= SIGMAS * deviation + 1e-9).all()
    # The spread of an empirical variance, from the empirical fourth moment.
    centred = (y - mean) ** 2
    spread = centred.std(0) / np.sqrt(n)
    assert (abs(centred.mean(0) - variance) <= SIGMAS * spread + 1e-9).all()
    assert variance.max() > 0, "a row without any noise has nothing to test"


def draws_are_shared_as_the_row_says(row):
    """Along shared axes one draw; along independent ones neighbours do not know of each other."""
    if row.sample.independent is None:
        return
    m = outputs(row.name, ones=True)
    for axis in range(m.ndim - 1):
        length = m.shape[axis + 1]
        if length < 2:
            continue
        first, second = (m.take(i, axis + 1) for i in (0, 1))
        if axis in row.sample.coupled:
            first, second = first != 0, second != 0
        if axis not in row.sample.independent:
            assert (first == second).all(), f"axis {axis} should share its draws"
            continue
        a, b = first - first.mean(0), second - second.mean(0)
        covariance = (a * b).mean(0)
        spread = (a * b).std(0) / np.sqrt(len(m))
        assert (abs(covariance) <= SIGMAS * spread + 1e-9).all(), f"axis {axis} is not independent"


def the_dropped_share_is_p(row):
    """Binomial about p over all draws, or exactly round(p n) of n in each."""
    sample = row.sample
    if sample.dropped is None:
        return
    dropped = outputs(row.name, ones=True) == 0
    if sample.dropped == "exact":
        shares = dropped.reshape(len(dropped), -1).mean(1)
        assert (shares == shares[0]).all()
        assert abs(shares[0] - sample.p) <= 0.5 / min(n for n in dropped.shape[1:] if n > 1)
        return
    axes = [axis + 1 for axis in sample.independent or range(dropped.ndim - 1)]
    groups = len(dropped) * int(np.prod([dropped.shape[axis] for axis in axes]))
    spread = np.sqrt(sample.p * (1 - sample.p) / groups)
    assert abs(dropped.mean() - sample.p) <= SIGMAS * spread


def p_zero_is_the_identity(row, kind):
    if not row.sample.keeps_shape or not row.has_p:
        return
    arrays = inputs(row, kind)
    np.testing.assert_array_equal(as_numpy(call(row, arrays, p=0.0)), as_numpy(arrays[0]))


def p_one_is_as_the_row_says(row, kind):
    if not row.has_p:
        return
    arrays = inputs(row, kind)
    if row.sample.p_one == "refused":
        with pytest.raises(ValueError, match=rf"^{row.name}: p must be below 1\b.*\.$"):
            call(row, arrays, p=1.0)
        return
    y = as_numpy(call(row, arrays, p=1.0))
    assert np.isfinite(y).all()
    if row.sample.p_one == "zeros":
        assert (y == 0).all()


def evaluation_draws_nothing(row, kind):
    """The rule of the row, whatever the address, and without a single draw."""
    arrays, sample = inputs(row, kind), row.sample
    backend = thinned.backends.backend_of("test", arrays[0])

    def drawn(*_, **__):
        raise AssertionError(f"{row.name} draws in evaluation")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("keep", "words", "uniform", "gaussian", "apply", "apply_gaussian"):
            patch.setattr(backend, name, drawn)
        patch.setattr(backend, "plain_dropout", drawn)
        y = call(row, arrays, training=False)
    if sample.evaluation == "identity":
        assert y is arrays[0]
        return
    exact = sample.evaluation(*inputs(row), p=sample.p, **sample.options)
    np.testing.assert_allclose(as_numpy(y), exact, rtol=4 * kind.epsilon, atol=1e-6)


def equal_addresses_draw_alike(row, kind):
    arrays = inputs(row, kind)
    first, second = call(row, arrays), call(row, arrays)
    np.testing.assert_array_equal(as_numpy(first), as_numpy(second))
    others = [AT.replace(**{name: 9}) for name in ("seed", "site", "step", "call")]
    ats = [at for other in others for at in (other, other.fold_in(1), other.fold_in(2))]
    different = [not np.array_equal(as_numpy(call(row, arrays, at)), as_numpy(first)) for at in ats]
    assert sum(different) > len(different) // 2 or row.sample.independent == ()


LAW = (moments_are_the_rows, draws_are_shared_as_the_row_says, the_dropped_share_is_p)
ENDS = (
    p_zero_is_the_identity,
    p_one_is_as_the_row_says,
    evaluation_draws_nothing,
    equal_addresses_draw_alike,
)
__all__ = ["DOUBLE", "ENDS", "LAW"]
