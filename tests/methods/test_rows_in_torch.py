"""What the table says of thinned.torch, and what its modules refuse before there is an array."""

import math

import pytest
import torch

import thinned.torch
from thinned.methods import every
from thinned.torch.layers.from_rows import made

from .garden import MODULES
from .trying import name_of


@pytest.mark.parametrize("row", every(), ids=name_of)
def test_places_in_torch_are_told(row):
    for name in (*row.in_torch, *((row.module,) if row.module else ())):
        assert name in thinned.torch.__all__


def test_what_puts_noise_on_weights_is_named_by_a_row():
    named = {name for row in every() for name in row.in_torch}
    assert set(thinned.torch.layers.weights.__all__) - {"WeightNoise", "remove_noise"} <= named


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_refuses_its_options_when_it_is_made(name):
    row = MODULES[name]
    p = (0.3,) if row.has_p else ()
    for option in row.options:
        wrong = {**row.sample.options, option: object()}
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: .*\b{option}\b.* must be "):
            made()[name](*p, **wrong)
    with pytest.raises(TypeError, match=rf"^{name}: options are keyword-only, got 7"):
        made()[name](*p, 7, **row.sample.options)
    if row.has_p:
        with pytest.raises(TypeError, match=rf"^{name}: p must be .*, got None"):
            made()[name](None, **row.sample.options)


@pytest.mark.parametrize(("make", "words"), [
    (lambda m: m.DropBlock(gamma="x"), "DropBlock: gamma must be 'exact' or 'paper', got 'x'"),
    (lambda m: m.DropBlock(block_size=0), "DropBlock: block_size must be an integer in [1, "),
    (lambda m: m.DropBlock(block_size=(3, 0)), "DropBlock: block_size must be an integer in [1, "),
    (lambda m: m.Cutout(fill=math.nan), "Cutout: fill must be a finite number, got nan"),
    (lambda m: m.DropConnectLinear(3, 4, inference="x"), "DropConnectLinear: inference must be"),
    (lambda m: m.DropConnectLinear(3, 4, activation="gelu"),
     "DropConnectLinear: activation must be 'relu', a callable or None, got 'gelu'. Pass another"),
    (lambda m: m.LoRALinear(torch.nn.Linear(3, 4), 2, alpha=math.nan),
     "LoRALinear: alpha must be a finite number, got nan"),
    (lambda m: m.SparseVariationalLinear(3, 4, threshold=math.nan),
     "SparseVariationalLinear: threshold must be a finite number, got nan"),
    (lambda m: m.SparseVariationalConv2d(3, 4, 3, threshold=math.inf),
     "SparseVariationalConv2d: threshold must be a finite number, got inf"),
    (lambda m: m.ConcreteDropout(features=3, temperature=0), "ConcreteDropout: temperature must"),
    (lambda m: m.HardConcrete(3, temperature=-1), "HardConcrete: temperature must be"),
    (lambda m: m.Masksembles(8, axis=0), "Masksembles: axis must be another axis than 0"),
    (lambda m: m.LayerDrop([], None), "LayerDrop: p must be a float in [0, 1], got None"),
    (lambda m: m.DropGrad(None), "DropGrad: p must be a float in [0, 1], got None"),
    (lambda m: m.DropEdge(None), "DropEdge: p must be a float in [0, 1], got None"),
])  # fmt: skip
def test_modules_written_by_hand_refuse_theirs_too(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make(thinned.torch)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("name", ["GaussianDropout", "UniformDropout"])
def test_a_law_without_a_member_at_one_is_refused_when_it_is_made(name):
    with pytest.raises(ValueError, match=rf"^{name}: p must be below 1, .*, got 1\.$"):
        made()[name](1.0)
    module = made()[name](0.3)
    for ask in (module.require_p, lambda p: setattr(module, "p", p)):
        with pytest.raises(ValueError, match=rf"^{name}: p must be below 1"):
            ask(1)
    assert module.p == 0.3
    made()["DropPath"](0.3).require_p(1.0)


def test_a_module_without_a_p_says_so():
    module = thinned.torch.ShakeShake(level="batch")
    assert (repr(module), module.p, module.own_p) == ("ShakeShake(level='batch')", None, None)
    with pytest.raises(AttributeError, match=r"^ShakeShake: there is no p to set\.$"):
        module.p = 0.3
    with pytest.raises(TypeError, match=r"keyword-only, got 'batch', and there is no p\."):
        thinned.torch.ShakeShake("batch")
    model = torch.nn.ModuleList([module, thinned.torch.Dropout(0.3)])
    assert "0     ShakeShake  its own  addressed" in str(thinned.torch.adopt(model, seed=3))
    thinned.torch.release(model)
    with pytest.raises(ValueError, match="matches site '0', whose p no schedule can move"):
        thinned.torch.adopt(model, schedule={"[01]": 0.1})
    report = thinned.torch.adopt(model, schedule={"*": 0.1})
    assert [row.done for row in report.rows] == [
        "addressed, p follows no schedule", "addressed, p by constant(p=0.1)",
    ]  # fmt: skip
