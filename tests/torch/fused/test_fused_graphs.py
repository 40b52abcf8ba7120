"""The fused functions under everything that differentiates, transforms, compiles and recomputes."""

import pytest
import torch
from residual import equal, inputs, made, norm_formula, normed, sum_formula, summed
from torch.utils.checkpoint import checkpoint

from thinned import Address, Window

KINDS = ["layer", "rms"]


def arrays(*shape, dtype=torch.float64):
    """x, residual, weight, bias of the norm."""
    x, _, residual = inputs(*shape, dtype=dtype)
    n = shape[-1]
    return x, residual, made(n, seed=3, dtype=dtype), made(n, seed=4, dtype=dtype)


def test_derivatives_of_derivatives():
    small = inputs(3, 5)
    assert torch.autograd.gradcheck(summed, small, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(summed, small)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_derivatives_of_norms(kind):
    def run(*some):
        return normed(*some, kind=kind, eps=0.1)

    small = arrays(3, 5)
    options = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(run, small, **options)
    assert torch.autograd.gradgradcheck(run, small)


def test_transforms():
    x, bias, residual = (a.detach() for a in inputs(4, 3, 8))
    free = [a.clone().requires_grad_() for a in (x, bias, residual)]
    expected = torch.autograd.grad(summed(*free).square().sum(), free)
    grads = torch.func.grad(lambda *a: summed(*a).square().sum(), argnums=(0, 1, 2))(
        x, bias, residual
    )
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b)
    each = torch.func.vmap(lambda a, b: summed(a, bias, b))(x, residual)
    equal(each[2], summed(x[2], bias, residual[2]))
    several = torch.func.vmap(lambda a, b: normed(a, b, bias, None)[0])(x, residual)
    torch.testing.assert_close(several[2], normed(x[2], residual[2], bias, None)[0])
    fresh = torch.func.vmap(lambda a, b: summed(a, bias, b, at=None), randomness="different")
    drawn = fresh(*(a[:1].expand(a.shape) for a in (x, residual)))
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(use_reentrant):
    def gradients(around):
        given = [a.detach().requires_grad_() for a in (*inputs(4, 8), made(8, seed=3))]
        torch.manual_seed(7)
        around(layer, *given).sum().backward()
        return [a.grad for a in given]

    def layer(x, bias, residual, weight):
        h = summed(x, bias, residual, at=None)
        return normed(h, residual, weight, None, at=None, prenorm=False)

    kept = gradients(lambda f, *a: f(*a))
    again = gradients(lambda f, *a: checkpoint(f, *a, use_reentrant=use_reentrant))
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    (x, bias, residual), (_, beside, weight, shift) = (
        inputs(4, 8, dtype=dtype),
        arrays(4, 8, dtype=dtype),
    )
    calls = (lambda: summed(x, bias, residual), lambda: normed(x, beside, weight, shift)[0])
    for call in calls:
        expected = call()
        with torch.autocast("cpu", torch.bfloat16):
            equal(call(), expected)
            if call is calls[1]:  # nor where PyTorch's own norm runs
                (y,) = torch.func.vmap(lambda a: normed(a, beside, weight, shift)[0])(x[None])
                torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled(backend):
    torch._dynamo.reset()
    x, bias, residual = inputs(4, 6, 8)
    weight, shift = made(8, seed=3), made(8, seed=4)
    window = Window((1, 0, 0), (9, 6, 8))

    def layer(x, bias, residual, weight, shift):
        h = summed(x, bias, residual, window=window)
        y, z = normed(h, residual, weight, shift)
        return y, normed(z, None, weight, None, kind="rms", prenorm=False)

    given = (x, bias, residual, weight, shift)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    got, expected = compiled(*given), layer(*given)
    for a, b in zip(got, expected, strict=True):
        equal(a, b)
    ours = torch.autograd.grad([a.sum() for a in got], given)
    for a, b in zip(ours, torch.autograd.grad([a.sum() for a in expected], given), strict=True):
        torch.testing.assert_close(a, b)


def test_another_step_or_p_or_size_is_no_new_program():
    torch._dynamo.reset()

    def layer(x, bias, residual, p, step):
        at = Address(seed=3, site="mlp", step=step)
        h = summed(x, bias, residual, p=p, at=at)
        return normed(h, residual, bias, None, p=p, at=at, prenorm=False)

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    x, bias, residual = (a.detach() for a in inputs(9, 8))
    compiled(x, bias, residual, torch.tensor(0.3, dtype=torch.float64), 2)
    with torch.compiler.set_stance("fail_on_recompile"):
        for n, p, step in ((5, 0.5, 3), (6, 1.0, 4), (7, 0.0, 5)):
            got = compiled(x[:n], bias, residual[:n], torch.tensor(p, dtype=torch.float64), step)
            torch.testing.assert_close(got, layer(x[:n], bias, residual[:n], p, step))


def test_compiled_programs_draw_fresh_seeds():
    torch._dynamo.reset()
    given = inputs(20, 30)
    compiled = torch.compile(lambda *a: summed(*a, at=None), fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    first, second = compiled(*given), compiled(*given)
    torch.manual_seed(1)
    assert torch.equal(compiled(*given), first)
    assert not torch.equal(first, second)


def test_forward_mode_of_a_compiled_program():
    torch._dynamo.reset()
    x, bias, residual = (a.detach() for a in inputs(4, 8))

    def tangent(x):
        return torch.func.jvp(lambda x: summed(x, bias, residual), (x,), (torch.ones_like(x),))[1]

    got = torch.compile(tangent, backend="aot_eager")(x)
    equal(got, sum_formula(torch.ones_like(x), None, torch.zeros_like(x)))


def test_operators():
    x, bias, residual = inputs(4, 8, dtype=torch.float32)
    words = torch.tensor([1, 2, 3, 4, 5, 0, 8, 1])
    rate = torch.tensor([2.0**30, 4 / 3], dtype=torch.float64)
    add = torch.ops.thinned.bias_dropout_add.default
    torch.library.opcheck(add, (x, bias, residual, words, rate, False))
    torch.library.opcheck(add, (x.detach(), None, residual.detach(), words, rate, True))
    norm = torch.ops.thinned.dropout_add_norm.default
    for some in ((residual, bias, None), (None, None, None)):
        given = (x, *some, words, rate, torch.float32, some[0] is None, 1e-5, False)
        torch.library.opcheck(norm, given)


def test_dispatch_modes_see_one_operator():
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x, bias, residual = inputs(4, 8)
    with Watch():
        got = summed(x, bias, residual)
        y, _ = normed(x, residual, bias, None)
    equal(got, summed(x, bias, residual))
    equal(y, normed(x, residual, bias, None)[0])
    assert "thinned.bias_dropout_add.default" in seen
    assert "thinned.dropout_add_norm.default" in seen


def test_shards_of_a_dtensor(tmp_path):
    """One process: each way a tensor may be placed, with the masks of the whole."""
    distributed = pytest.importorskip("torch.distributed.tensor")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        x, bias, residual = (a.detach() for a in inputs(4, 8))

        def on(a, *where):
            return distributed.distribute_tensor(a, mesh, where)

        for where in (distributed.Shard(0), distributed.Replicate()):
            whole = [on(a, where) for a in (x, residual)]
            column = on(bias, distributed.Replicate())
            y = summed(whole[0], column, whole[1])
            equal(y.full_tensor(), summed(x, bias, residual))
            got, _ = normed(*whole, column, None)
            torch.testing.assert_close(got.full_tensor(), normed(x, residual, bias, None)[0])
    finally:
        torch.distributed.destroy_process_group()


def test_a_batch_of_gradients():
    given = arrays(3, 5)
    y, _ = normed(*given)
    several = torch.randn(4, *y.shape, dtype=y.dtype)
    batch = torch.autograd.grad(y, given, several, is_grads_batched=True, retain_graph=True)
    for i, one in enumerate(several):
        each = torch.autograd.grad(norm_formula(*given)[0], given, one)
        for a, b in zip(batch, each, strict=True):
            torch.testing.assert_close(a[i], b)


@pytest.mark.cuda
def test_a_device_gives_the_same():
    x, bias, residual = (a.detach() for a in inputs(40, 64, dtype=torch.float32))
    away = [a.cuda() for a in (x, bias, residual)]
    equal(summed(*away).cpu(), summed(x, bias, residual))
    got, z = normed(away[0], away[2], away[1], None)
    y, whole = normed(x, residual, bias, None)
    equal(z.cpu(), whole)
    torch.testing.assert_close(got.cpu(), y)
