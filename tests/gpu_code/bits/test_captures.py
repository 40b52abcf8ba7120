"""CUDA graphs of adopted models, played by hand: launches are recorded, and made again."""

from functools import partial

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from torch import nn

import thinned
from thinned.backends.torch.triton import attending, launch
from thinned.torch import adopt
from thinned.torch.clock import clock as clock_room
from thinned.torch.clock.stamp import advance


class Graph:
    """What torch.cuda.CUDAGraph is to the kernels: the same arguments, and memory as it is then."""

    def __init__(self, monkeypatch):
        self.calls, self.monkeypatch = [], monkeypatch

    def capture(self, function):
        def recorded(real):
            def run(*arguments, **how):
                self.calls.append((partial(real, **how), arguments))
                return real(*arguments, **how)

            return run

        with self.monkeypatch.context() as patch:
            patch.setattr(launch, "drop", recorded(launch.drop))
            patch.setattr(attending, "attend", recorded(attending.attend))
            # A capture runs nothing, and so the step stays.
            patch.setattr(clock_room, "advance", lambda *a: self.calls.append((advance, a)))
            for room in ("adoption.site", "clock.clock", "compat.recording"):
                patch.setattr(f"thinned.torch.{room}.capturing", lambda: True)
            return function()

    def replay(self):
        for function, arguments in self.calls:
            with torch.no_grad():
                function(*arguments)


@pytest.fixture
def graph(monkeypatch):
    return Graph(monkeypatch)


def test_every_replay_draws_the_masks_of_its_step(graph, on_cpu):
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5))
    clock = adopt(model, seed=3).clock
    x = torch.ones(2, 3, 4, 5, requires_grad=True)

    def step():
        y = model(x)
        return y, torch.autograd.grad(y.sum(), x)[0]

    y, grad = graph.capture(step)
    assert len(graph.calls) == 4  # one launch a site, forward and backward
    seen = [y.detach().clone()]
    for _ in range(2):
        clock.tick()
        graph.replay()
        expected = on_cpu(step)
        assert torch.equal(y, expected[0])
        assert torch.equal(grad, expected[1])
        seen.append(y.detach().clone())
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


class Attend(nn.Module):
    def forward(self, q):
        return nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5)


def test_attention_of_an_adopted_model_is_captured(graph, on_cpu, monkeypatch):
    monkeypatch.setattr(attending, "tile_of", lambda *_: attending.Tile(16, 32, 4, 1))
    model = Attend()
    clock = adopt(model, seed=3).clock
    q, seen = torch.randn(1, 2, 8, 16).half(), []
    y = graph.capture(lambda: model(q))
    assert len(graph.calls) == 1
    for _ in range(2):
        clock.tick()
        graph.replay()
        torch.testing.assert_close(y, on_cpu(lambda: model(q)), rtol=2e-3, atol=2e-3)
        seen.append(y.clone())
    assert not torch.equal(*seen)


def test_what_a_replay_could_not_draw_is_refused(graph):
    model = nn.Sequential(nn.Dropout(0.5))
    clock = adopt(model, seed=3).clock
    ramp = nn.Sequential(nn.Dropout(0.5))
    ramp_clock = adopt(
        ramp, seed=3, schedule={"*": thinned.schedules.linear(0.0, 0.5)}, steps=9
    ).clock
    with pytest.raises(
        RuntimeError, match="captured by a CUDA graph, and its p follows a schedule"
    ):
        graph.capture(lambda: ramp(torch.ones(4)))
    with pytest.raises(RuntimeError, match=r"Clock\.tick: .*a p follows a schedule"):
        graph.capture(ramp_clock.tick)
    with pytest.raises(RuntimeError, match="dropout without an address is captured"):
        graph.capture(lambda: thinned.torch.Dropout(0.5)(torch.ones(4)))
    model.float().thinned_clock = torch.zeros(4, dtype=torch.int32)
    assert clock.live_step(torch.device("cpu")) is None
    with pytest.raises(RuntimeError, match=r"Clock\.tick: .*or call tick after each replay"):
        graph.capture(clock.tick)


def stepped(scaled=False):
    """A model, its clock, and a step of training, optimizer and all."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=True)
    clock = adopt(model, seed=3, optimizer=optimizer).clock
    if scaled:
        optimizer.found_inf = torch.zeros(1)
    x = torch.ones(4, 6)

    def step():
        y = model[2](model[0](x)[:, :3])
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        return y.detach()

    return model, optimizer, clock, step


def test_a_tick_is_part_of_a_graph(graph, on_cpu):
    """Two steps of training in one graph; what is eager afterwards goes on where replays ended."""
    model, _, clock, step = stepped()
    step()
    assert clock.step == 1
    first, second = graph.capture(lambda: (step(), step()))
    assert clock.step == 1
    twin, _, other, again = stepped()
    for replay in range(2):
        graph.replay()
        for k, y in enumerate((first, second)):
            other.step = 1 + 2 * replay + k
            assert torch.equal(y, on_cpu(again))
    assert clock.step == 5
    other.step = 5
    assert torch.equal(step(), on_cpu(again))  # calls count from 0 again
    assert clock.step == 6
    clock.tick()
    assert (clock.step, clock.seed) == (7, 3)
    graph.replay()
    twin.load_state_dict(model.state_dict())
    assert other.step == clock.step == 9


def test_a_captured_step_that_the_scaler_skips_does_not_count(graph):
    _, optimizer, clock, step = stepped(scaled=True)
    graph.capture(step)
    for poison, steps in ((0.0, 1), (1.0, 1), (0.0, 2)):
        optimizer.found_inf.fill_(poison)
        graph.replay()
        assert clock.step == steps
