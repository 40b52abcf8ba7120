"""Attention under everything that differentiates, transforms, compiles and recomputes."""

import pytest
import torch
from attended import MASKS, inputs, made, ours
from torch.utils.checkpoint import checkpoint
from versions import through_the_compiler

from thinned import Window


def test_derivatives_of_derivatives():
    arrays = inputs(B=1, H=2, L=3, S=4)
    mask = made(3, 4, seed=4)
    assert torch.autograd.gradcheck(ours, (*arrays, mask), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, (*arrays, mask))
    same = arrays[0]
    assert torch.autograd.gradgradcheck(lambda x: ours(x, x, x, is_causal=True), (same,))


def test_transforms():
    arrays = [x.detach() for x in inputs()]
    free = [x.clone().requires_grad_() for x in arrays]
    expected = torch.autograd.grad(ours(*free).sum(), free)
    grads = torch.func.grad(lambda *x: ours(*x).sum(), argnums=(0, 1, 2))(*arrays)
    for x, y in zip(grads, expected, strict=True):
        torch.testing.assert_close(x, y)
    each = torch.func.vmap(ours, randomness="same")(*arrays)
    torch.testing.assert_close(each[1], ours(*(x[1] for x in arrays)))
    fresh = torch.func.vmap(lambda *x: ours(*x, at=None), randomness="different")
    same = fresh(*(x[:1].expand(x.shape) for x in arrays))
    assert not torch.equal(same[0], same[1])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(lambda *x: ours(*x, at=None))(*arrays)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(use_reentrant):
    def gradients(run):
        arrays = [x.detach().requires_grad_() for x in inputs()]
        torch.manual_seed(7)
        run(*arrays).sum().backward()
        return [x.grad for x in arrays]

    def fresh(q, k, v):
        return ours(q, k, v, at=None)

    kept = gradients(fresh)
    again = gradients(lambda *x: checkpoint(fresh, *x, use_reentrant=use_reentrant))
    assert all(torch.equal(x, y) for x, y in zip(kept, again, strict=True))


@pytest.mark.parametrize("kind", ["none", "bias of heads", "padding"])
@pytest.mark.parametrize("permuted", [False, True], ids=["contiguous", "permuted"])
def test_compiled(kind, permuted):
    torch._dynamo.reset()
    arrays, mask = inputs(permuted=permuted), MASKS[kind](2, 3, 7, 9)
    window = Window((1, 0, 0, 0), (4, 3, 7, 9))
    compiled = torch.compile(
        lambda q, k, v, m: ours(q, k, v, m, window=window), fullgraph=True, backend="aot_eager"
    )
    got, expected = compiled(*arrays, mask), ours(*arrays, mask, window=window)
    assert torch.equal(got, expected)
    wanted = [x for x in (*arrays, mask) if x is not None and x.requires_grad]
    grads = torch.autograd.grad(expected.sum(), wanted)
    for x, y in zip(torch.autograd.grad(got.sum(), wanted), grads, strict=True):
        assert torch.equal(x, y)


def test_compiled_by_inductor():
    torch._dynamo.reset()
    arrays = inputs()
    compiled = torch.compile(lambda *x: ours(*x, is_causal=True), fullgraph=True)
    assert torch.equal(compiled(*arrays), ours(*arrays, is_causal=True))


def test_another_p_or_size_is_no_new_program():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q, k, v, p: ours(q, k, v, p=p), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    q, k, v = (x.detach() for x in inputs())
    compiled(q, k, v, torch.tensor(0.3, dtype=torch.float64))
    with torch.compiler.set_stance("fail_on_recompile"):
        for n, p in ((5, 0.5), (6, 1.0), (7, 0.0)):
            some = q[:, :, :n].contiguous()
            got = compiled(some, k, v, torch.tensor(p, dtype=torch.float64))
            torch.testing.assert_close(got, ours(some, k, v, p=p))


def test_compiled_programs_draw_fresh_seeds():
    torch._dynamo.reset()
    arrays = inputs()
    compiled = torch.compile(lambda *x: ours(*x, at=None), fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    first, second = compiled(*arrays), compiled(*arrays)
    torch.manual_seed(1)
    assert torch.equal(compiled(*arrays), first)
    assert not torch.equal(first, second)


def test_forward_mode_does_not_vanish_in_a_compiled_program():
    torch._dynamo.reset()
    q, k, v = (x.detach() for x in inputs())

    def tangent(q):
        return torch.func.jvp(lambda q: ours(q, k, v), (q,), (torch.ones_like(q),))[1]

    words = through_the_compiler("forward-mode differentiation does not go through")
    with pytest.raises(Exception, match=words):
        torch.compile(tangent, fullgraph=True, backend="aot_eager")(q)


def test_dispatch_modes_see_one_operator():
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    arrays = inputs()
    with Watch():
        got = ours(*arrays)
    assert torch.equal(got, ours(*arrays))
    assert "thinned.attention.default" in seen
