"""Inductor's programs for devices: the mask's bits as words, and one kernel for all around them."""

import re

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from torch import nn
from torch._inductor.utils import run_and_get_code

import thinned
from thinned.backends.torch import in_inductor
from thinned.torch import (
    adopt,
    functional as F,  # noqa: N812 - the field's name for it
)

AT = thinned.Address(seed=11, site="here", step=4, call=2)
OPTIONS = {"fx_graph_cache": False}


class Layer(nn.Module):
    """bias + GELU + dropout + add."""

    def __init__(self):
        super().__init__()
        self.bias, self.drop = nn.Parameter(torch.linspace(-1, 1, 40)), nn.Dropout(0.5)

    def forward(self, x, residual):
        return self.drop(nn.functional.gelu(x + self.bias)) + residual


def run(layer, clock, call):
    """Two steps: outputs and gradients."""
    found = []
    x, residual = torch.linspace(-2, 2, 240).reshape(6, 40), torch.ones(6, 40)
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        y = call(leaf, residual)
        found += [y.detach(), *torch.autograd.grad(y.square().sum(), (leaf, layer.bias))]
        clock.tick()
    return found


def kernels(code):
    return re.findall(r"^(\w+) = async_compile", code, re.MULTILINE)


@pytest.mark.parametrize("graphs", [False, True], ids=["default", "cuda graphs"])
def test_a_pass_is_one_kernel_and_saves_no_bits(graphs, on_cpu):
    torch._dynamo.reset()
    layer = Layer()
    clock = adopt(layer, seed=3).clock
    options = {**OPTIONS, "triton.cudagraphs": graphs}
    compiled = torch.compile(layer, fullgraph=True, options=options)
    found, (forward, backward) = run_and_get_code(run, layer, clock, compiled)
    bits = "heard_bits" if graphs else "noised_bits"
    for code in (forward, backward):
        (kernel,) = kernels(code)
        assert "gelu" in kernel
        assert ("heard" if graphs else "noised") in kernel
        assert code.count(f"torch.ops.thinned.{bits}.default(") == 1  # each pass draws its own
        assert "torch.ops.thinned.noised.default(" not in code
        assert "torch.ops.thinned.heard.default(" not in code
    clock.step = 0
    for a, b in zip(found, on_cpu(lambda: run(layer, clock, layer)), strict=True):
        torch.testing.assert_close(a, b)


def many(x, half, wide, image, fills):
    """Calls of every kind of the operators, with nothing around them that would round."""
    return (
        F.dropout(x, 0.25, True, at=AT),
        F.dropout(half, 0.125, True, at=AT),
        F.dropout(wide, 0.5, True, at=AT, mirror=True),
        F.dropout2d(image, 0.5, True, at=AT),
        F.alpha_dropout(x, 0.25, True, at=AT),
        F.dropout(x.T, 1.0, True, at=AT),
        thinned.drop_key(x, 0.5, AT),
        thinned.zoneout(x, fills, 0.5, AT),
    )


def test_values_are_eager_code_s(on_cpu):
    torch._dynamo.reset()
    x = torch.randn(5, 70)
    x[0, :3] = torch.tensor([float("inf"), float("nan"), 1e-40])
    given = (
        x, x.to(torch.bfloat16), x.double(), torch.randn(3, 4, 5, 6).contiguous(
            memory_format=torch.channels_last), torch.randn(5, 70),
    )  # fmt: skip
    compiled = torch.compile(many, fullgraph=True, options=OPTIONS)
    found, (code,) = run_and_get_code(compiled, *given)
    assert "torch.ops.thinned.noised.default(" not in code
    for a, b in zip(found, on_cpu(lambda: many(*given)), strict=True):
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
        assert a.stride() == b.stride()


def test_fresh_seeds_and_lengths_that_change(on_cpu):
    """One program: PyTorch's generator seeds it, and its length is a symbol."""
    torch._dynamo.reset()
    module = thinned.torch.Dropout(0.25)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, options=OPTIONS)
    for n in (50, 70):
        x = torch.ones(3, n, requires_grad=True)
        torch.manual_seed(n)
        y = compiled(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        torch.manual_seed(n)
        expected = on_cpu(lambda x=x: module(x))
        assert torch.equal(y, expected)
        assert torch.equal(grad, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_parts_of_a_batch(on_cpu):
    """Of rows, whose bits run on; and of columns, whose bits do not, by the operator itself."""
    from thinned.backends.torch import wire

    words = wire.pack_place(AT, 5 * 300, (300, 1))
    rate = wire.pack_rate(2**31, 2.0)
    for shape in ((4, 300), (4, 200)):  # the second is a part of 300 columns
        how = (words, rate, False, shape, (), torch.device("cpu"))
        bits, scale = torch.ops.thinned.noised_bits.default(*how)
        there = on_cpu(lambda how=how: torch.ops.thinned.noised_bits.default(*how))
        assert torch.equal(bits, there[0])
        assert scale == 2.0
        kept = (bits[:, None] >> torch.arange(32, dtype=torch.int32) & 1).flatten().bool()
        whole = torch.from_numpy(thinned.keep_mask((9, 300), 0.5, AT))[5:, : shape[1]]
        assert torch.equal(kept[: whole.numel()], whole.flatten())


def test_operators_may_stand_alone(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setenv("THINNED_INDUCTOR", "operators")
    compiled = torch.compile(
        lambda x: F.dropout(x, 0.3, True, at=AT) + 1, fullgraph=True, options=OPTIONS
    )
    y, (code,) = run_and_get_code(compiled, torch.ones(4, 30))
    assert "torch.ops.thinned.noised.default(" in code
    assert torch.equal(y, F.dropout(torch.ones(4, 30), 0.3, True, at=AT) + 1)
    monkeypatch.setenv("THINNED_INDUCTOR", "yes")
    with pytest.raises(ValueError, match=r"THINNED_INDUCTOR must be fused, .*, got 'yes'"):
        in_inductor.fuses()
