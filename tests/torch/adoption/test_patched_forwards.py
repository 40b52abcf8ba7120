"""Modules of torch.nn whose forward another hand has replaced: their class's one runs within it."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import thinned.torch
from thinned.torch import adopt, release

X = torch.ones(6, 8)


def _around(module, forward):
    module.forward = lambda x: 0.5 * (forward(x) + x)


def _bound(module, forward):
    module.forward = functools.partial(lambda _, x: forward(x), module)


def _as_it_was(module, forward):
    module.forward = forward


def _twice(module, forward):
    module.forward = lambda x: functional.dropout(forward(x), 0.5, module.training)


def _hooked(module, forward):
    hooks = pytest.importorskip("accelerate.hooks")
    hooks.add_hook_to_module(module, hooks.ModelHook())


def _unhooked(module, forward):
    hooks = pytest.importorskip("accelerate.hooks")
    hooks.add_hook_to_module(module, hooks.ModelHook())
    hooks.remove_hook_from_module(module)


@pytest.mark.parametrize("patch", [_around, _bound, _as_it_was, _twice, _hooked, _unhooked])
@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout1d, nn.AlphaDropout])
def test_its_dropout_is_drawn_by_address(kind, patch):
    model = nn.Sequential(nn.Linear(8, 8), kind(0.5))
    patch(model[1], model[1].forward)
    patched = model[1].forward
    report = adopt(model, seed=0)
    (site,) = report.sites
    assert site == "1"
    x = X[None] if kind is nn.Dropout1d else X
    found = []
    for seed, step in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(seed)
        report.clock.step = step
        found.append(model(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    release(model)
    assert model[1].forward == patched
    assert type(model[1]) is kind


def test_a_module_of_our_own_is_named():
    model = nn.Sequential(thinned.torch.Dropout(0.5), nn.Dropout(0.5))
    _around(model[0], model[0].forward)
    report = adopt(model, seed=0)
    (row,) = report.not_reached
    assert row.site == "0"
    assert row.done == "not reached: a forward put in the place of that of thinned.torch.Dropout"
