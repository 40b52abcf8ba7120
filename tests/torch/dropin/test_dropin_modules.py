"""The modules in torch.nn's place: whatever a program may do with those, it does with these."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import thinned.torch

NAMES = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
SHAPES = {
    "Dropout": (1000,),
    "Dropout1d": (40, 25, 3),
    "Dropout2d": (40, 25, 2, 3),
    "Dropout3d": (40, 25, 2, 3, 2),
    "AlphaDropout": (1000,),
    "FeatureAlphaDropout": (40, 25, 2, 3),
}
every_module = pytest.mark.parametrize("name", NAMES)


def ours(name, *args, **how):
    return getattr(thinned.torch, name)(*args, **how)


def theirs(name, *args, **how):
    return getattr(nn, name)(*args, **how)


# ------------------------------------------------------------------------------------ what they are


@every_module
def test_they_are_torchs_own_classes_too(name):
    module = ours(name, 0.3)
    assert isinstance(module, getattr(nn, name))
    assert isinstance(module, nn.modules.dropout._DropoutNd)


@every_module
@pytest.mark.parametrize("args", [(), (0.3,), (0.3, True), (0,), (1,)])
def test_repr_and_attributes(name, args):
    module, other = ours(name, *args), theirs(name, *args)
    assert repr(module) == repr(other)
    assert (module.p, module.inplace, module.training) == (other.p, other.inplace, other.training)


@every_module
def test_arguments_may_be_named(name):
    module = ours(name, p=0.25, inplace=True)
    assert (module.p, module.inplace) == (0.25, True)


@every_module
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), float("inf"), 50])
def test_p_outside_its_range_is_an_error(name, p):
    with pytest.raises(ValueError, match=rf"^{name}: p must be a float in \[0, 1\], got "):
        ours(name, p)


@every_module
def test_copies_behave_alike(name):
    module = ours(name, 0.3, True).eval()
    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    for again in (
        copy.copy(module),
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stored, weights_only=False),
    ):
        assert type(again) is type(module)
        assert repr(again) == repr(module)
        assert again.training is False
        assert again.inplace is True


def network(make):
    return nn.Sequential(
        nn.Linear(4, 8), make("Dropout", 0.5), nn.ReLU(), make("AlphaDropout", 0.1), nn.Linear(8, 2)
    )


def test_state_dicts_go_both_ways():
    mine, other = network(ours), network(theirs)
    assert list(mine.state_dict()) == list(other.state_dict())
    mine.load_state_dict(other.state_dict(), strict=True)
    x = torch.randn(3, 4)
    torch.testing.assert_close(mine.eval()(x), other.eval()(x), rtol=0, atol=0)
    other = network(theirs)
    other.load_state_dict(mine.state_dict(), strict=True)
    torch.testing.assert_close(mine.eval()(x), other.eval()(x), rtol=0, atol=0)


def test_hooks_run():
    module, seen = ours("Dropout", 0.5), []
    module.register_forward_pre_hook(lambda m, args: seen.append("before"))
    module.register_forward_hook(lambda m, args, y: seen.append("after"))
    module.register_full_backward_hook(lambda m, dx, dy: seen.append("backward"))
    module(torch.ones(8, requires_grad=True)).sum().backward()
    assert seen == ["before", "after", "backward"]


def test_a_subclass_may_change_p_on_the_way():
    module = ours("Dropout", 0.5)
    for p, expected in ((0.0, 1.0), (1.0, 0.0)):
        module.p = p
        assert (module(torch.ones(50)) == expected).all()


# ------------------------------------------------------------------------------------- what they do


@every_module
def test_evaluation_gives_the_input_itself(name):
    x = torch.randn(SHAPES[name])
    for inplace in (False, True):
        module = ours(name, 0.5, inplace).eval()
        assert module(x) is x
        module.train()
        assert module(x.clone()) is not x
    assert ours(name, 0.0)(x) is x


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_share_and_mean(name, p):
    """A thousand draws in each: five standard deviations around what the law says."""
    torch.manual_seed(0)
    x = torch.full(SHAPES[name], 10.0)
    y = ours(name, p)(x)
    draws = y.flatten(2)[..., 0] if x.dim() > 1 else y
    spread = 5.0 * (p * (1.0 - p) / 1000) ** 0.5
    assert abs((draws == 0.0).double().mean().item() - p) < spread
    assert abs(y.mean().item() - 10.0) < 10.0 * spread / (1.0 - p)
    if x.dim() > 1:
        assert (y.flatten(2) == y.flatten(2)[..., :1]).all()


@pytest.mark.parametrize("name", ["AlphaDropout", "FeatureAlphaDropout"])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.1, 0.5), (-1.0, 2.0)])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_alpha_moments(name, mean, deviation, p):
    """The moments of a(x m + alpha' (1 - m)) + b; for standard inputs they are 0 and 1."""
    torch.manual_seed(1)
    x = mean + deviation * torch.randn(200, 500)
    y = ours(name, p)(x)
    q, alpha = 1.0 - p, -1.7580993408473766
    a = (q * (1.0 + p * alpha**2)) ** -0.5
    expected_mean = a * (q * mean + p * alpha) - a * alpha * p
    second = q * (mean**2 + deviation**2) + p * alpha**2
    expected_variance = a * a * (second - (q * mean + p * alpha) ** 2)
    assert abs(y.mean().item() - expected_mean) < 0.03 * max(1.0, deviation)
    assert abs(y.var().item() / expected_variance - 1.0) < 0.03
    if (mean, deviation) == (0.0, 1.0):
        assert abs(expected_mean) < 1e-12
        assert abs(expected_variance - 1.0) < 1e-12


def test_feature_alpha_drops_whole_channels():
    torch.manual_seed(2)
    x = torch.zeros(30, 40, 3, 4)
    y = ours("FeatureAlphaDropout", 0.4)(x).flatten(2)
    assert (y == y[..., :1]).all()
    assert 0.3 < (y[..., 0] < 0.0).double().mean() < 0.5


@every_module
def test_inplace_writes_and_gives_back_the_input(name):
    """But for the alpha dropouts, which take the flag and leave the input alone, as torch.nn's."""
    x = torch.randn(SHAPES[name])
    torch.manual_seed(3)
    expected = ours(name, 0.4)(x)
    torch.manual_seed(3)
    y = x.clone()
    z = ours(name, 0.4, inplace=True)(y)
    torch.testing.assert_close(z, expected, rtol=0, atol=0)
    writes = not name.endswith("AlphaDropout")
    assert (z is y) == (getattr(nn, name)(0.4, inplace=True)(x_ := x.clone()) is x_) == writes
    assert torch.equal(y, z if writes else x)


@every_module
def test_manual_seed_rules_the_mask(name):
    module, x = ours(name, 0.5), torch.randn(SHAPES[name])
    torch.manual_seed(5)
    first, second = module(x), module(x)
    torch.manual_seed(5)
    assert torch.equal(module(x), first)
    assert torch.equal(module(x), second)
    assert not torch.equal(first, second)


@every_module
def test_the_saved_state_of_the_generator_repeats_a_mask(name):
    module, x = ours(name, 0.5), torch.randn(SHAPES[name])
    state = torch.get_rng_state()
    first = module(x)
    torch.set_rng_state(state)
    assert torch.equal(module(x), first)


@every_module
def test_one_call_draws_one_number(name):
    """A seed drawn twice, in backward too, would move the generator further than one."""
    x = torch.randn(SHAPES[name], requires_grad=True)
    torch.manual_seed(6)
    torch.empty((), dtype=torch.int64).random_(-(2**63), 2**63 - 1)
    after_one = torch.get_rng_state()
    torch.manual_seed(6)
    ours(name, 0.5)(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), after_one)


# ------------------------------------------------------------------------------- ranks and warnings


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Dropout1d", (30, 4)), ("Dropout3d", (30, 2, 3, 4))],
)
def test_without_a_batch_the_first_axis_is_the_channels(name, shape):
    torch.manual_seed(7)
    y = ours(name, 0.5)(torch.ones(shape)).flatten(1)
    assert (y == y[:, :1]).all()
    assert 0 < (y[:, 0] == 0).sum() < 30
    at = thinned.Address(seed=1)
    function = getattr(thinned.torch.functional, name.lower())
    whole = function(torch.ones(1, *shape), 0.5, True, at=at)[0]
    assert torch.equal(function(torch.ones(shape), 0.5, True, at=at), whole)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4, 5)])
def test_dropout1d_refuses_other_ranks(shape):
    with pytest.raises(RuntimeError, match=r"^dropout1d: input must be of shape"):
        ours("Dropout1d", 0.5)(torch.ones(shape))
    with pytest.raises(RuntimeError):
        theirs("Dropout1d", 0.5)(torch.ones(shape))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Dropout2d", (5, 6)),
        ("Dropout2d", (5, 6, 7)),
        ("Dropout2d", (2, 3, 4, 5, 6)),
        ("Dropout3d", (5, 6)),
        ("Dropout3d", (5, 6, 7)),
        ("Dropout3d", (2, 3, 4, 5, 6, 7)),
    ],
)
def test_other_ranks_warn_as_torch_does(name, shape):
    with pytest.warns(UserWarning, match=rf"^{name.lower()}: Received a .*D input") as seen:
        theirs(name, 0.5)(torch.ones(shape))
    assert len(seen) == 1
    with pytest.warns(UserWarning, match=rf"^{name.lower()}: a {len(shape)}-D input") as seen:
        y = ours(name, 0.5)(torch.ones(shape))
    assert len(seen) == 1
    flat = y.flatten(2) if len(shape) > 2 else y.unsqueeze(-1)
    assert (flat == flat[..., :1]).all()  # (N, C, ...) as there


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout2d", "Dropout3d"])
def test_the_right_ranks_do_not_warn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(name, 0.5)(torch.ones(SHAPES[name]))


@pytest.mark.parametrize("shape", [(), (4,)])
def test_features_need_two_axes(shape):
    with pytest.raises(RuntimeError, match=r"^feature_alpha_dropout: input must be of shape"):
        ours("FeatureAlphaDropout", 0.5)(torch.ones(shape))


@every_module
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_types_without_a_dropout(name, dtype):
    if dtype.is_complex and "Alpha" not in name:
        pytest.skip("complex numbers have dropout, if not alpha dropout")
    with pytest.raises(TypeError, match=r"x must be of type float16, bfloat16, float32 or float64"):
        ours(name, 0.5)(torch.ones(SHAPES[name], dtype=dtype))
