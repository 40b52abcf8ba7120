"""The kernels in Triton on a GPU: the CPU's bits, in one launch. Every test needs a CUDA device
with Triton, and skips by name where there is none."""

from functools import partial

import pytest
import torch

import thinned
from thinned import Window, reference
from thinned.backends.base import Draw
from thinned.backends.torch import devices
from thinned.window import place

pytestmark = pytest.mark.cuda

AT = thinned.Address(seed=0xFEDCBA9876543210, site="fc1", step=2**32 - 2, call=65535)
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


@pytest.fixture(autouse=True)
def with_triton():
    if not devices.uses_triton(torch.device("cuda")):
        pytest.skip("no Triton for this CUDA device")


def agrees(x, p=0.3, **how):
    """Values and gradient are the CPU's."""
    found = []
    for leaf in (x, x.cuda()):
        leaf = leaf.detach().requires_grad_()
        y = thinned.dropout(leaf, p, AT, **how)
        (grad,) = torch.autograd.grad(y, leaf, torch.full_like(y[:1], 3.0).expand(y.shape))
        found.append((y.detach().cpu(), grad.cpu(), y.stride()))
    (y, grad, stride), (expected, dx, strides) = found[1], found[0]
    assert stride == strides
    assert torch.equal(y, expected)
    assert torch.equal(grad, dx)


def test_the_path_is_named():
    assert thinned.kernel_info().devices["cuda:0"] == "triton"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.5, 0.25, 0.1, 1e-9, 0.999999, 0.0, 1.0])
def test_rates_and_types(p, dtype):
    for n in (1, 300, 4096, 100_003):
        agrees(torch.randn(n).to(dtype), p)
    agrees(torch.randn(5000).to(dtype), p, mirror=True)


@pytest.mark.parametrize("start", [1, 16, 31, 128 * 5, 2**32 - 5000, 2**46 + 77])
def test_starts(start):
    agrees(torch.randn(10_000), window=Window(start))


@pytest.mark.parametrize("shared", [(), (0,), (2, 3), (1,), (0, 2)], ids=str)
def test_layouts(shared):
    x = torch.randn(8, 12, 33, 40)
    for made in (
        x, x.transpose(1, 2), x.permute(3, 2, 1, 0), x[..., ::2], x[:, 1:, 2:],
        x.to(memory_format=torch.channels_last), x[:, :1].expand_as(x),
    ):  # fmt: skip
        agrees(made, shared_axes=shared)


def test_rounding_and_values_that_are_none():
    x = torch.randn(20_000)
    x[::7], x[1::7], x[2::7] = float("inf"), 1e-40, 65504.0
    for dtype in TYPES:
        agrees(x.to(dtype), 0.7)
    x = torch.full((5000,), float("nan"), device="cuda")
    y = thinned.dropout(x, 0.5, AT)
    assert torch.equal(y.isnan().cpu(), torch.from_numpy(thinned.keep_mask((5000,), 0.5, AT)))


def test_more_than_2_to_the_31_elements():
    n = 2**31 + 5000
    if torch.cuda.get_device_properties(0).total_memory < 12 * 2**30:
        pytest.skip("the device has less than 12 GB")
    y = thinned.dropout(torch.ones(n, dtype=torch.bfloat16, device="cuda"), 0.5, AT)
    for start in (0, 2**31 - 2500, n - 4000):
        part = torch.ones(4000, dtype=torch.bfloat16)
        expected = thinned.dropout(part, 0.5, AT, window=Window(start))
        assert torch.equal(y[start : start + 4000].cpu(), expected)


@pytest.mark.parametrize("shape", [(1000,), (3, 5, 130), (2, 4, 256)])
def test_packed_words(shape):
    from thinned.backends.torch.triton import launch, words

    where = place("test", shape)
    draw = Draw(AT, reference.threshold(0.3), where)
    packed = launch.mask_words(where, words.told(draw), torch.device("cuda")).cpu()
    bits = packed[..., :, None] >> torch.arange(32, dtype=torch.int32) & 1
    kept = bits.reshape(*shape[:-1], -1)[..., : shape[-1]].bool()
    assert torch.equal(kept, torch.from_numpy(thinned.keep_mask(shape, 0.3, AT)))


def test_draws():
    for law in (thinned.uniform_dropout, thinned.gaussian_dropout, thinned.k_of_n_dropout):
        how = {"axis": 1} if law is thinned.k_of_n_dropout else {}
        x = torch.ones(30, 50)
        found = law(x.cuda(), 0.3, AT, **how).cpu()
        torch.testing.assert_close(found, law(x, 0.3, AT, **how), rtol=0.0, atol=8e-6)


def launches(function):
    """The kernels that ran on the device meanwhile."""
    function()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    return [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]


def test_one_launch_a_call_and_none_waits():
    x = torch.randn(512, 384, device="cuda", requires_grad=True)
    grad = torch.ones_like(x)
    for how in ({}, {"shared_axes": (1,)}, {"window": Window(3)}):
        made = launches(partial(thinned.dropout, x.detach(), 0.3, AT, **how))
        assert len(made) == 1, made
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3):
            y = thinned.dropout(x, 0.1 * (step + 1), AT.replace(step=step))
            torch.autograd.grad(y, x, grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_new_step_or_p_compiles_nothing():
    from thinned.backends.torch.triton import dropping

    x = torch.randn(4096, device="cuda")
    thinned.dropout(x, 0.3, AT)
    compiled = {}
    before = dropping.flat.device_caches[torch.cuda.current_device()][0]
    compiled.update(before)
    for p in (1e-9, 0.25, 0.5, 0.999):
        for seed in (0, 1, 2**31, 2**32, 2**63, 2**64 - 1):
            thinned.dropout(x, p, thinned.Address(seed=seed, site=seed % 2**32, step=seed % 2**31))
    assert set(before) == set(compiled)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_programs_are_eager_code(mode):
    torch._dynamo.reset()

    def function(x):
        return thinned.torch.functional.dropout(torch.relu(x), 0.3, True, at=AT) + x

    call = torch.compile(function, fullgraph=True, mode=mode)
    x = torch.randn(64, 96, device="cuda", requires_grad=True)
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        y = call(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        expected = function(x)
        (dx,) = torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(grad, dx)


def test_a_program_is_one_kernel_with_its_neighbours():
    from torch._inductor.utils import run_and_get_code

    torch._dynamo.reset()
    x, residual = (torch.randn(64, 384, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def function(x):
        y = thinned.torch.functional.dropout(torch.relu(x), 0.3, True, at=AT)
        return y + residual

    compiled = torch.compile(function, fullgraph=True, options={"fx_graph_cache": False})
    y, (code,) = run_and_get_code(compiled, x)
    assert code.count("async_compile.triton(") == 1
    assert code.count("torch.ops.thinned.noised_bits.default(") == 1
    assert "torch.ops.thinned.noised.default(" not in code
    assert torch.equal(y, function(x))
    torch.cuda.set_sync_debug_mode("error")
    try:
        compiled(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_another_device_than_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    y = thinned.dropout(torch.ones(500, device="cuda:1"), 0.5, AT)
    assert torch.equal(y.cpu(), thinned.dropout(torch.ones(500), 0.5, AT))
