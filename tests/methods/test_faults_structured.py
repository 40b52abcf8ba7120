"""Wrong versions of this family's methods, each caught by a named check of the battery."""

import numpy as np
import pytest

import thinned
from thinned.methods.draws import Draws

from . import checks_law as law, checks_values as values
from .planted import another_function_is_caught
from .trying import DOUBLE


def bernoulli_instead_of_k(x, p, at, training=True, **how):
    return thinned.dropout(x, p, at, training, **how)


def k_scaled_by_p(x, p, at, training=True, *, axis=-1, **how):
    """k of n + 1 in the scale."""
    y = thinned.k_of_n_dropout(x, p, at, training, axis=axis, **how)
    return y * (x.shape[axis] + 1) / x.shape[axis] if training else y


def k_without_the_rank(x, p, at, training=True, *, axis=-1, **how):
    """The first k of each group, drawn or not."""
    if not training:
        return x
    n = x.shape[axis]
    k = n - round(p * n)
    return np.where(np.arange(n) < k, x * n / k, 0.0) if k else 0 * x


def channels_of_the_batch(x, p, at, training=True, *, channel_axis=1, **how):
    return thinned.dropout(x, p, at, training, shared_axes=(0, 2, 3), **how)


def pixels_apart(x, p, at, training=True, *, channel_axis=1, **how):
    return thinned.dropout(x, p, at, training, **how)


def blocks_multiplied(x, p, at, training=True, **how):
    """The scale left out where nothing is kept: 0 / 0."""
    if not training:
        return x
    y = thinned.drop_block(x, p, at, **how)
    kept = (y != 0).reshape(len(x), -1).sum(1).reshape(-1, 1, 1, 1)
    with np.errstate(all="ignore"):
        return y * (kept / kept)


def blocks_of_the_part(x, p, at, training=True, *, window=None, **how):
    return thinned.drop_block(x, p, at, training, **how)


def blocks_unaddressed(x, p, at, training=True, **how):
    return thinned.drop_block(x, p, thinned.Address(), training, **how)


def square_inside(x, p, at, training=True, *, size, **how):
    """A square that never crosses the border."""
    if not training:
        return x
    draws = Draws("cutout", x, p, at, training, **how)
    hole = ~draws.keep(p, (1, 2, 3))
    for number, (axis, side) in enumerate(zip((2, 3), size, strict=True), 1):
        n = x.shape[axis]
        first = np.floor(draws.uniform((1, 2, 3), number=number) * (n - side + 1))
        place = np.arange(n).reshape((n,) + (1,) * (3 - axis))
        hole = hole & (place >= first) & (place < first + side)
    return np.where(hole, 0.0, x)


def square_of_the_batch(x, p, at, training=True, **how):
    if not training:
        return x
    one = thinned.cutout(np.ones_like(x[:1]), p, at, **how)
    return np.where(one != 0, x, 0.0)


def erased_when_kept(x, p, at, training=True, **how):
    return thinned.random_erasing(x, 1.0 - p, at, training, **how)


def erased_in_evaluation(x, p, at, training=True, **how):
    return thinned.random_erasing(x, p, at, True, **how)


def tokens_of_the_part(x, p, at, training=True, *, window=None, **how):
    return thinned.patch_dropout(x, p, at, training, **how)


def tokens_in_evaluation(x, p, at, training=True, **how):
    return thinned.patch_dropout(x, p, at, True, **how)


def tokens_rescaled(x, p, at, training=True, **how):
    """Divided by what was kept, and so infinite where nothing was."""
    y = thinned.patch_dropout(x, p, at, training, **how)
    with np.errstate(all="ignore"):
        return y / np.float64(1 - p) if training else y


def ends_at_the_unit_before(x, p, at, training=True, *, axis=-1, **how):
    """Unit j with q^j: the first one may go."""
    if not training:
        return x
    y = thinned.nested_dropout(np.ones((len(x), x.shape[1] + 1)), p, at, **how)
    return x * y[:, 1:]


def units_apart(x, p, at, training=True, *, axis=-1, window=None, mirror=False):
    """The right share of each unit, not of a prefix; and no scale to p = 1."""
    if not training:
        return x
    q = (1 - p) ** np.arange(x.shape[1])
    u = Draws("nested_dropout", x, p, at, training, window, mirror).uniform((1,))
    return np.where(u < q + 0.05, x, 0.0)


MOMENTS, SHARE, SHARED = (
    law.moments_are_the_rows,
    law.the_dropped_share_is_p,
    law.draws_are_shared_as_the_row_says,
)
WINDOWS, ENDS = values.windows_give_their_part_of_the_whole, law.p_one_is_as_the_row_says
EVALUATION, ALIKE = law.evaluation_draws_nothing, law.equal_addresses_draw_alike
CAUGHT = [
    (bernoulli_instead_of_k, "k_of_n_dropout", SHARE, DOUBLE),
    (k_scaled_by_p, "k_of_n_dropout", MOMENTS, DOUBLE),
    (k_without_the_rank, "k_of_n_dropout", MOMENTS, DOUBLE),
    (k_without_the_rank, "k_of_n_dropout", ALIKE, DOUBLE),
    (channels_of_the_batch, "spatial_dropout", SHARED, DOUBLE),
    (pixels_apart, "spatial_dropout", SHARED, DOUBLE),
    (blocks_multiplied, "drop_block", ENDS, DOUBLE),
    (blocks_of_the_part, "drop_block", WINDOWS, DOUBLE),
    (blocks_unaddressed, "drop_block", ALIKE, DOUBLE),
    (square_inside, "cutout", MOMENTS, DOUBLE),
    (square_of_the_batch, "cutout", WINDOWS, DOUBLE),
    (erased_when_kept, "random_erasing", law.p_zero_is_the_identity, DOUBLE),
    (erased_in_evaluation, "random_erasing", EVALUATION, DOUBLE),
    (tokens_of_the_part, "patch_dropout", WINDOWS, DOUBLE),
    (tokens_in_evaluation, "patch_dropout", EVALUATION, DOUBLE),
    (tokens_rescaled, "patch_dropout", ENDS, DOUBLE),
    (ends_at_the_unit_before, "nested_dropout", MOMENTS, DOUBLE),
    (units_apart, "nested_dropout", MOMENTS, DOUBLE),
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("fault", "name", "check", "kind"), CAUGHT)
def test_a_wrong_version_is_caught(fault, name, check, kind, monkeypatch):
    another_function_is_caught(fault, name, check, kind, monkeypatch)
