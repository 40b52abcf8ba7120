"""Adopted models on a GPU: the masks of the CPU. Every test here needs one, and skips by name."""

import io

import pytest
import torch
from attended import MASKS, inputs, ours
from observed import batch, build
from torch import nn

import thinned
from thinned.torch import adopt, thin

pytestmark = pytest.mark.cuda


def masks(device, wrap=lambda model: model, steps=3):
    model = build().to(device)
    clock = adopt(model, seed=4).clock
    call, x, found = wrap(model), batch().to(device), []
    for _ in range(steps):
        for _ in range(2):
            # A CUDA graph writes into the memory of its last run: nothing of that is to be left.
            torch.compiler.cudagraph_mark_step_begin()
            model.zero_grad()
            y, kept = call(x)
            y.square().sum().backward()
            found += [mask.cpu() for mask in kept]
        clock.tick()
    return found


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor(mode):
    torch._dynamo.reset()
    found = masks("cuda", lambda model: torch.compile(model, fullgraph=True, mode=mode))
    assert all(map(torch.equal, found, masks("cpu")))


def test_a_run_goes_on_on_another_device():
    model = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5)).cuda()
    clock = adopt(model, seed=4).clock
    clock.tick()
    kept = io.BytesIO()
    torch.save(model.state_dict(), kept)
    here = model(batch().cuda()) != 0
    twin = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5))
    adopt(twin, seed=9)
    kept.seek(0)
    twin.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True))
    assert torch.equal(here.cpu(), twin(batch()) != 0)


def test_a_step_that_the_scaler_skips_does_not_count():
    model = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clock = adopt(model, optimizer=optimizer).clock
    scaler = torch.amp.GradScaler("cuda", init_scale=16.0)
    for poison, steps in [(float("inf"), 0), (1.0, 1), (float("nan"), 1), (1.0, 2)]:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = model(batch().cuda()).sum() * poison
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert clock.step == steps


@pytest.mark.parametrize("name", MASKS)
def test_attention(name):
    arrays, mask = inputs(), MASKS[name](2, 3, 7, 9)
    given = None if mask is None else mask.detach()
    results = []
    for device in ("cpu", "cuda"):
        q, k, v = (x.detach().to(device).requires_grad_() for x in arrays)
        y = ours(q, k, v, None if given is None else given.to(device))
        y.square().sum().backward()
        results.append([x.detach().cpu() for x in (y, q.grad, k.grad, v.grad)])
    torch.testing.assert_close(*results)


def test_thin():
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Linear(6, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 3)
        ).double()
        thin(model.to(device), seed=3)
        model(batch().double().to(device)).square().sum().backward()
        results.append([p.grad.cpu() for p in model.parameters()])
    torch.testing.assert_close(*results)


def test_nothing_of_the_mask_is_kept():
    model = nn.Sequential(nn.Dropout(0.5)).cuda()
    adopt(model)
    x = torch.randn(4096, 256, device="cuda", requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        y = model(x)
    assert kept == []
    before = torch.cuda.memory_allocated()
    del y
    torch.cuda.synchronize()
    assert before - torch.cuda.memory_allocated() == 4 * 4096 * 256  # y alone


def captured(function):
    """Run under a stream of its own, as captures want it, then while a graph is captured."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = function()
    return graph, y


def test_a_capture_without_an_address_would_keep_the_mask():
    x = torch.ones(50, 6, device="cuda")
    with pytest.raises(RuntimeError, match="captured by a CUDA graph, and every replay"):
        captured(lambda: thinned.torch.Dropout(0.5)(x))
    torch.cuda.synchronize()
    at = thinned.Address(seed=3)
    graph, y = captured(lambda: thinned.dropout(x, 0.5, at))
    graph.replay()
    assert torch.equal(y.cpu(), thinned.dropout(x.cpu(), 0.5, at))


def test_every_replay_draws_the_masks_of_its_step():
    if thinned.kernel_info().devices["cuda:0"] != "triton":
        pytest.skip("no Triton for this CUDA device")
    model, twin = (nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.3)) for _ in range(2))
    clock, other = adopt(model.cuda(), seed=4).clock, adopt(twin, seed=4).clock
    x = torch.ones(5, 6, 7, 8, device="cuda", requires_grad=True)

    def step():
        y = model(x)
        return y, torch.autograd.grad(y.sum(), x)[0]

    graph, (y, grad) = captured(step)
    seen = []
    for _ in range(3):
        clock.tick()
        other.step = clock.step
        graph.replay()
        twin(x.detach().cpu())  # the capture was the second call of its step
        leaf = x.detach().cpu().requires_grad_()
        expected = twin(leaf)
        assert torch.equal(y.detach().cpu(), expected.detach())
        assert torch.equal(grad.cpu(), torch.autograd.grad(expected.sum(), leaf)[0])
        seen.append(y.detach().clone())
    assert not torch.equal(seen[0], seen[1])


def test_a_tick_waits_for_nothing():
    model = nn.Sequential(nn.Dropout(0.5)).cuda()
    clock, x = adopt(model, seed=4).clock, torch.ones(50, device="cuda")
    model(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            clock.tick()
            model(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert clock.step == 3


def test_a_tick_is_part_of_a_graph():
    if thinned.kernel_info().devices["cuda:0"] != "triton":
        pytest.skip("no Triton for this CUDA device")
    model, twin = nn.Dropout(0.5), nn.Dropout(0.5)
    model, twin = nn.Sequential(model).cuda(), nn.Sequential(twin)
    clock, other = adopt(model, seed=4).clock, adopt(twin, seed=4).clock
    x = torch.ones(50, 60, device="cuda")

    def step():
        y = model(x)
        clock.tick()
        return y

    graph, y = captured(step)
    first = clock.step
    for k in range(3):
        graph.replay()
        other.step = first + k
        assert torch.equal(y.cpu(), twin(x.cpu()))
    assert clock.step == first + 3
    other.step = first + 3
    assert torch.equal(model(x).cpu(), twin(x.cpu()))


def test_a_whole_step_is_captured_with_its_optimizer_and_scaler():
    model = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5), nn.Linear(40, 3)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, capturable=True)
    if thinned.kernel_info().devices["cuda:0"] != "triton":
        pytest.skip("no Triton for this CUDA device")
    clock = adopt(model, seed=4, optimizer=optimizer).clock
    x = torch.ones(50, 6, device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=False)
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    graph, loss = captured(step)
    before, seen = clock.step, []
    for _ in range(4):
        graph.replay()
        seen.append(loss.item())
    assert clock.step == before + 4
    assert len(set(seen)) == 4
