"""Operators, programs, checkpoints and transforms over the kernels: as over the C++ kernel."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from torch import nn
from torch.utils.checkpoint import checkpoint

import thinned
import thinned.torch.attention.flash  # registers operators
from thinned.backends.torch import wire
from thinned.backends.torch.triton import attending, launch
from thinned.torch import (
    adopt,
    functional as F,  # noqa: N812 - the field's name for it
)

AT = thinned.Address(seed=11, site="here", step=4, call=2)
NOISED = torch.ops.thinned.noised.default


def x_and_words(*shape):
    x = torch.randn(shape, requires_grad=True)
    steps = torch.empty(shape).stride()
    return x, wire.pack_place(AT, 5, steps), wire.pack_rate(2**30, 4 / 3)


def test_opcheck():
    x, words, rate = x_and_words(3, 40)
    for dtype in (torch.float32, torch.bfloat16):
        leaf = x.detach().to(dtype).requires_grad_()
        torch.library.opcheck(NOISED, (leaf, words, rate, 0.0, False, "bernoulli"))
    told = torch.ops.thinned.told.default
    how = (words, rate, 0.0, False, x.shape, (), x.device)
    torch.library.opcheck(told, how)
    heard = (x.detach(), told(*how), (), False, None)
    torch.library.opcheck(torch.ops.thinned.heard.default, heard)
    torch.library.opcheck(torch.ops.thinned.heard_bits.default, (told(*how), 120))


def test_opcheck_of_attention(monkeypatch):
    monkeypatch.setattr(attending, "tile_of", lambda *_: attending.Tile(16, 32, 4, 1))
    arrays = [torch.randn(1, 2, n, 16, dtype=torch.float16) for n in (5, 7, 7)]
    words = wire.pack_place(AT, 0, (70, 35, 7, 1))
    draw = (words, wire.pack_rate(2**31, 2.0), 0.25, True, False)
    leaves = [x.clone().requires_grad_() for x in arrays]
    torch.library.opcheck(torch.ops.thinned.flash.default, (*leaves, None, *draw))
    out, lse = torch.ops.thinned.flash.default(*arrays, None, *draw)
    given = (out, *arrays, None, out, lse, *draw)
    torch.library.opcheck(torch.ops.thinned.flash_backward.default, given)


def model():
    torch.manual_seed(0)
    layers = nn.Linear(6, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 30), nn.Dropout(0.2)
    return nn.Sequential(*layers)


def trained(wrap, steps=3):
    """Outputs and gradients of some steps of an adopted model; and the frames compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    inner = model()
    clock = adopt(inner, seed=4).clock
    call, x, found = wrap(inner), torch.linspace(-1, 1, 48).reshape(8, 6), []
    for _ in range(steps):
        inner.zero_grad()
        y = call(x)
        y.square().sum().backward()
        found += [y.detach().clone(), *(p.grad.clone() for p in inner.parameters())]
        clock.tick()
    return found, torch._dynamo.utils.counters["stats"]["unique_graphs"]


def alike(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("how", ["eager", "aot_eager", "inductor", "cuda graphs", "checkpoint"])
def test_an_adopted_model_trains(how, on_cpu, monkeypatch):
    seen = []
    for name, place in (("drop", 3), ("mask_words", 1)):  # where each is told which draws
        run = getattr(launch, name)

        def counted(*a, run=run, place=place):
            seen.append(type(a[place]))
            return run(*a)

        monkeypatch.setattr(launch, name, counted)
    options = {"options": {"triton.cudagraphs": True}} if how == "cuda graphs" else {"backend": how}

    def wrap(inner):
        if how == "eager":
            return inner
        if how == "checkpoint":
            return lambda x: checkpoint(inner, x, use_reentrant=False)
        return torch.compile(inner, fullgraph=True, **options)

    found, programs = trained(wrap)
    assert programs == (0 if how in ("eager", "checkpoint") else 1)  # a step is no new program
    # A launch for each site and pass; a checkpoint draws one again. In a CUDA graph the kernel
    # finds its words in a tensor, elsewhere they come with the launch.
    assert len(seen) == 3 * (5 if how == "checkpoint" else 4)
    assert set(seen) == {torch.Tensor if how == "cuda graphs" else tuple}
    expected, _ = on_cpu(lambda: trained(lambda inner: inner))
    alike(found, expected)


def test_a_scale_of_1_that_only_the_device_knows_leaves_x_as_it_is():
    """f + 1 (x - f) is not always x."""
    x, words, _ = x_and_words(3, 400)
    told = torch.ops.thinned.told.default
    rate, fill = wire.pack_rate(2**31, 1.0), -1.7580993408473766
    found = torch.ops.thinned.heard.default(
        x.detach(), told(words, rate, fill, False, x.shape, (), x.device), (), True, None
    )
    kept = found != torch.tensor(fill)
    assert 0 < kept.sum() < x.numel()
    assert torch.equal(found[kept], x.detach()[kept])


def test_a_program_with_cuda_graphs_draws_a_fresh_seed(on_cpu):
    torch._dynamo.reset()
    module, x = thinned.torch.Dropout2d(0.5), torch.ones(4, 6, 5, 2, requires_grad=True)
    call = torch.compile(module, fullgraph=True, options={"triton.cudagraphs": True})
    torch.manual_seed(3)
    found = call(x)
    (grad,) = torch.autograd.grad(found.sum(), x)
    again = call(x)
    torch.manual_seed(3)
    expected = on_cpu(lambda: module(x))
    assert torch.equal(found, expected)
    assert torch.equal(grad, expected)
    assert not torch.equal(found, again)


def test_transforms(on_cpu):
    x = torch.randn(3, 50)

    def drop(x):
        return F.dropout(x, 0.3, True, at=AT)

    def all_of_them():
        tangent = torch.func.jvp(drop, (x,), (torch.ones_like(x),))[1]
        gradient = torch.func.grad(lambda x: drop(x).square().sum())(x)
        same = torch.func.vmap(drop, randomness="same")(x)
        different = torch.func.vmap(drop, randomness="different")(x)
        leaf = x.clone().requires_grad_()
        y = drop(leaf)
        batch = torch.autograd.grad(y, leaf, torch.ones(2, *y.shape), is_grads_batched=True)[0]
        return tangent, gradient, same, different, batch

    alike(all_of_them(), on_cpu(all_of_them))


def test_autocast_and_nothing_saved(on_cpu):
    x, layer, kept = torch.randn(4, 16, requires_grad=True), nn.Linear(16, 32), []

    def run():
        with torch.autocast("cpu", torch.bfloat16):
            return F.dropout(layer(x), 0.5, True, at=AT)

    found = run()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, on_cpu(run))
    hidden = layer(x)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        F.dropout(hidden, 0.5, True, at=AT)
    assert kept == []
