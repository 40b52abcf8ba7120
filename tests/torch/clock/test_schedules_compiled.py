"""Compiled models that follow a schedule: one program for all steps, in evaluation too."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import thinned.torch
from thinned.schedules import linear
from thinned.torch import adopt
from thinned.torch.clock.stamp import stamp


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def two_layers():
    return thinned.torch.LayerDrop([nn.Linear(6, 6), nn.Linear(6, 6)], 0.2)


def with_weights(method):
    layer = nn.Linear(6, 6)
    getattr(thinned.torch, method)(layer, "weight", p=0.2)
    return layer


MODULES = {
    "DropPath": lambda: thinned.torch.DropPath(0.2),
    "StochasticDepth": lambda: thinned.torch.StochasticDepth(0.2),
    "ShakeDrop": lambda: thinned.torch.ShakeDrop(0.2),
    "GaussianDropout": lambda: thinned.torch.GaussianDropout(0.2),
    "DropBlock": lambda: thinned.torch.DropBlock(0.2, block_size=2),
    "DropConnectLinear": lambda: thinned.torch.DropConnectLinear(6, 6, p=0.2),
    "LayerDrop": two_layers,
    "GRU": lambda: thinned.torch.GRU(6, 6, 2, p=0.2, input_p=True, zoneout_hidden_p=True),
    "drop_connect": lambda: with_weights("drop_connect"),
    "mixout": lambda: with_weights("mixout"),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_new_step_is_no_new_program(name, training):
    torch.manual_seed(0)
    model = nn.Sequential(MODULES[name]())
    rule = linear(0.1, 0.4, until=40)
    clock = adopt(model, schedule={"*": rule}, steps=100).clock
    model.train(training)
    twin = copy.deepcopy(model)
    compiler = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=compiler)
    x = torch.randn((3, 2, 6, 6) if name == "DropBlock" else (4, 3, 6))
    for _ in range(4):
        found, expected = compiled(x), twin(x)
        found, expected = (y[0] if isinstance(y, tuple) else y for y in (found, expected))
        torch.testing.assert_close(found, expected)
        clock.tick()
        twin.thinned_adoption.clock.tick()
    assert compiler.frame_count == 1


def test_an_evaluation_that_needs_p_has_that_of_the_step():
    """Who writes into the buffer, as a checkpoint does, moves it too."""
    torch.manual_seed(0)
    model = nn.Sequential(thinned.torch.DropConnectLinear(6, 6, p=0.2, inference="mean"))
    adopt(model, schedule={"*": linear(0.0, 0.5, until=10)})
    compiled = torch.compile(model.eval(), fullgraph=True, backend="eager")
    x = torch.randn(4, 6)
    for step in (0, 5, 10):
        model.thinned_clock.copy_(torch.tensor(stamp(0, step)))
        torch.testing.assert_close(compiled(x), model[0](x))
    plain = nn.functional.linear(x, model[0].weight, model[0].bias)
    torch.testing.assert_close(compiled(x), plain / 2)


def test_a_schedule_that_comes_to_a_refused_p_is_refused_at_adoption():
    def noise():
        return nn.Sequential(thinned.torch.GaussianDropout(0.5))

    model = noise()
    with pytest.raises(ValueError, match=r"site '0': linear\(.* comes to p = 1 on step 3\. Gaus"):
        adopt(model, schedule={"0": linear(0.5, 1.0, until=3)})
    assert not model.state_dict()
    assert adopt(model, schedule={"0": linear(0.5, 0.9, until=3)}).sites == ("0",)
    # Of a function of one's own nothing is known but the steps that there are.
    growing = {"0": lambda step, steps: step / 10}
    assert adopt(noise(), schedule=growing).sites == ("0",)
    with pytest.raises(ValueError, match="comes to p = 1 on step 10"):
        adopt(noise(), schedule=growing, steps=11)


def test_fault_p_stands_in_the_program(monkeypatch):
    monkeypatch.setattr(
        thinned.torch.adoption.module.Sited, "quiet_p", property(lambda self: self.own_p)
    )
    with pytest.raises(AssertionError):
        test_an_evaluation_that_needs_p_has_that_of_the_step()
