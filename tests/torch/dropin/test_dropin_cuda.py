"""The same bits on a GPU. Every test here needs one, and skips by name where there is none."""

import pytest
import torch

import thinned
import thinned.torch
from thinned.torch import functional as F  # noqa: N812

pytestmark = pytest.mark.cuda

AT = thinned.Address(seed=11, site="here", step=4, call=2)
NAMES = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]


def numbers(name="dropout"):
    return torch.randn((2, 3, 4) if name == "dropout1d" else (2, 3, 4, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_the_cpus(name, dtype):
    x = numbers(name).to(dtype)
    results = []
    for device in ("cpu", "cuda"):
        leaf = x.detach().to(device).clone().requires_grad_()
        y = getattr(F, name)(leaf, 0.4, True, at=AT)
        y.backward(torch.ones_like(y))
        results.append((y.detach().cpu(), leaf.grad.cpu()))
    tolerance = 2 * torch.finfo(dtype).eps if "alpha" in name else 0.0
    torch.testing.assert_close(results[0], results[1], rtol=tolerance, atol=tolerance)


def test_masks_are_numpys():
    for how in ({}, {"shared_axes": 1}, {"window": thinned.Window(2**40)}, {"mirror": True}):
        like = torch.empty(0, device="cuda")
        mask = thinned.keep_mask((300, 70), 0.3, AT, like=like, **how)
        assert mask.device.type == "cuda"
        assert (mask.cpu().numpy() == thinned.keep_mask((300, 70), 0.3, AT, **how)).all()


@pytest.mark.parametrize("name", ["Dropout", "Dropout2d", "AlphaDropout"])
def test_modules_train(name):
    module = getattr(thinned.torch, name)(0.5)
    x = torch.ones(4, 30, 2, 2, device="cuda", requires_grad=True)
    torch.manual_seed(3)
    y = module(x)
    y.sum().backward()
    kept = y != (0.0 if name != "AlphaDropout" else y.min())
    assert torch.equal(x.grad != 0.0, kept)
    torch.manual_seed(3)
    assert torch.equal(module(x), y)
    on_cpu = x.detach().cpu()
    torch.manual_seed(3)
    assert torch.equal(module(on_cpu), y.detach().cpu())  # the same seed, the same mask


def test_a_generator_of_the_device():
    first = torch.Generator("cuda").manual_seed(5)
    y = F.dropout(torch.ones(500, device="cuda"), 0.5, True, generator=first)
    again = F.dropout(torch.ones(500, device="cuda"), 0.5, True, generator=first.manual_seed(5))
    assert torch.equal(y, again)


def test_channels_last_in_place_and_autocast():
    x = numbers().cuda().to(memory_format=torch.channels_last)
    y = F.dropout2d(x, 0.4, True, at=AT)
    assert y.stride() == x.stride()
    assert F.dropout2d(x, 0.4, True, True, at=AT) is x
    assert torch.equal(x, y)
    with torch.autocast("cuda"):
        assert thinned.torch.Dropout(0.5)(torch.ones(4, device="cuda")).dtype == torch.float32


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_program_draws_anew_and_as_the_seed_says(mode):
    torch._dynamo.reset()
    module = thinned.torch.Dropout(0.5)
    call = torch.compile(module, fullgraph=True, mode=mode)
    x = torch.ones(4, 500, device="cuda")
    torch.manual_seed(3)
    found = [call(x).clone() for _ in range(4)]
    torch.manual_seed(3)
    assert all(torch.equal(y, module(x)) for y in found)
    assert not any(torch.equal(found[0], y) for y in found[1:])


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_is_eager(backend):
    x = numbers().cuda()
    call = torch.compile(lambda x: F.dropout(x, 0.4, True, at=AT), fullgraph=True, backend=backend)
    leaf = x.clone().requires_grad_()
    y = call(leaf)
    y.sum().backward()
    assert torch.equal(y, F.dropout(x, 0.4, True, at=AT))
    assert torch.equal(leaf.grad, F.dropout(torch.ones_like(x), 0.4, True, at=AT))
