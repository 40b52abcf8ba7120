"""DropBlock drops what it is asked to drop, where seeds everywhere and the paper's gamma do not."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address, Window
from thinned.methods import blocks
from thinned.methods.blocks import drop_block, exact_gamma, paper_gamma

from .trying import as_numpy

torch = library("torch")

AT = Address(seed=5, site="blocks")
DRAWS = 2000
MAPS = 64  # of each draw: at 7 x 7 each of them is dropped whole or not at all
TOLERANCE = 0.02
over_sizes = pytest.mark.parametrize("size", [7, 14, 28])
over_rates = pytest.mark.parametrize("p", [0.1, 0.3])


def mean_share(function, size, p):
    """Share of zeros, a mean over 2,000 draws."""
    x = np.ones((1, MAPS, size, size), np.float32)
    zeros = (np.count_nonzero(function(x, p, Address(seed=i)) == 0) for i in range(DRAWS))
    return sum(zeros) / (DRAWS * x.size)


def hits_the_asked_share(function, size, p):
    assert abs(mean_share(function, size, p) / p - 1.0) <= TOLERANCE


def with_papers_gamma(x, p, at):
    return drop_block(x, p, at, gamma="paper")


def with_seeds_everywhere(x, p, at):
    """The paper's gamma at every place of the map, blocks cut off at the border."""
    gamma = paper_gamma(p, x.shape[2:], (7, 7))
    keep = thinned.keep_mask(x.shape, gamma, at)
    keep = np.pad(keep, ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=True)
    for axis in (2, 3):
        n = x.shape[axis]
        keep = np.logical_and.reduce([keep.take(range(i, i + n), axis) for i in range(7)])
    return x * keep


@over_sizes
@over_rates
def test_exact_gamma_hits_the_asked_share(size, p):
    hits_the_asked_share(drop_block, size, p)


@pytest.mark.one_in(4)
@over_sizes
@over_rates
@pytest.mark.parametrize("other", [with_papers_gamma, with_seeds_everywhere])
def test_the_others_miss_it(other, size, p):
    if other is with_papers_gamma and size == 7:
        assert paper_gamma(p, (7, 7), (7, 7)) == pytest.approx(p)  # one block fits: both are p
        return
    with pytest.raises(AssertionError):
        hits_the_asked_share(other, size, p)


# -------------------------------------------------------------------------------- against by hand


def by_hand(seeds, block):
    """Blocks drawn one by one from their upper corners; seeds boolean, (maps, ...)."""
    keep = np.ones(seeds.shape, np.bool_)
    for place in np.argwhere(seeds):
        corner = (slice(place[0], place[0] + 1),)
        keep[corner + tuple(slice(i, i + b) for i, b in zip(place[1:], block, strict=True))] = False
    return keep


CASES = [
    ((40, 3, 12), (4,)),
    ((30, 2, 9, 6), (2, 3)),
    ((30, 2, 5, 8), (5, 1)),
    ((30, 2, 8, 8), (8, 8)),
    ((12, 2, 5, 6, 4), (2, 1, 4)),
]


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("gamma", ["exact", "paper"])
@pytest.mark.parametrize(("shape", "block"), CASES)
def test_masks_are_blocks_from_their_seeds(shape, block, gamma, make):
    p, maps = 0.4, shape[2:]
    rate = exact_gamma(p, maps, block) if gamma == "exact" else paper_gamma(p, maps, block)
    seeds = ~thinned.keep_mask(shape, rate, AT)
    for axis, b in enumerate(block, 2):
        index = [slice(None)] * len(shape)
        index[axis] = slice(shape[axis] - b + 1, None)
        seeds[tuple(index)] = False
    keep = by_hand(seeds.reshape(-1, *maps), block).reshape(shape)
    x = np.random.default_rng(0).standard_normal(shape)
    y = as_numpy(drop_block(make(x), p, AT, block_size=block, gamma=gamma))
    kept = keep.reshape(shape[0], -1).sum(1)
    scale = np.where(kept > 0, keep[0].size / np.maximum(kept, 1), 1.0)
    expected = np.where(keep, x * scale.reshape((-1,) + (1,) * (len(shape) - 1)), 0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    whole = as_numpy(drop_block(make(x), p, AT, block_size=block, gamma=gamma, rescale="batch"))
    np.testing.assert_allclose(whole, np.where(keep, x * keep.size / keep.sum(), 0.0), rtol=1e-12)


def test_channels_last_and_shared_channels():
    x = np.ones((6, 9, 8, 4))
    y = drop_block(x, 0.4, AT, block_size=3, channel_axis=-1, shared_channels=True)
    assert (y == y[..., :1]).all()
    apart = drop_block(x, 0.4, AT, block_size=3, channel_axis=-1)
    assert not (apart == apart[..., :1]).all()
    first = drop_block(x.transpose(0, 3, 1, 2), 0.4, AT, block_size=3, shared_channels=True)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), y)


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_all_dropped_is_zero_and_finite(make):
    x = np.full((3, 2, 7, 7), np.inf)
    for rescale in ("sample", "batch"):
        y = as_numpy(drop_block(make(x), 1.0, AT, rescale=rescale))
        assert (y == 0).all()
    some = as_numpy(drop_block(make(x[:, :1]), 0.9, AT))  # samples that lose all beside one that
    assert (some[np.isfinite(some)] == 0).all()
    assert not np.isnan(some).any()


# --------------------------------------------------------------------------------------- the solver


@pytest.mark.parametrize(
    ("maps", "block"), [((9,), (4,)), ((20, 33), (7, 2)), ((6, 7, 8), (3, 3, 3))]
)
def test_gamma_solves_its_equation(maps, block):
    ways = np.ones(maps)
    for axis, (n, b) in enumerate(zip(maps, block, strict=True)):
        i, first = np.arange(n)[:, None], np.arange(n - b + 1)[None, :]
        counts = ((first <= i) & (i < first + b)).sum(1)
        ways = ways * counts.reshape((-1,) + (1,) * (len(maps) - axis - 1))
    for p in (1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999):
        gamma = exact_gamma(p, maps, block)
        assert 0.0 < gamma <= p
        dropped = -np.expm1(ways * np.log1p(-gamma)).mean()
        assert dropped == pytest.approx(p, rel=1e-11)
        in_graph = blocks._exact_gamma_of_array(
            thinned.backends.backend_of("t", torch.ones(1)).namespace,
            torch.tensor(p, dtype=torch.float64), maps, block,
        )  # fmt: skip
        assert float(in_graph) == pytest.approx(gamma, rel=1e-12)


def test_too_few_steps_are_caught(monkeypatch):
    monkeypatch.setattr(blocks, "NEWTON", 2)
    blocks.exact_gamma.cache_clear()
    try:
        with pytest.raises(AssertionError):
            test_gamma_solves_its_equation((20, 33), (7, 2))
    finally:
        blocks.exact_gamma.cache_clear()


# ---------------------------------------------------------------------------------------- refusals


def test_a_block_larger_than_the_map_says_both_sizes():
    x = np.ones((2, 3, 6, 9))
    with pytest.raises(
        ValueError,
        match=r"^drop_block: block_size must be no larger than the map, which is 6 x 9, got 7 x 7. "
        "Take a smaller block here",
    ):
        drop_block(x, 0.1, AT)
    for training in (True, False):
        with pytest.raises(ValueError, match=r"got 2 x 10\. "):
            drop_block(x, 0.1, AT, training, block_size=(2, 10))
    with pytest.raises(
        ValueError, match=r"^drop_block: block_size must be one integer, or one for"
    ):
        drop_block(x, 0.1, AT, block_size=(2, 2, 2))
    with pytest.raises(TypeError, match=r"^drop_block: block_size must be an integer in"):
        drop_block(x, 0.1, AT, block_size=2.0)
    with pytest.raises(ValueError, match=r"^drop_block: gamma must be 'exact' or 'paper', got 'a'"):
        drop_block(x, 0.1, AT, block_size=2, gamma="a")
    with pytest.raises(ValueError, match=r"^drop_block: rescale must be 'sample' or 'batch', got"):
        drop_block(x, 0.1, AT, block_size=2, rescale="none")


def test_what_a_window_may_split():
    x = np.ones((4, 3, 6, 6))
    whole = drop_block(x, 0.3, AT, block_size=2)
    part = drop_block(x[1:], 0.3, AT, block_size=2, window=Window(1))
    np.testing.assert_array_equal(part, whole[1:])
    with pytest.raises(ValueError, match=r"^drop_block: axis 1 must be whole"):
        drop_block(x[:, :2], 0.3, AT, block_size=2, window=Window((0,) * 4, (4, 3, 6, 6)))
    window = Window((1, 0, 0, 0), (4, 3, 6, 6))
    with pytest.raises(ValueError, match=r"^drop_block: axis 0 must be whole"):
        drop_block(x[1:], 0.3, AT, block_size=2, rescale="batch", window=window)
