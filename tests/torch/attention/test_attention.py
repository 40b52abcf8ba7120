"""Attention against the plain formula: values, gradients, where the mask lies, errors."""

import itertools
import math

import pytest
import torch
from attended import AT, MASKS, P, check, formula, inputs, made, ours, rows_without_anything
from torch.nn import functional

import thinned
from thinned import Window, kernel
from thinned.torch.attention import blockwise, functional as attention
from thinned.torch.attention.functional import scaled_dot_product_attention


@pytest.fixture(params=[2**20, 130, 20, 1], ids=lambda n: f"blocks of {n}")
def blocks(request, monkeypatch):
    """Everything in one block, some heads, some rows, one row."""
    monkeypatch.setattr(blockwise, "_most", lambda _: request.param)
    monkeypatch.setattr(blockwise, "CAUSAL_ROWS", 3)


@pytest.mark.parametrize("permuted", [False, True], ids=["contiguous", "permuted"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.usefixtures("blocks")
def test_the_plain_formula(kind, permuted):
    check(inputs(permuted=permuted), MASKS[kind](2, 3, 7, 9))


@pytest.mark.parametrize(("L", "S"), [(7, 9), (9, 7), (8, 8), (1, 5), (5, 1)])
@pytest.mark.usefixtures("blocks")
def test_causal(L, S):
    check(inputs(L=L, S=S, V=5), is_causal=True)


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("mirror", [False, True])
def test_rates(p, mirror):
    check(inputs(), p=p, mirror=mirror)


@pytest.mark.parametrize("scale", [0.0, 1, -0.7, None])
def test_scale(scale):
    check(inputs(), scale=scale)


@pytest.mark.usefixtures("blocks")
def test_more_and_fewer_axes():
    check([x[0, 0] for x in inputs()])
    check([x[0] for x in inputs()], made(3, 7, 1, seed=4))
    check([made(2, 3, 2, n, 4, seed=i) for i, n in enumerate((5, 6, 6))], made(3, 1, 5, 6, seed=4))


def test_leading_axes_broadcast():
    q, k, v = inputs()
    got = ours(q, k[:1], v[:1, :1])
    whole = (q, k[:1].expand(2, 3, 9, 4), v[:1, :1].expand(2, 3, 9, 4))
    torch.testing.assert_close(got, formula(*whole))
    assert torch.autograd.grad(got.sum(), v)[0][1].abs().sum() == 0


def test_groups_of_heads():
    q, k, v = inputs(H=6)
    k, v = (x[:, :2].detach().requires_grad_() for x in (k, v))
    got = ours(q, k, v, enable_gqa=True)
    expected = formula(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1))
    torch.testing.assert_close(got, expected)
    grads = torch.autograd.grad(got.sum(), (q, k, v))
    for x, y in zip(grads, torch.autograd.grad(expected.sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(x, y)
    theirs = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(ours(q, k, v, p=0.0, enable_gqa=True), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once(dtype):
    halves = [x.detach().to(dtype).requires_grad_() for x in inputs()]
    singles = [x.detach().float().requires_grad_() for x in halves]
    got, expected = ours(*halves), ours(*singles)
    assert torch.equal(got, expected.to(dtype))
    upstream = made(*got.shape, seed=9).detach().to(dtype)
    grads = torch.autograd.grad(expected, singles, upstream.float())
    for x, y in zip(torch.autograd.grad(got, halves, upstream), grads, strict=True):
        assert torch.equal(x, y.to(dtype))
    with torch.autocast("cpu", dtype):
        assert torch.equal(ours(*singles), got)


@pytest.mark.usefixtures("blocks")
def test_rows_without_anything_to_attend_to():
    rows_without_anything()


def test_scores_that_overflow_downwards_are_nothing_to_attend_to():
    q, k, v = inputs(dtype=torch.float32)
    low = torch.full_like(q, -1e30), torch.full_like(k, 1e30), v
    assert (ours(*low) == 0).all()
    assert (functional.scaled_dot_product_attention(*low, dropout_p=0.3) == 0).all()


def test_dropped_nan_is_zero():
    q, k, v = inputs(L=64, S=1)
    out = ours(q * math.nan, k, v, p=0.5)
    keep = torch.from_numpy(thinned.keep_mask((2, 3, 64, 1), 0.5, AT))
    assert torch.equal(out.isnan(), keep.expand(out.shape))
    assert (out[~keep.squeeze(-1)] == 0).all()


def test_everything_dropped():
    q, k, v = inputs()
    mask = made(7, 9, seed=4)
    out = ours(q * math.inf, k, v, mask, p=1.0)
    assert (out == 0).all()
    grads = torch.autograd.grad(out.sum(), (q, k, v, mask))
    assert (grads[2] == 0).all()
    assert (grads[3] == 0).all()
    assert all((x == 0).all() for x in torch.autograd.grad(ours(q, k, v, p=1.0).sum(), (q, k, v)))


@pytest.mark.parametrize("shape", [(0, 3, 7, 9), (2, 0, 7, 9), (2, 3, 0, 9), (2, 3, 7, 0)])
def test_empty(shape):
    arrays = inputs(*shape)
    check(arrays)
    check(arrays, is_causal=True)
    assert ours(*inputs(E=0)).shape == (2, 3, 7, 4)


def test_evaluation_and_p_0_are_pytorchs_own():
    q, k, v = inputs()
    expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    off = scaled_dot_product_attention(
        q, k, v, None, P, AT, training=False, is_causal=True, scale=0.3
    )
    assert torch.equal(off, expected)
    assert torch.equal(ours(q, k, v, p=0, is_causal=True, scale=0.3), expected)


# ---------------------------------------------------------------------------------- where and when


def test_windows_are_parts_of_the_whole():
    q, k, v = inputs(B=4, H=6)
    whole = ours(q, k, v)
    rows = ours(q[1:3], k[1:3], v[1:3], window=Window(1))
    assert torch.equal(rows, whole[1:3])
    window = Window((1, 2, 0, 0), (4, 6, 7, 9))
    heads = ours(q[1:3, 2:5], k[1:3, 2:5], v[1:3, 2:5], window=window)
    torch.testing.assert_close(heads, whole[1:3, 2:5])
    queries = ours(q[:, :, 3:], k, v, window=Window((0, 0, 3, 0), (4, 6, 7, 9)))
    torch.testing.assert_close(queries, whole[:, :, 3:])


def test_seeds_come_from_pytorchs_generators():
    q, k, v = inputs()
    torch.manual_seed(1)
    first, second = (ours(q, k, v, at=None) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(ours(q, k, v, at=None), first)
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(ours(q, k, v, at=None, generator=generator), first)


def test_threads_and_the_reference_change_nothing():
    q, k, v = inputs(L=40, S=40)
    expected = ours(q, k, v)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.testing.assert_close(ours(q, k, v), expected)
    torch.set_num_threads(threads)
    used = kernel.kernel_info().name
    kernel.use_kernel("reference")
    try:
        torch.testing.assert_close(ours(q, k, v), expected)
    finally:
        kernel.use_kernel(used)


def test_a_device_without_memory():
    away = [x.detach().to("meta").requires_grad_() for x in inputs()]
    out = ours(*away)
    assert out.shape == (2, 3, 7, 4)
    assert [x.shape for x in torch.autograd.grad(out.sum(), away)] == [x.shape for x in away]


def test_strides_are_the_querys():
    q, k, v = inputs(permuted=True)
    out = ours(q, k, v)
    assert out.stride() == q.stride()
    for x, dx in zip((q, k, v), torch.autograd.grad(out.sum(), (q, k, v)), strict=True):
        assert dx.stride() == x.stride()


def test_only_what_is_there_anyway_is_saved():
    q, k, v = inputs()
    mask = made(2, 1, 7, 9, seed=4)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        ours(q, k, v, mask)
    there = {x.data_ptr() for x in (q, k, v, mask)}
    assert len(saved) == 4
    assert {x.data_ptr() for x in saved} == there


def test_blocks_are_bounded():
    for shape in ((8, 8, 512, 512), (64, 16, 4096, 4096), (2, 3, 5, 10**6), (10**4, 2, 8, 8)):
        for is_causal in (False, True):
            most = max(shape[-1], blockwise._most(torch.empty(0)))
            some = itertools.islice(blockwise._blocks(shape, is_causal, most), 9)
            assert max(math.prod(block.shape) for block in some) <= most


def test_pytorch_works_in_place():
    """Not promised by PyTorch's documentation, and relied upon for two blocks less of memory."""
    for n in (1, 7, 16, 100, 1024, 5000):
        for dtype in (torch.float32, torch.float64):
            scores, grad = (
                made(6, n, dtype=dtype).detach(),
                made(6, n, seed=1, dtype=dtype).detach(),
            )
            weights = torch.softmax(scores, -1)
            assert torch.equal(torch.softmax(scores, -1, out=scores), weights)
            expected = torch._softmax_backward_data(grad, weights, -1, dtype)
            torch._softmax_backward_data(grad, weights, -1, dtype, grad_input=grad)
            assert torch.equal(grad, expected)


# ------------------------------------------------------------------------------------------ errors


def options_of_errors():
    q, k, v = (torch.zeros(2, 3, n, 4) for n in (7, 9, 9))
    ints = torch.zeros(2, 3, 7, 4, dtype=torch.int64)
    floats = torch.zeros(7, 9)
    yield "p must be a float in \\[0, 1\\], got 10. Did you", ValueError, (q, k, v), {"p": 10}
    yield "p must be a float in \\[0, 1\\], got nan", ValueError, (q, k, v), {"p": math.nan}
    yield "is_causal must be True or False, got 1", TypeError, (q, k, v), {"is_causal": 1}
    yield "enable_gqa must be True or False", TypeError, (q, k, v), {"enable_gqa": 0}
    yield "scale must be a float or None, got True", TypeError, (q, k, v), {"scale": True}
    yield "training must be True or False", TypeError, (q, k, v), {"training": 1}
    yield "at must be a thinned.Address, got 3", TypeError, (q, k, v), {"at": 3}
    generator = {"generator": torch.Generator()}
    yield "at and generator both say which mask", ValueError, (q, k, v), generator
    both = {"attn_mask": floats, "is_causal": True}
    yield "attn_mask and is_causal both say", ValueError, (q, k, v), both
    yield "query must be a torch tensor, got list", TypeError, ([1.0], k, v), {}
    yield "query must be of at least 2 axes", ValueError, (q[0, 0, 0], k, v), {}
    yield "value must be of query's type torch.float32", TypeError, (q, k, v.double()), {}
    yield "x must be of type float16", TypeError, (ints, ints, ints), {}
    yield "key must be of query's last length 4", ValueError, (q, k[..., :3], v), {}
    yield "value must be of key's 9 tokens", ValueError, (q, k, v[:, :, :8]), {}
    yield "of leading axes that broadcast", ValueError, (q, k[:, :2], v), {}
    groups = {"enable_gqa": True}
    yield "of a number of heads that divides query's", ValueError, (q, k[:, :2], v), groups
    yield "attn_mask must be a torch tensor", TypeError, (q, k, v), {"attn_mask": [1]}
    whole = {"attn_mask": floats.int()}
    yield "attn_mask must be of type torch.bool, torch.float32", TypeError, (q, k, v), whole
    wide = {"attn_mask": torch.zeros(5, 2, 3, 7, 9)}
    yield "of a shape that broadcasts to \\(2, 3, 7, 9\\)", ValueError, (q, k, v), wide
    beyond = {"window": Window((0, 1, 0, 0), (2, 3, 7, 9))}
    yield "the window does not fit: axis 1", ValueError, (q, k, v), beyond


@pytest.mark.parametrize(("text", "kind", "arrays", "options"), [*options_of_errors()])
def test_errors(text, kind, arrays, options):
    options = {"p": 0.5, "at": AT, "training": True, **options}
    with pytest.raises(kind, match=f"^scaled_dot_product_attention: .*{text}"):
        scaled_dot_product_attention(*arrays, **options)


def test_training_is_required():
    with pytest.raises(TypeError, match="training must be given"):
        scaled_dot_product_attention(*inputs(), p=0.5)


def test_public_names():
    assert set(attention.__all__) == {"attention_compiled", "scaled_dot_product_attention"}


def test_a_batch_of_gradients():
    arrays = [x.detach()[:1, :, :3] for x in inputs()]
    jacobian = torch.autograd.functional.jacobian
    for got, expected in zip(
        jacobian(ours, tuple(arrays), vectorize=True), jacobian(ours, tuple(arrays)), strict=True
    ):
        torch.testing.assert_close(got, expected)
    x = arrays[0].clone().requires_grad_()
    y = ours(x, x, x)
    several = torch.randn(4, *y.shape, dtype=y.dtype)
    (got,) = torch.autograd.grad(y, x, several, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in several]
    torch.testing.assert_close(got, torch.stack(each))
