"""Arrays of every layout and place, forward and backward: the C++ kernel's bits."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)

import thinned
from thinned import Window
from thinned.backends.torch.triton import geometry

AT = thinned.Address(seed=0xFEDCBA9876543210, site="fc1", step=2**32 - 2, call=65535)
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.stride() == expected.stride()
    assert torch.equal(found, expected), (found != expected).nonzero()[:5]


def agrees(on_cpu, x, p=0.5, **how):
    """Values and gradient of thinned.dropout on x."""

    def run():
        leaf = x.detach().requires_grad_()
        y = thinned.dropout(leaf, p, AT, **how)
        (grad,) = torch.autograd.grad(y, leaf, torch.full((), 3.0).to(y.dtype).expand(y.shape))
        return y.detach(), grad

    for found, expected in zip(run(), on_cpu(run), strict=True):
        same(found, expected)


@pytest.mark.parametrize("n", [1, 300, 4096, 5000])
@pytest.mark.parametrize("dtype", TYPES)
def test_types_and_lengths(on_cpu, dtype, n):
    agrees(on_cpu, torch.randn(n).to(dtype), 0.3)


@pytest.mark.parametrize("p", [0.0, 1.0, 0.25, 0.1, 1e-9, 0.999999])
def test_rates(on_cpu, p):
    x = torch.randn(700)
    x[::7] = float("inf")
    agrees(on_cpu, x, p)
    agrees(on_cpu, x, p, mirror=True)


@pytest.mark.parametrize("start", [1, 31, 32, 127, 128 * 5, 2**32 - 250, 2**39 - 3, 2**46 + 77])
def test_starts(on_cpu, start):
    agrees(on_cpu, torch.randn(400), window=Window(start))
    first = min(start, 2**40)
    agrees(on_cpu, torch.randn(4, 70), window=Window((3, first), (9, 2**40 + first)))


LAYOUTS = {
    "transposed": lambda x: x.transpose(1, 2),
    "reversed": lambda x: x.permute(3, 2, 1, 0),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "every second": lambda x: x[..., ::2],
    "a part": lambda x: x[:, 1:, 2:],
    "expanded": lambda x: x[:, :1].expand_as(x),
    "not aligned": lambda x: x.flatten()[1:].view(1, -1, 1, 1),
}


@pytest.mark.parametrize("shared", [(), (0,), (2, 3), (1,), (0, 2), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(on_cpu, layout, shared):
    agrees(on_cpu, LAYOUTS[layout](torch.randn(2, 3, 5, 12)), shared_axes=shared)


def test_wide_and_tall(on_cpu):
    for shape in ((3, 1030), (70, 33), (2, 300, 5)):
        agrees(on_cpu, torch.randn(shape).transpose(0, -1), window=Window(1))
        agrees(on_cpu, torch.randn(shape), shared_axes=(0,))


def test_axes_that_nothing_joins(on_cpu):
    x = torch.randn(2, 3, 2, 3, 2, 3, 2)
    agrees(on_cpu, x.transpose(1, 5), shared_axes=(0, 2, 4))


def test_nothing_and_one(on_cpu):
    for shape in ((), (0,), (3, 0), (1, 1)):
        agrees(on_cpu, torch.randn(shape))


@pytest.mark.parametrize("dtype", TYPES)
def test_fills(on_cpu, dtype):
    """Mixout has an array, alpha dropout a number."""
    x, w = torch.randn(2, 3, 50).to(dtype), torch.randn(2, 3, 50).to(dtype)
    for function in (
        lambda: thinned.mixout(x, w, 0.4, AT),
        lambda: thinned.mixout(x, w.mT.contiguous().mT, 0.4, AT),
        lambda: thinned.alpha_dropout(x, 0.4, AT),
        lambda: thinned.zoneout(x, w, 0.4, AT),
    ):
        same(function(), on_cpu(function))


def test_into_memory_that_is_there(on_cpu):
    x = torch.randn(6, 50)
    expected = on_cpu(lambda: thinned.dropout(x, 0.5, AT))
    out = torch.empty(50, 6).T
    assert thinned.dropout(x, 0.5, AT, out=out) is out
    assert torch.equal(out, expected)
    assert thinned.dropout(x, 0.5, AT, out=x) is x
    assert torch.equal(x, expected)


def test_negated_and_zero_memory(on_cpu):
    values = torch.randn(9, dtype=torch.complex64)
    agrees(on_cpu, values.conj().imag)
    zero = torch._efficientzerotensor((4,))
    assert thinned.dropout(zero, 0.5, AT).tolist() == [0.0] * 4


def test_draws(on_cpu):
    like = torch.empty(0)
    how = {"shared_axes": (1,), "window": Window((1, 2, 3), (5, 6, 9))}
    for function in (
        lambda: thinned.keep_mask((3, 4, 5), 0.3, AT, like=like, **how),
        lambda: thinned.uniform_dropout(torch.ones(3, 50), 0.3, AT),
    ):
        same(function(), on_cpu(function))
    for function in (
        lambda: thinned.gaussian_dropout(torch.ones(3, 50), 0.3, AT),
        lambda: thinned.gaussian_dropout(torch.ones(3, 50), 0.3, AT, mirror=True),
    ):
        assert (function() - on_cpu(function)).abs().max() < 8e-6


def test_tiles_cover_what_registers_hold():
    for shape, steps in (((10**6, 10**6), (1, 10**6)), ((5, 10**9), (10**9, 1)), ((9, 9), (0, 1))):
        axes = geometry.joined(shape, steps, [(shape[1], 1)] * 3)
        cut = geometry.tiling(axes, 5, geometry.ELEMENTS)
        assert cut.ROWS * cut.COLUMNS <= geometry.ELEMENTS
        assert cut.COLUMNS <= 32 or cut.COLUMNS % 128 == 0
        assert cut.programs < 2**31
