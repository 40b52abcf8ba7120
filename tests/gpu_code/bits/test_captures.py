"""CUDA graphs of adopted models, played by hand: launches are recorded, and made again."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from torch import nn

import thinned
from thinned.backends.torch.triton import launch
from thinned.torch import adopt


class Graph:
    """What torch.cuda.CUDAGraph is to the kernels: the same arguments, and memory as it is then."""

    def __init__(self, monkeypatch):
        self.calls, self.monkeypatch = [], monkeypatch

    def capture(self, function):
        real = launch.drop

        def recorded(*arguments):
            self.calls.append(arguments)
            real(*arguments)

        with self.monkeypatch.context() as patch:
            patch.setattr(launch, "drop", recorded)
            for room in ("adoption.site", "clock.clock", "compat.recording"):
                patch.setattr(f"thinned.torch.{room}.capturing", lambda: True)
            return function()

    def replay(self):
        for arguments in self.calls:
            launch.drop(*arguments)


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


def test_what_a_replay_could_not_draw_is_refused(graph):
    model = nn.Sequential(nn.Dropout(0.5))
    clock = adopt(model, seed=3).clock
    with pytest.raises(RuntimeError, match=r"Clock\.tick: .*tick after each replay"):
        graph.capture(clock.tick)
    ramp = nn.Sequential(nn.Dropout(0.5))
    adopt(ramp, seed=3, schedule={"*": thinned.schedules.linear(0.0, 0.5)}, steps=9)
    with pytest.raises(
        RuntimeError, match="captured by a CUDA graph, and its p follows a schedule"
    ):
        graph.capture(lambda: ramp(torch.ones(4)))
    with pytest.raises(RuntimeError, match="dropout without an address is captured"):
        graph.capture(lambda: thinned.torch.Dropout(0.5)(torch.ones(4)))
    model.float().thinned_clock = torch.zeros(4, dtype=torch.int32)
    assert clock.live_step(torch.device("cpu")) is None
