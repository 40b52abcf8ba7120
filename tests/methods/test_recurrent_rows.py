"""What the battery does not ask of the recurrent rows and of the alpha pair."""

import numpy as np
import pytest
from libraries import library

import thinned
from thinned import Address
from thinned.methods import find

torch = library("torch")
functional = library("thinned.torch.functional")

AT = Address(seed=4, site="rows", step=2)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_alpha_pair_is_torchs_functions_bit_for_bit(p, dtype):
    torch.manual_seed(0)
    x = torch.randn(4, 5, 6).to(dtype)
    for name in ("alpha_dropout", "feature_alpha_dropout"):
        ours, theirs = getattr(thinned, name), getattr(functional, name)
        assert torch.equal(ours(x, p, AT), theirs(x, p, True, at=AT))


def test_the_constants_are_the_papers():
    y = np.unique(thinned.alpha_dropout(np.zeros(4000), 0.1, AT))
    a, b = 0.921285, 0.161971
    np.testing.assert_allclose(y, [b - 1.7580993408473766 * a, b], atol=2e-6)


def test_alpha_dropout_keeps_mean_and_variance_of_a_standard_normal():
    x = np.random.default_rng(0).standard_normal(400_000)
    for p in (0.05, 0.3, 0.8):
        y = thinned.alpha_dropout(x, p, AT)
        # Six standard errors of a mean and of a variance, the fourth moment being below 10.
        assert abs(y.mean()) < 6 / np.sqrt(x.size)
        assert abs(y.var() - 1) < 6 * np.sqrt(9 / x.size)


def test_alpha_dropout_of_what_is_not_finite():
    x = np.array([np.nan, np.inf, 1.0])
    assert (thinned.alpha_dropout(x, 1.0, AT) == 0).all()
    keep = thinned.keep_mask(64, 0.5, AT)
    y = thinned.alpha_dropout(np.where(keep, 0.0, np.nan), 0.5, AT)
    assert np.isfinite(y).all()


def test_locked_is_one_mask_in_both_layouts():
    x = np.random.default_rng(1).standard_normal((3, 4, 5))
    y = thinned.locked_dropout(x, 0.4, AT)
    turned = thinned.locked_dropout(x.transpose(1, 0, 2), 0.4, AT, time_axis=0)
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), y)
    keep = thinned.keep_mask((3, 5), 0.4, AT)[:, None]
    np.testing.assert_allclose(y, np.where(keep, x / 0.6, 0))


def test_recurrent_dropout_leaves_memory_alone():
    """A cell step with the candidate dropped whole keeps f c."""
    f, c, g = (np.random.default_rng(i).random(5) for i in range(3))
    assert (f * c + thinned.recurrent_dropout(g, 1.0, AT) == f * c).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zoneouts_gradient_goes_where_the_value_came_from(dtype):
    new, old = (torch.randn(6, 5).to(dtype).requires_grad_() for _ in range(2))
    y = thinned.zoneout(new, old, 0.4, AT)
    keep = thinned.keep_mask((6, 5), 0.4, AT, like=new)
    assert torch.equal(y, torch.where(keep, new, old))
    dnew, dold = torch.autograd.grad(y.sum(), (new, old))
    assert torch.equal(dnew, keep.to(dtype))
    assert torch.equal(dold, (~keep).to(dtype))
    quiet = thinned.zoneout(new, old, 0.4, AT, training=False)
    dnew, dold = torch.autograd.grad(quiet.sum(), (new, old))
    torch.testing.assert_close(dnew, torch.full_like(new, 0.6))
    torch.testing.assert_close(dold, torch.full_like(old, 0.4))


def test_zoneouts_ends():
    new, old = np.array([np.nan, 1.0]), np.array([2.0, np.inf])
    for training in (True, False):
        np.testing.assert_array_equal(thinned.zoneout(new, old, 0.0, AT, training), new)
        np.testing.assert_array_equal(thinned.zoneout(new, old, 1.0, AT, training), old)


def test_refusals():
    x = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"^zoneout: h_previous must be .* \(3, 4\), got .*\(4,\)"):
        thinned.zoneout(x, x[0], 0.5, AT)
    with pytest.raises(TypeError, match=r"^zoneout: h_previous must be .*, got float"):
        thinned.zoneout(x, 0.5, 0.5, AT)
    with pytest.raises(
        ValueError, match=r"^locked_dropout: x must be of shape .*, got shape \(3,\)"
    ):
        thinned.locked_dropout(np.zeros(3), 0.5, AT)
    for training in (True, False):
        with pytest.raises(
            ValueError, match=r"^locked_dropout: time_axis must be .*\[0, 2\), got 2"
        ):
            thinned.locked_dropout(x, 0.5, AT, training, time_axis=2)
    with pytest.raises(
        ValueError, match=r"^feature_alpha_dropout: x must be of shape .*alpha_dropout"
    ):
        thinned.feature_alpha_dropout(np.zeros(3), 0.5, AT)


@pytest.mark.parametrize(("known", "name"), [
    ("LockedDropout", "locked_dropout"),
    ("InputVariationalDropout", "locked_dropout"),
    ("RNNDropout", "locked_dropout"),
    ("ZoneoutCell", "zoneout"),
    ("nn.AlphaDropout", "alpha_dropout"),
    ("functional.feature_alpha_dropout", "feature_alpha_dropout"),
])  # fmt: skip
def test_found_by_others_names(known, name):
    assert find(known).name == name
