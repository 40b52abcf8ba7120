"""What structured masks claim beyond the battery: exact laws, shapes, options, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address, Window
from thinned.methods import blocks

from .trying import as_numpy

torch = library("torch")

VECTORS = json.loads(
    (Path(__file__).parent.parent / "data" / "mask_vectors.json").read_text(encoding="utf-8")
)
AT = Address(seed=11, site="structured")
SIGMAS = 6.0
KINDS = (np.asarray, torch.from_numpy)
over_kinds = pytest.mark.parametrize("kind", KINDS, ids=["numpy", "torch"])


def addresses(count):
    return [Address(seed=i, site="law") for i in range(count)]


# ------------------------------------------------------------------------------------------ k of n


@over_kinds
@pytest.mark.parametrize("entry", VECTORS["k_of_n"])
def test_k_of_n_is_the_specs(entry, kind):
    shape, axis, p = tuple(entry["shape"]), entry["axis"], entry["p"]
    packed = np.frombuffer(bytes.fromhex(entry["keep"]), np.uint8)
    keep = np.unpackbits(packed, bitorder="little")[: int(np.prod(shape))].reshape(shape)
    n = shape[axis]
    k = n - round(p * n)
    y = thinned.k_of_n_dropout(kind(np.ones(shape)), p, Address(**entry["address"]), axis=axis)
    np.testing.assert_array_equal(as_numpy(y), keep * (n / k if k else 1.0))


def covariance_of_k_of_n(function):
    """Of two multipliers of one group -(n - k) / (k (n - 1)), and their sum exactly n."""
    n, p = 8, 0.5
    m = np.stack([function(np.ones((3, n)), p, at) for at in addresses(4000)])
    assert (m.sum(-1) == n).all()
    a, b = m[:, 0, 1] - 1.0, m[:, 0, 5] - 1.0
    k = n - round(p * n)
    expected, spread = -(n - k) / (k * (n - 1)), (a * b).std() / np.sqrt(len(m))
    assert abs((a * b).mean() - expected) <= SIGMAS * spread
    other = m[:, 1, 5] - 1.0  # of another group, whose draws are independent
    assert abs((a * other).mean()) <= SIGMAS * (a * other).std() / np.sqrt(len(m))


def test_k_of_n_has_the_covariance_of_its_law():
    covariance_of_k_of_n(thinned.k_of_n_dropout)


def test_the_covariance_tells_dropout_from_k_of_n():
    with pytest.raises(AssertionError):
        covariance_of_k_of_n(thinned.dropout)

    def one_choice_for_all_groups(x, p, at):
        return thinned.k_of_n_dropout(x, p, at, shared_axes=(0,))

    with pytest.raises(AssertionError):
        covariance_of_k_of_n(one_choice_for_all_groups)


def test_k_of_n_shares_and_refuses():
    x = np.ones((2, 6, 4))
    y = thinned.k_of_n_dropout(x, 0.5, AT, axis=1, shared_axes=(0, 2))
    assert (y == y[:1, :, :1]).all()
    assert (y.sum(1) == 6).all()
    with pytest.raises(ValueError, match=r"^k_of_n_dropout: shared_axes must be free of axis 1"):
        thinned.k_of_n_dropout(x, 0.5, AT, axis=1, shared_axes=(1,))
    with pytest.raises(ValueError, match=r"^k_of_n_dropout: axis must be an integer in \[-3, 3\)"):
        thinned.k_of_n_dropout(x, 0.5, AT, axis=3)
    with pytest.raises(ValueError, match=r"^k_of_n_dropout: x must be an array with axes"):
        thinned.k_of_n_dropout(np.float64(1.0), 0.5, AT)


# --------------------------------------------------------------------------------------- channels


@over_kinds
def test_channels_last_drops_the_last_axis(kind):
    y = as_numpy(thinned.spatial_dropout(kind(np.ones((50, 4, 5, 6))), 0.5, AT, channel_axis=-1))
    assert (y == y[:, :1, :1, :]).all()
    assert 0.3 < (y == 0).mean() < 0.7


@pytest.mark.parametrize("axis", [4, -5])
def test_a_channel_axis_that_does_not_exist(axis):
    x = np.ones((2, 3, 4, 4))
    for name in ("spatial_dropout", "drop_block", "cutout", "random_erasing"):
        with pytest.raises(
            ValueError,
            match=rf"^{name}: channel_axis must be an integer in \[-4, 4\), got {axis}. "
            "1 is channels first, -1 channels last.",
        ):
            getattr(thinned, name)(x, 0.5, AT, channel_axis=axis)
        with pytest.raises(ValueError, match=rf"^{name}: channel_axis must be another axis than 0"):
            getattr(thinned, name)(x, 0.5, AT, channel_axis=0)
        with pytest.raises(ValueError, match=rf"^{name}: x must be a batch of maps.*x\[None\]"):
            getattr(thinned, name)(x[0, 0], 0.5, AT)


# ------------------------------------------------------------------------------ Cutout and erasing


def rectangles(y):
    """(top, left, height, width) of the zeros of each map, which must fill that rectangle."""
    found = []
    for hit in y[:, 0] == 0:
        rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
        if not rows.size:
            continue
        h, w = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert hit.sum() == h * w
        found.append((rows[0], columns[0], h, w))
    return np.array(found)


@over_kinds
def test_cutout_cuts_one_square_clipped_at_the_border(kind):
    y = as_numpy(thinned.cutout(kind(np.ones((4000, 2, 9, 12))), 1.0, AT, size=4))
    assert (y == y[:, :1]).all()
    found = rectangles(y)
    assert len(found) == 4000
    assert found[:, 2:].max() == 4
    assert found[:, 2:].min() == 2  # a centre at the border has 2 before it, or itself and 1
    inner = (found[:, 0] > 0) & (found[:, 0] < 5) & (found[:, 1] > 0) & (found[:, 1] < 8)
    assert (found[inner, 2:] == 4).all()
    # Every centre is as likely as any other: rows of full squares, 9 of them seen through the top.
    tops = np.bincount(found[:, 0], minlength=8)
    share = np.array([3, 1, 1, 1, 1, 1, 1]) / 9
    spread = np.sqrt(4000 * share * (1 - share))
    assert (abs(tops[:7] - 4000 * share) <= SIGMAS * spread).all()


def test_cutout_takes_sizes_and_a_fill():
    x = np.ones((50, 1, 6, 8), np.float32)
    y = thinned.cutout(x, 1.0, AT, size=(1, 5), fill=-3.0)
    assert ((y == -3.0).any(3).sum((1, 2)) == 1).all()
    with pytest.raises(ValueError, match=r"^cutout: size must be an integer in \[1,"):
        thinned.cutout(x, 1.0, AT, size=0)
    with pytest.raises(ValueError, match=r"^cutout: size must be one integer, or one for each of"):
        thinned.cutout(x, 1.0, AT, size=(1, 2, 3))
    with pytest.raises(TypeError, match=r"^cutout: fill must be a finite number, got 'red'"):
        thinned.cutout(x, 1.0, AT, fill="red")
    with pytest.raises(ValueError, match=r"^cutout: axis 2 must be whole"):
        thinned.cutout(x, 1.0, AT, window=Window((0, 0, 1, 0), (50, 1, 9, 8)))


def law_of_erasing(function):
    """Area, ratio and corner against the paper's algorithm drawn by NumPy's own generator."""
    h, w, n = 32, 24, 6000
    found = rectangles(function(np.ones((n, 1, h, w)), 0.5, AT))
    assert abs(len(found) / n - 0.5) <= SIGMAS * 0.5 / np.sqrt(n)
    rng, wanted = np.random.default_rng(0), []
    while len(wanted) < n:
        area, ratio = rng.uniform(0.02, 0.33) * h * w, rng.uniform(0.3, 3.3)
        rows, columns = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        top, left = rng.integers(h), rng.integers(w)
        if top + rows <= h and left + columns <= w:
            wanted.append((top, left, rows, columns))
    for ours, papers in zip(found.T, np.array(wanted).T, strict=True):
        spread = np.sqrt(ours.var() / len(ours) + papers.var() / len(papers))
        assert abs(ours.mean() - papers.mean()) <= SIGMAS * spread
        edges = np.quantile(papers, [0.25, 0.5, 0.75])
        for edge in edges:
            a, b = (ours <= edge).mean(), (papers <= edge).mean()
            assert abs(a - b) <= SIGMAS * np.sqrt(0.25 / len(ours) + 0.25 / len(papers))


def test_random_erasing_is_the_papers():
    law_of_erasing(thinned.random_erasing)


def test_another_corner_or_range_is_caught():
    def no_proposals(x, p, at):
        """The first proposal, cut off at the border."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thinned.methods.regions.PROPOSALS", 1)
            return thinned.random_erasing(x, p, at)

    def larger(x, p, at):
        return thinned.random_erasing(x, p, at, scale=(0.05, 0.4))

    for wrong in (no_proposals, larger):
        with pytest.raises(AssertionError):
            law_of_erasing(wrong)


def test_random_erasing_refuses_ranges():
    x = np.ones((2, 1, 6, 8))
    with pytest.raises(ValueError, match=r"^random_erasing: scale must be two numbers, 0 < first"):
        thinned.random_erasing(x, 0.5, AT, scale=(0.3, 0.1))
    with pytest.raises(ValueError, match=r"^random_erasing: scale must be .* <= 1, got"):
        thinned.random_erasing(x, 0.5, AT, scale=(0.3, 1.5))
    with pytest.raises(TypeError, match=r"^random_erasing: ratio must be two numbers"):
        thinned.random_erasing(x, 0.5, AT, ratio=0.3)
    with pytest.raises(ValueError, match=r"^random_erasing: x must be a batch of maps, \(N, C, H,"):
        thinned.random_erasing(np.ones((2, 3, 4)), 0.5, AT)


# ------------------------------------------------------------------------------------------ tokens


@over_kinds
@pytest.mark.parametrize(("length", "prefix", "p"), [(10, 1, 0.5), (9, 0, 0.3), (6, (0, 4), 0.75)])
def test_patch_dropout_keeps_a_rising_part(kind, length, prefix, p):
    x = np.arange(float(length))[None, :, None] + np.zeros((300, 1, 2))
    y, places = thinned.patch_dropout(kind(x), p, AT, prefix=prefix, return_indices=True)
    y, places = as_numpy(y), as_numpy(places).astype(int)
    always = range(prefix) if isinstance(prefix, int) else prefix
    free = length - len(always)
    stay = max(1, round(free * (1 - p)))
    assert y.shape == (300, len(always) + stay, 2)
    np.testing.assert_array_equal(y[:, :, 0], places)
    assert (np.diff(places, axis=1) > 0).all()
    assert all(set(always) <= set(row) for row in places)
    counts = np.bincount(places.ravel(), minlength=length)
    others = [i for i in range(length) if i not in always]
    share = stay / free
    spread = np.sqrt(300 * share * (1 - share))
    assert (abs(counts[others] - 300 * share) <= SIGMAS * spread + 1e-9).all()


@over_kinds
def test_patch_dropout_leaves_something_and_in_evaluation_all(kind):
    x = kind(np.ones((2, 5, 3)))
    assert thinned.patch_dropout(x, 1.0, AT).shape == (2, 2, 3)
    assert thinned.patch_dropout(x, 1.0, AT, prefix=5).shape == (2, 5, 3)
    y, places = thinned.patch_dropout(x, 1.0, AT, training=False, return_indices=True)
    assert y is x
    np.testing.assert_array_equal(as_numpy(places), np.tile(np.arange(5), (2, 1)))
    along = thinned.patch_dropout(x, 0.5, AT, axis=2, prefix=0)
    assert tuple(along.shape) == (2, 5, 2)


def test_patch_dropout_refuses_prefixes():
    x = np.ones((2, 5, 3))
    bad = [(2, 0), (1, 1)]
    for prefix in bad:
        with pytest.raises(ValueError, match=r"^patch_dropout: prefix must be places in rising or"):
            thinned.patch_dropout(x, 0.5, AT, prefix=prefix)
    with pytest.raises(
        ValueError, match=r"^patch_dropout: a place in prefix must be an integer in"
    ):
        thinned.patch_dropout(x, 0.5, AT, prefix=(0, 5))
    with pytest.raises(ValueError, match=r"^patch_dropout: prefix must be an integer in \[0, 6\)"):
        thinned.patch_dropout(x, 0.5, AT, prefix=6)
    with pytest.raises(ValueError, match=r"^patch_dropout: axis must be another axis than 0"):
        thinned.patch_dropout(x, 0.5, AT, axis=0)


# ------------------------------------------------------------------------------------ nested, banks


@over_kinds
def test_nested_dropout_keeps_a_geometric_prefix(kind):
    p, n = 0.3, 20000
    y = as_numpy(thinned.nested_dropout(kind(np.ones((n, 5))), p, AT))
    assert (np.diff(y, axis=1) <= 0).all()
    ends = np.bincount(y.sum(1).astype(int), minlength=6)[1:]
    share = np.array([*(p * (1 - p) ** np.arange(4)), (1 - p) ** 4])
    assert (abs(ends - n * share) <= SIGMAS * np.sqrt(n * share * (1 - share))).all()
    one = as_numpy(thinned.nested_dropout(kind(np.ones((3, 4, 5))), 1.0, AT, axis=1))
    assert (one[:, 0] == 1).all()
    assert (one[:, 1:] == 0).all()
    with pytest.raises(ValueError, match=r"^nested_dropout: axis must be another axis than 0"):
        thinned.nested_dropout(np.ones((3, 4)), p, AT, axis=0)


@pytest.mark.parametrize(("features", "n", "scale"), [(64, 4, 2.0), (10, 2, 3.0), (100, 8, 1.5)])
def test_a_bank_is_as_the_paper_has_it(features, n, scale):
    bank = thinned.masksembles_bank(features, AT, n=n, scale=scale)
    assert bank.shape == (n, features)
    assert bank.any(0).all()
    ones = bank.sum(1)
    assert (ones == round(features / (scale * (1 - (1 - 1 / scale) ** n)))).all()
    np.testing.assert_array_equal(thinned.masksembles_bank(features, AT, n=n, scale=scale), bank)
    other = thinned.masksembles_bank(features, AT.replace(seed=1), n=n, scale=scale)
    assert not np.array_equal(other, bank)


def test_masks_of_a_bank_share_the_fewer_the_larger_the_scale():
    def shared(scale):
        """Share of a mask's ones that the next one has too: 1 / scale on average."""
        pairs = [
            thinned.masksembles_bank(60, at, n=4, scale=scale).astype(float) for at in addresses(60)
        ]
        return np.mean([(b[0] * b[1]).sum() / b[0].sum() for b in pairs])

    for scale in (1.0, 1.5, 3.0):
        assert abs(shared(scale) - 1 / scale) < 0.05
    with pytest.raises(ValueError, match=r"^masksembles_bank: scale must be a finite number of at"):
        thinned.masksembles_bank(8, AT, scale=0.5)
    with pytest.raises(ValueError, match=r"small enough for a mask to keep one of 3 feat"):
        thinned.masksembles_bank(3, AT, n=500, scale=40.0)


@over_kinds
def test_a_chunk_of_the_batch_takes_its_mask(kind):
    bank = thinned.masksembles_bank(6, AT, n=3)
    x = np.random.default_rng(0).standard_normal((12, 6, 2))
    x[bank.repeat(4, axis=0) == 0] = np.nan
    y = as_numpy(thinned.masksembles(kind(x), kind(bank)))
    np.testing.assert_array_equal(y, np.where(bank.repeat(4, axis=0)[:, :, None], x, 0.0))
    for start in (0, 5):
        window = Window((start, 0, 0), (12, 6, 2))
        part = thinned.masksembles(kind(x[start : start + 7]), kind(bank), window=window)
        np.testing.assert_array_equal(as_numpy(part), y[start : start + 7])
    with pytest.raises(ValueError, match=r"must be a multiple of the 3 masks, got 11. For 3 pred"):
        thinned.masksembles(kind(x[:11]), kind(bank))
    with pytest.raises(ValueError, match=r"^masksembles: bank must be of shape \(n, 2\)"):
        thinned.masksembles(kind(x), kind(bank), axis=2)
    with pytest.raises(TypeError, match=r"^masksembles: bank must be a boolean array of x's kind"):
        thinned.masksembles(kind(x), kind(bank * 1.0))


def test_masksembles_module_predicts_alike_in_training_and_evaluation():
    torch.manual_seed(0)
    one = thinned.torch.Masksembles(16, n=4, scale=2.0)
    x = torch.randn(3, 16, requires_grad=True)
    y = one(one.members(x)).reshape(4, 3, 16)
    assert torch.equal(one.eval()(one.members(x)).reshape(4, 3, 16), y)
    assert torch.equal(y, torch.where(one.bank[:, None], x, 0.0))
    y.sum().backward()
    assert torch.equal(x.grad, one.bank.sum(0).float().expand(3, 16))
    other = thinned.torch.Masksembles(16, n=4)
    assert not torch.equal(other.bank, one.bank)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.bank, one.bank)
    assert repr(one) == "Masksembles(16, n=4, scale=2.0, axis=1)"


# ------------------------------------------------------------------------------ rows that share


@pytest.mark.parametrize("shape", [(7, 5, 3), (9, 40000), (1, 33000), (3, 0), (0, 4)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.6])
@pytest.mark.parametrize("name", ["drop_path", "stochastic_depth"])
def test_short_ways_give_what_the_long_one_does(name, p, dtype, shape):
    """With a window the call goes the long way; so does the second derivative."""
    function = getattr(thinned, name)
    x = torch.linspace(-2.0, 2.0, int(np.prod(shape))).reshape(shape).to(getattr(torch, dtype))
    for at in addresses(6):
        whole = function(x, p, at, window=Window(0))
        assert torch.equal(function(x, p, at), whole)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        function(a, p, at).backward(x)
        function(b, p, at, window=Window(0)).backward(x)
        assert torch.equal(a.grad, b.grad)
        assert torch.equal(a.grad, whole)
    poisoned = torch.full(shape, torch.nan, dtype=x.dtype)
    np.testing.assert_array_equal(
        as_numpy(function(poisoned, p, AT)), as_numpy(function(poisoned, p, AT, window=Window(0)))
    )


# PyTorch deprecates a part of itself that its forward mode imports.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["drop_path", "stochastic_depth"])
def test_short_ways_carry_every_derivative(name):
    function = getattr(thinned, name)
    for at in addresses(3):
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        call = lambda x, at=at: function(x, 0.4, at)  # noqa: E731
        assert torch.autograd.gradcheck(call, (x,), check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(call, (x,))


def test_gamma_is_known_where_one_block_fits_and_at_the_ends():
    assert blocks.exact_gamma(0.3, (7, 7), (7, 7)) == pytest.approx(0.3, abs=1e-15)
    assert blocks.exact_gamma(0.25, (9, 4), (1, 1)) == pytest.approx(0.25, abs=1e-15)
    assert (blocks.exact_gamma(0.0, (9,), (4,)), blocks.exact_gamma(1.0, (9,), (4,))) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax.numpy"])
def test_noise_in_the_blocks(name):
    """Kept elements are x, dropped ones standard normal: nothing is rescaled."""
    array = np if name == "numpy" else library(name)
    x = np.full((6, 4, 20, 20), 7.0, np.float32)
    at, how = thinned.Address(seed=2), {"block_size": 5}
    gone = thinned.drop_block(x, 0.3, at, **how) == 0
    y = np.asarray(thinned.drop_block(array.asarray(x), 0.3, at, with_noise=True, **how))
    assert (y[~gone] == 7).all()
    noise = y[gone]
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 4 / np.sqrt(2 * noise.size)
    half = np.asarray(thinned.drop_block(x.astype(np.float16), 0.3, at, with_noise=True, **how))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, y, atol=2e-3)
