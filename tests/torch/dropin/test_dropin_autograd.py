"""Derivatives in eager mode: right, to any order, and nothing saved for them."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import thinned
import thinned.torch
from thinned.backends.torch.backend import backend
from thinned.backends.torch.eager import filled
from thinned.backends.torch.kernel import Noise
from thinned.methods.equation import draw_for
from thinned.torch import functional as F  # noqa: N812

AT = thinned.Address(seed=11, site="here", step=4, call=2)
SHAPES = {"dropout1d": (2, 3, 4), "dropout3d": (2, 2, 1, 2, 2)}
NAMES = [
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
]
every_function = pytest.mark.parametrize("name", NAMES)


def numbers(name, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(SHAPES.get(name, (2, 3, 2, 2)), dtype=dtype, requires_grad=True)


def at_address(name, p=0.4):
    return lambda x: getattr(F, name)(x, p, True, at=AT)


def saved_by(call):
    """Every tensor that autograd keeps for the backward pass of what `call` gives."""
    seen = []
    with saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        y = call()
    y.sum().backward()
    return seen


# ---------------------------------------------------------------------------------------- gradients


@every_function
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_gradients_to_the_second_order_and_forward(name, p):
    call, x = at_address(name, p), numbers(name)
    assert torch.autograd.gradcheck(call, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: call(x).pow(2), x, check_fwd_over_rev=True)


def test_gradients_of_the_general_forms():
    x = numbers("dropout")
    for how in (
        {"shared_axes": (0, 2)},
        {"mirror": True},
        {"window": thinned.Window((1, 0, 3, 0), (9, 3, 9, 2))},
    ):
        assert torch.autograd.gradcheck(
            lambda x, how=how: thinned.dropout(x, 0.4, AT, **how), x, check_forward_ad=True
        )
    permuted = x.detach().permute(3, 1, 0, 2).requires_grad_()
    assert torch.autograd.gradcheck(at_address("dropout"), permuted, check_forward_ad=True)


def noise_at(shape, p=0.4, scale=None):
    return Noise(draw_for("test", shape, p, AT), 1.0 / (1.0 - p) if scale is None else scale)


@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_a_fill_array_and_its_gradients(scale):
    x, f = (torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    how = noise_at((5, 6), scale=scale)
    keep = thinned.keep_mask((5, 6), 0.4, AT, like=x)
    y = filled(x, f, how)
    expected = torch.where(keep, x if scale == 1.0 else f + scale * (x - f), f)
    assert torch.equal(y, expected)
    assert torch.equal(backend.apply(x, how.draw, scale, f, None), y)
    row = f.detach()[0].clone().requires_grad_()
    assert torch.equal(
        backend.apply(x, how.draw, scale, row, None), filled(x, row.expand(5, 6), how)
    )
    assert torch.autograd.gradcheck(
        lambda x, f: filled(x, f, how), (x, f), check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(lambda x, f: filled(x, f, how).pow(2), (x, f))
    assert saved_by(lambda: filled(x, f, how)) == []
    mapped = torch.func.vmap(lambda x, f: filled(x, f, noise_at((6,), scale=scale)))(x, f)
    alone = [filled(a, b, noise_at((6,), scale=scale)) for a, b in zip(x, f, strict=True)]
    assert torch.equal(mapped, torch.stack(alone))


def test_a_dropped_nan_leaves_the_fill_array_alone():
    x, f = torch.full((50,), float("nan")), torch.randn(50)
    keep = thinned.keep_mask(50, 0.4, AT, like=x)
    y = filled(x, f, noise_at((50,)))
    assert torch.equal(y[~keep], f[~keep])
    assert y[keep].isnan().all()


def test_gaussian_noise_is_numpys_and_differentiable():
    draw = draw_for("test", (6, 7), 0.0, AT)
    x = torch.randn(6, 7, requires_grad=True, dtype=torch.float64)
    z = backend.gaussian(draw).double()
    y = backend.apply_gaussian(x, draw, 0.5, None)
    torch.testing.assert_close(y, x * (1.0 + 0.5 * z), rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(
        lambda x: backend.apply_gaussian(x, draw, 0.5, None), x, check_forward_ad=True
    )
    assert saved_by(lambda: backend.apply_gaussian(x, draw, 0.5, None)) == []


def test_gradients_in_every_layout_are_those_of_the_mask():
    keep = thinned.keep_mask((6, 10), 0.5, AT, like=torch.empty(0))
    for grad in (
        torch.randn(6, 10),
        torch.randn(10, 6).T,
        torch.tensor(3.0).expand(6, 10),
        torch.randn(6, 20)[:, ::2],
    ):
        x = torch.randn(6, 10, requires_grad=True)
        (dx,) = torch.autograd.grad(F.dropout(x, 0.5, True, at=AT), x, grad)
        assert torch.equal(dx, torch.where(keep, 2.0 * grad, torch.zeros_like(grad)))


@every_function
def test_the_backward_pass_has_the_mask_of_the_forward(name):
    """At a drawn seed, which nobody knows: zeros of the output are zeros of the gradient."""
    x = torch.ones(SHAPES.get(name, (8, 30, 2, 2)), requires_grad=True)
    x = (x * torch.ones_like(x)).detach().requires_grad_()
    y = getattr(F, name)(x, 0.5, True)
    y.sum().backward()
    dropped = (y == 0.0) if "alpha" not in name else (y == y.min())
    assert torch.equal(x.grad == 0.0, dropped)


def test_batched_gradients_share_the_mask():
    x = torch.randn(5, requires_grad=True)
    y = F.dropout(x, 0.5, True)
    (rows,) = torch.autograd.grad(y, x, torch.eye(5), is_grads_batched=True)
    (one,) = torch.autograd.grad(F.dropout(x, 0.0, True) * 0.0 + y, x, torch.ones(5))
    assert torch.equal(rows, torch.diag(one))


def test_forward_mode_at_a_drawn_seed():
    x, tangent = torch.randn(40), torch.randn(40)
    with forward_ad.dual_level():
        y = thinned.torch.Dropout(0.5)(forward_ad.make_dual(x, tangent))
        value, along = forward_ad.unpack_dual(y)
    assert torch.equal(value == 0.0, along == 0.0)
    assert torch.equal(along[value != 0.0], 2.0 * tangent[value != 0.0])


# ------------------------------------------------------------------------------------- what is kept


@every_function
def test_nothing_is_saved(name):
    for inplace in (False, True):
        for how in ({}, {"at": AT}):
            x = numbers(name)
            function = getattr(F, name)
            y = x * 1.0
            assert saved_by(lambda: function(y, 0.4, True, inplace, **how)) == []  # noqa: B023


def test_nothing_is_kept_in_other_ways():
    """The graph of a million elements holds no tensor of that size but the input and output."""
    x = torch.ones(1_000_000, requires_grad=True)
    y = thinned.torch.Dropout(0.5)(x)
    reached, held = [y.grad_fn], []
    while reached:  # whatever hangs on the node of the graph
        for o in gc.get_referents(reached.pop()):
            if isinstance(o, torch.Tensor):
                held.append(o)
            elif isinstance(o, (tuple, list, dict)):
                reached.append(o)
    assert [t for t in held if t is not x] == []


# ----------------------------------------------------------------------------------------- in place


def test_in_place_in_a_graph():
    x = torch.randn(50, requires_grad=True)
    y = x * 1.0
    z = F.dropout(y, 0.5, True, True, at=AT)
    assert z is y
    z.sum().backward()
    assert torch.equal(x.grad, F.dropout(torch.ones(50), 0.5, True, at=AT))


def test_in_place_on_a_view():
    x = torch.randn(6, 8, requires_grad=True)
    whole = x * 1.0
    F.dropout(whole[:, 2:5], 0.5, True, True, at=AT)
    whole.sum().backward()
    expected = torch.ones(6, 8)
    expected[:, 2:5] = F.dropout(torch.ones(6, 3), 0.5, True, at=AT)
    assert torch.equal(x.grad, expected)


def test_in_place_is_seen_by_those_who_saved_the_tensor():
    x = torch.randn(5, requires_grad=True)
    y = x.exp()
    F.dropout(y, 0.5, True, True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_cannot_be_written_in_place_is_left_as_it_was():
    leaf = torch.randn(20, requires_grad=True)
    old = leaf.detach().clone()
    with pytest.raises(RuntimeError, match="a leaf tensor that requires grad cannot be written"):
        F.dropout(leaf, 0.5, True, True)
    assert torch.equal(leaf, old)
    expanded = torch.ones(3, 1).expand(3, 4)
    with pytest.raises(RuntimeError, match="more than one element of x lies in the same memory"):
        F.dropout(expanded, 0.5, True, True)
    assert (expanded == 1.0).all()
    with torch.no_grad():
        F.dropout(leaf, 0.5, True, True)
    assert not torch.equal(leaf, old)


# ----------------------------------------------------------------------------------------- contexts


def test_inference_mode():
    module = thinned.torch.Dropout(0.5)
    with torch.inference_mode():
        y = module(torch.ones(100))
        assert set(y.tolist()) == {0.0, 2.0}
    module(torch.ones(100, requires_grad=True)).sum().backward()


def test_the_first_call_of_a_thread_may_be_in_inference_mode():
    def work():
        with torch.inference_mode():
            first = thinned.torch.Dropout(0.5)(torch.ones(100))
        x = torch.ones(100, requires_grad=True)
        thinned.torch.Dropout(0.5)(x).sum().backward()
        return set(first.tolist()) == set(x.grad.tolist()) == {0.0, 2.0}

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result()


def test_autocast_leaves_the_type_alone():
    with torch.autocast("cpu", torch.bfloat16):
        assert thinned.torch.Dropout(0.5)(torch.ones(4)).dtype == torch.float32


def test_threads_do_not_disturb_each_other():
    module = thinned.torch.Dropout(0.5)
    weights = torch.randn(3000)

    def work(n):
        at = thinned.Address(seed=n)
        x = torch.ones(3000, requires_grad=True)
        F.dropout(x, 0.3, True, at=at).mul(weights).sum().backward()
        y = x.grad.clone()
        z = torch.ones(3000, requires_grad=True)
        out = module(z)
        out.sum().backward()
        return y, torch.equal(out.detach(), z.grad)

    alone = [work(n)[0] for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, range(40)))
    for expected, (y, consistent) in zip(alone, together, strict=True):
        assert torch.equal(y, expected)
        assert consistent


def test_threads_draw_different_masks():
    module = thinned.torch.Dropout(0.5)
    with ThreadPoolExecutor(8) as pool:
        masks = list(pool.map(lambda _: bytes(module(torch.ones(200)).bool().tolist()), range(60)))
    assert len(set(masks)) == 60


# --------------------------------------------------------------------------------------- checkpoint


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_repeats_its_masks(reentrant):
    torch.manual_seed(1)
    block = torch.nn.Sequential(
        torch.nn.Linear(20, 20), thinned.torch.Dropout(0.5), torch.nn.ReLU(),
        thinned.torch.AlphaDropout(0.2), torch.nn.Linear(20, 20), thinned.torch.Dropout(0.3),
    )  # fmt: skip
    x = torch.randn(8, 20, requires_grad=True)

    def gradients(call):
        torch.manual_seed(2)
        block.zero_grad()
        x.grad = None
        y = call(x)
        y.pow(2).sum().backward()
        return y.detach(), x.grad.clone(), [w.grad.clone() for w in block.parameters()]

    plain = gradients(block)
    again = gradients(lambda x: checkpoint(block, x, use_reentrant=reentrant))
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


def test_selective_checkpointing_sees_the_operator():
    """A dispatch mode has to see what happens: the registered operator stands in for the kernel."""
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    seen = []

    def policy(ctx, op, *args, **how):
        seen.append(str(op))
        return CheckpointPolicy.PREFER_RECOMPUTE

    x = torch.ones(30, requires_grad=True)
    y = checkpoint(
        lambda x: F.dropout(x, 0.5, True) * x,
        x,
        use_reentrant=False,
        context_fn=lambda: create_selective_checkpoint_contexts(policy),
    )
    y.sum().backward()
    assert any("thinned" in name for name in seen)
    assert torch.equal(x.grad, 2.0 * y.detach())
