"""Attention's kernels: the plain formula in binary32, with a mask that is exact."""

import math

import numpy as np
import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from torch.utils.flop_counter import FlopCounterMode

import thinned
import thinned.torch
from thinned import Window
from thinned.backends.torch.triton import attending
from thinned.torch import scaled_dot_product_attention
from thinned.torch.attention import flash

AT = thinned.Address(seed=3, site="attention", step=5)
P = 0.5  # a plane: the interpreter takes a second for each sixteen


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch):
    """The interpreter holds bfloat16 in integers, and multiplies those."""
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_dot

    def dot(self, a, b, d, *rest):
        wide = [interpreter.TensorHandle(_wide(x), interpreter.tl.float32) for x in (a, b)]
        return plain(self, *wide, d, *rest)

    def _wide(x):
        if x.dtype.scalar != interpreter.tl.bfloat16:
            return x.data.astype(np.float32)
        return (x.data.astype(np.uint32) << 16).view(np.float32)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several to a head, at few elements."""
    tile = attending.Tile(16, 32, 4, 1)
    monkeypatch.setattr(attending, "tile_of", lambda *_: tile)


@pytest.fixture(autouse=True)
def binary32_too(monkeypatch):
    """By which the kernels are compared closely. Machine code is of half types alone."""
    monkeypatch.setattr(flash, "KINDS", (*flash.KINDS, torch.float32))


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """How often the kernels ran: the plain path would pass every test."""
    calls = []
    for name in ("attend", "gradients"):
        real = getattr(attending, name)

        def call(*given, real=real, name=name):
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(attending, name, call)
    return calls


def made(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


def inputs(B=1, H=2, K=2, L=20, S=40, E=32, V=32, dtype=torch.float32):
    shapes = (B, H, L, E), (B, K, S, E), (B, K, S, V)
    return [made(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


def formula(q, k, v, mask=None, p=P, is_causal=False, scale=None, window=None, mirror=False):
    q, k, v = (x.float() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    shape = tuple(weights.shape)
    keep = torch.from_numpy(thinned.keep_mask(shape, p, AT, window=window, mirror=mirror))
    return torch.where(keep, weights / (1 - p), 0.0) @ v


TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}


def check(arrays, mask=None, p=P, **options):
    """Values, and gradients where one is wanted."""
    dtype = arrays[0].dtype
    close = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
    options = {"enable_gqa": arrays[0].shape[-3] != arrays[1].shape[-3], **options}
    got = scaled_dot_product_attention(*arrays, mask, p, AT, training=True, **options)
    options.pop("enable_gqa")
    expected = formula(*arrays, mask, p, **options)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), expected, **close)
    wanted = [x for x in arrays if x.requires_grad]
    if not wanted:
        return
    upstream = made(*got.shape, seed=9, dtype=dtype).detach()
    theirs = torch.autograd.grad(expected, wanted, upstream.float())
    for a, b in zip(torch.autograd.grad(got, wanted, upstream), theirs, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b.float(), **close)


def padding(n):
    mask = torch.rand(20, 40, generator=torch.Generator().manual_seed(4)) > 0.4
    mask[3] = False
    return mask.expand(*[1] * n, 20, 40)


CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "boolean": {"mask": padding(0)},
    "boolean of heads": {"mask": padding(1)},
    "added": {"mask": made(20, 40, seed=4).detach()},
    "added to keys": {"mask": made(1, 1, 1, 40, seed=4).detach()},
    "scale": {"scale": -0.3},
}


@pytest.mark.parametrize("case", CASES)
def test_the_formula(case, counted):
    check(inputs(), **CASES[case])
    assert counted == ["attend", "gradients"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype, counted):
    check(inputs(dtype=dtype))
    check(inputs(dtype=dtype), CASES["added"]["mask"].to(dtype))
    assert len(counted) == 4


@pytest.mark.parametrize(
    "shape",
    [
        {"L": 1, "S": 1},
        {"L": 33, "S": 7, "E": 16, "V": 64},
        {"L": 5, "S": 130, "E": 40, "V": 24},
        {"E": 5, "V": 3},
        {"H": 1, "K": 1, "E": 128, "V": 128},
        {"H": 1, "K": 1, "E": 256, "V": 256, "L": 3},
        {"H": 6, "K": 2, "L": 7, "S": 9},
    ],
    ids=str,
)
def test_any_size(shape, counted):
    check(inputs(**shape))
    check([x.detach() for x in inputs(**shape)], is_causal=True)
    assert counted == ["attend", "gradients", "attend"]


def test_any_steps(counted):
    """As projections leave them, (B, tokens, heads, width); and one that is given to all heads."""
    moved = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(B=2)]
    check([x.requires_grad_() for x in moved])
    q, k, v = inputs(B=2)
    one = [x.detach()[:1, :1].requires_grad_() for x in (k, v)]
    got = scaled_dot_product_attention(q, *one, None, P, AT, training=True)
    expected = formula(q, *(x.expand(2, 2, 40, 32) for x in one))
    torch.testing.assert_close(got, expected)
    ours = torch.autograd.grad(got.sum(), one)
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), one), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    apart = [x.detach()[..., ::2] for x in inputs()]
    check(apart)
    check([x.detach()[0] for x in inputs()])
    assert len(counted) == 6


def test_the_mask_is_exact(counted):
    """Read off weights that are all alike, by values that tell keys apart."""
    S = 130
    q, k = torch.zeros(1, 2, 9, 16), torch.zeros(1, 2, S, 16)
    v = torch.eye(S).expand(1, 2, S, S).contiguous()
    for p, mirror in ((0.5, True), (0.3, False)):
        keep = torch.from_numpy(thinned.keep_mask((1, 2, 9, S), p, AT, mirror=mirror))
        out = scaled_dot_product_attention(q, k, v, None, p, AT, training=True, mirror=mirror)
        assert torch.equal(out != 0, keep)
        assert torch.allclose(out[out != 0], torch.tensor(1 / S / (1 - p)))
    assert counted == ["attend", "attend"]


def test_windows_are_parts_of_the_whole():
    arrays = [x.detach() for x in inputs(B=3, H=4, K=4)]
    part = [x[1:2, 2:] for x in arrays]
    check(part, window=Window((1, 2, 0, 0), (3, 4, 20, 40)))
    rows = [arrays[0][:1, :2, 3:], *(x[:1, :2] for x in arrays[1:])]
    check(rows, window=Window((0, 0, 3, 0), (1, 2, 20 + 3, 40)))


@pytest.mark.parametrize("size", [1, 20 * 16 * 2, 20 * 16 * 4], ids=["a head", "two", "a sample"])
def test_groups_of_heads(size, monkeypatch):
    monkeypatch.setattr(attending, "AT_A_TIME", size)
    check(inputs(B=2, H=4, K=2, L=10))


def test_groups_are_bounded():
    for shape in ((8, 16, 4096, 4096), (2, 32, 2**16, 2**16), (64, 12, 128, 100)):
        groups = list(attending._groups(shape))
        a_head = 16 * shape[2] * -(-shape[3] // 128)
        assert max(g.number for g in groups) * a_head <= max(attending.AT_A_TIME, a_head)
        assert sum(g.number for g in groups) == shape[0] * shape[1]


def test_ends():
    arrays = inputs(L=8)
    out = scaled_dot_product_attention(*arrays, None, 1.0, AT, training=True)
    assert (out == 0).all()
    assert all((x == 0).all() for x in torch.autograd.grad(out.sum(), arrays))
    check(arrays, p=1e-12)


def test_what_is_saved():
    arrays, saved = inputs(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        out = scaled_dot_product_attention(*arrays, None, P, AT, training=True)
    there = {x.data_ptr() for x in (*arrays, out)}
    assert [x.shape for x in saved if x.data_ptr() not in there] == [(1, 2, 20)]


def test_derivatives_of_derivatives_and_batches_take_the_formula():
    q, k, v = inputs(H=2, K=1, L=3, S=4, E=16, V=16)

    def run(q):
        options = {"training": True, "enable_gqa": True}
        return scaled_dot_product_attention(q, k, v, None, P, AT, **options)

    def exact(q):
        return formula(q, k, v)

    for f in (lambda g: g.square().sum(), lambda g: g.sum()):
        twice = []
        for function in (run, exact):
            (first,) = torch.autograd.grad(function(q).square().sum(), q, create_graph=True)
            twice.append(torch.autograd.grad(f(first), q)[0])
        torch.testing.assert_close(*twice, rtol=1e-3, atol=1e-3)
    several = torch.randn(3, *q.shape)
    batch = torch.autograd.grad(run(q), q, several, is_grads_batched=True)[0]
    for one, upstream in zip(batch, several, strict=True):
        expected = torch.autograd.grad(exact(q), q, upstream)[0]
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)


def test_what_the_kernels_leave_to_others(counted):
    mask = made(20, 40, seed=4)
    q, k, v = inputs()
    got = scaled_dot_product_attention(q, k, v, mask, P, AT, training=True)
    torch.testing.assert_close(got, formula(q, k, v, mask))
    wide = [x.detach().double() for x in (q, k, v)]
    got = scaled_dot_product_attention(*wide, None, P, AT, training=True)
    torch.testing.assert_close(got.float(), formula(*wide))
    assert counted == []


@pytest.mark.parametrize("compiled", [False, True], ids=["a mode", "a program"])
def test_operators(compiled, counted):
    arrays = inputs(H=2, K=1)
    options = {"training": True, "enable_gqa": True, "is_causal": True}

    def run(*given):
        return scaled_dot_product_attention(*given, None, P, AT, **options)

    expected = run(*arrays)
    if compiled:
        torch._dynamo.reset()
        got = torch.compile(run, fullgraph=True, backend="aot_eager")(*arrays)
    else:
        with FlopCounterMode(display=False):
            got = run(*arrays)
    assert torch.equal(got, expected)
    grads = torch.autograd.grad(expected.sum(), arrays)
    for a, b in zip(torch.autograd.grad(got.sum(), arrays), grads, strict=True):
        torch.testing.assert_close(a, b)
    assert counted == ["attend", "attend", "gradients", "gradients"]


class Attend(torch.nn.Module):
    def forward(self, q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=P)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_adopted_models(compiled, counted, on_cpu):
    model, arrays = Attend(), [x.detach() for x in inputs(L=8)]
    clock = thinned.torch.adopt(model, seed=3).clock
    expected = on_cpu(lambda: model(*arrays))
    clock.step = 0  # calls are counted from 0 again
    torch._dynamo.reset()
    run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
    torch.testing.assert_close(run(*arrays), expected)
    assert counted == ["attend"]


# ---------------------------------------------------------------------------------- planted faults


def another_step_in_backward(monkeypatch):
    real = flash._backward

    def spoiled(*given):
        *arrays, plan = given
        draw = plan.how.draw
        moved = draw._replace(at=draw.at.replace(step=6))
        return real(*arrays, plan._replace(how=plan.how._replace(draw=moved)))

    monkeypatch.setattr(flash, "_backward", spoiled)


def the_next_heads_words(monkeypatch):
    real = attending._words
    monkeypatch.setattr(
        attending, "_words", lambda draw, group, device: real(draw, group, device).roll(1, 1)
    )


def no_delta(monkeypatch):
    real = attending.gradients

    def spoiled(g, q, k, v, out, *rest):
        return real(g, q, k, v, torch.zeros_like(out), *rest)

    monkeypatch.setattr(attending, "gradients", spoiled)


def natural_scores(monkeypatch):
    monkeypatch.setattr(attending, "TO_BASE_2", 1.0)


@pytest.mark.parametrize(
    "fault", [another_step_in_backward, the_next_heads_words, no_delta, natural_scores]
)
def test_faults_are_caught(fault, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check(inputs(L=6))
