"""Noise on weights beside other hands that change them: pruning, weight_norm, DataParallel."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import thinned
from thinned import Address
from thinned.torch import adopt, remove_noise, weight_drop

X = torch.eye(6)


def dropped(p=0.5, bias=False):
    torch.manual_seed(0)
    return weight_drop(nn.Linear(6, 4, bias=bias), "weight", p)


@pytest.mark.parametrize("first", ["noise", "pruning"])
def test_noise_lies_on_what_pruning_leaves(first):
    torch.manual_seed(0)
    linear = nn.Linear(6, 4, bias=False)
    makers = [
        lambda: weight_drop(linear, "weight", 0.5),
        lambda: prune.l1_unstructured(linear, "weight", amount=0.5),
    ]
    for make in makers if first == "noise" else makers[::-1]:
        make()
    adopt(linear, seed=3)
    left = linear.weight_orig * linear.weight_mask
    y = linear(X)
    noisy = thinned.weight_drop(left, 0.5, Address(3, "weight_drop"))
    torch.testing.assert_close(y.T, noisy)
    assert 0 < (y != 0).sum() < linear.weight_mask.sum()
    torch.testing.assert_close(linear.weight, left)  # what stood there stands there again
    y.sum().backward()
    assert ((linear.weight_orig.grad != 0) == (noisy != 0)).all()
    linear.eval()
    torch.testing.assert_close(linear(X).T, left)


def test_pruning_may_end_before_the_noise_does():
    linear = dropped()
    prune.l1_unstructured(linear, "weight", amount=0.5)
    linear(X)
    prune.remove(linear, "weight")
    assert (linear(X) == 0).sum() >= 12
    remove_noise(linear, "weight")
    assert torch.equal(linear(X), linear.weight.T)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_noise_lies_on_a_normalised_weight():
    linear = nn.utils.weight_norm(dropped(1.0), "weight")
    assert (linear(X) == 0).all()
    linear.weight_drop.p = 0.0
    y = linear(X)
    torch.testing.assert_close(y, linear.weight.T)
    y.square().sum().backward()
    assert (linear.weight_g.grad != 0).all()


def test_what_does_not_reach_the_forward_is_refused():
    linear = prune.l1_unstructured(nn.Linear(6, 4), "weight", amount=0.5)
    words = "^weight_drop: 'weight_orig' does not reach the module's forward, .* Name 'weight'"
    with pytest.raises(ValueError, match=words):
        weight_drop(linear, "weight_orig", 0.5)


def test_a_weight_that_was_taken_away_is_told():
    linear = nn.utils.parametrizations.weight_norm(dropped(), "weight")
    words = "^WeightDrop: 'weight' of this ParametrizedLinear is no parameter any more, .*remove_no"
    with pytest.raises(RuntimeError, match=words):
        linear(X)
    remove_noise(linear, "weight")
    assert linear(X).shape == (6, 4)


def test_a_replica_runs_itself():
    """As torch.nn.DataParallel makes them: parameters become plain tensors, on another device."""
    module = dropped(0.0, bias=True)
    replica = module._replicate_for_data_parallel()
    assert dict(replica._parameters) == {}
    for name, value in (("weight", torch.ones(4, 6)), ("bias", torch.zeros(4))):
        setattr(replica, name, value)
    assert torch.equal(replica(X), torch.ones(6, 4))
    assert torch.equal(replica.weight, torch.ones(4, 6))
    torch.testing.assert_close(module(X), module.weight.T + module.bias)
    again = replica._replicate_for_data_parallel()
    assert again.forward.__self__.module is again
    before = set(vars(nn.Linear(6, 4)))
    assert set(vars(remove_noise(module, "weight"))) == before


@pytest.mark.parametrize("put", [
    thinned.torch.weight_drop,
    thinned.torch.drop_connect,
    thinned.torch.mixout,
    thinned.torch.targeted_dropout,
], ids=lambda put: put.__name__)  # fmt: skip
def test_a_p_that_is_none_is_refused(put):
    module = nn.Linear(6, 4)
    with pytest.raises(TypeError, match=r"p must be a float in \[0, 1\], got None"):
        put(module, "weight", None)
    assert "forward" not in vars(module)


def test_a_replica_of_the_module_is_caught(monkeypatch):
    from thinned.torch.compat.covers import _Covers

    monkeypatch.setattr(
        _Covers, "replicate", lambda self: nn.Linear._replicate_for_data_parallel(self.module)
    )
    with pytest.raises(AssertionError):
        test_a_replica_runs_itself()
