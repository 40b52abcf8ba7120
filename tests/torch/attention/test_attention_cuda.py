"""Attention's kernels on a GPU: every test needs one, and skips by name where there is none."""

import pytest
import torch
from attended import AT, P, formula, made, ours

import thinned
from thinned import Window

pytestmark = pytest.mark.cuda

CLOSE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


def inputs(B=2, H=4, K=4, L=200, S=300, E=64, V=64, dtype=torch.float16):
    shapes = (B, H, L, E), (B, K, S, E), (B, K, S, V)
    return [
        made(*shape, seed=i, dtype=torch.float32).detach().to("cuda", dtype).requires_grad_()
        for i, shape in enumerate(shapes)
    ]


def check(arrays, mask=None, **options):
    """By the plain formula in binary32 on the CPU."""
    dtype = arrays[0].dtype
    away = None if mask is None else mask.cuda()
    grouped = arrays[0].shape[1] != arrays[1].shape[1]
    got = ours(*arrays, away, enable_gqa=grouped, **options)
    near = [x.detach().float().cpu().requires_grad_() for x in arrays]
    q, k, v = near
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    expected = formula(q, k, v, mask, **options)
    close = {"rtol": CLOSE[dtype], "atol": CLOSE[dtype]}
    torch.testing.assert_close(got.float().cpu(), expected, **close)
    upstream = made(*got.shape, seed=9, dtype=torch.float32).detach()
    theirs = torch.autograd.grad(expected, near, upstream)
    mine = torch.autograd.grad(got, arrays, upstream.to("cuda", dtype))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.float().cpu(), b, **close)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("width", [32, 64, 80, 128, 256])
def test_the_formula(width, dtype):
    check(inputs(E=width, V=width, dtype=dtype))
    check(inputs(E=width, V=width, K=2, dtype=dtype), is_causal=True)


@pytest.mark.parametrize("width", [64, 128, 256])
def test_masks(width):
    arrays = inputs(E=width, V=width)
    taken = made(200, 300, seed=4, dtype=torch.float32).detach() > -0.5
    taken[7] = False
    check(arrays, taken)
    check(arrays, made(2, 1, 1, 300, seed=4, dtype=torch.float32).detach())


def test_the_mask_is_exact():
    S = 300
    q, k = (torch.zeros(1, 2, n, 64, device="cuda", dtype=torch.float16) for n in (50, S))
    v = torch.eye(S, device="cuda", dtype=torch.float16)[:, :256].expand(1, 2, S, 256).contiguous()
    keep = torch.from_numpy(thinned.keep_mask((1, 2, 50, S), P, AT))[..., :256]
    assert torch.equal(ours(q, k, v).cpu() != 0, keep)
    window = Window((0, 1, 0, 0), (1, 2, 50, S))
    assert torch.equal(ours(q[:, 1:], k[:, 1:], v[:, 1:], window=window).cpu() != 0, keep[:, 1:])


def test_compiled():
    torch._dynamo.reset()
    arrays = inputs()
    compiled = torch.compile(lambda *x: ours(*x, is_causal=True), fullgraph=True)
    got, expected = compiled(*arrays), ours(*arrays, is_causal=True)
    assert torch.equal(got, expected)
    grads = torch.autograd.grad(expected.sum(), arrays)
    for a, b in zip(torch.autograd.grad(got.sum(), arrays), grads, strict=True):
        assert torch.equal(a, b)


def test_more_heads_than_an_axis_of_the_grid_holds():
    check(inputs(B=8750, H=8, K=8, L=2, S=3, E=16, V=16))


def test_a_graph_repeats_an_address():
    arrays = [x.detach() for x in inputs()]
    expected = ours(*arrays)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ours(*arrays)
    graph.replay()
    assert torch.equal(y, expected)
