"""torch.func: grad, jvp, hessian, vmap with each kind of randomness, functional_call, and nests."""

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

import thinned
import thinned.torch
from thinned.torch import functional as F  # noqa: N812

AT = thinned.Address(seed=11, site="here", step=4, call=2)


def drop(x, **how):
    return F.dropout(x, 0.5, True, at=AT, **how)


def mask(shape, at=AT):
    return thinned.keep_mask(shape, 0.5, at, like=torch.empty(0))


def test_grad_jvp_and_vjp():
    x, v = torch.randn(2, 30)
    twice = 2.0 * mask(30)
    assert torch.equal(grad(lambda x: drop(x).sum())(x), twice)
    assert torch.equal(jvp(drop, (x,), (v,))[1], twice * v)
    y, pull = vjp(drop, x)
    assert torch.equal(y, drop(x))
    assert torch.equal(pull(v)[0], twice * v)
    assert torch.equal(jacrev(drop)(x), torch.diag(twice))
    assert torch.equal(grad(lambda x: jvp(drop, (x,), (v,))[1].sum())(x), torch.zeros(30))


def test_hessian():
    x = torch.randn(6)
    assert torch.equal(hessian(lambda x: drop(x).pow(2).sum())(x), torch.diag(8.0 * mask(6)))


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout", "dropout2d"])
def test_the_others_carry_the_transforms(name):
    function = getattr(F, name)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    call = lambda x: function(x, 0.5, True, at=AT)  # noqa: E731
    y = x.clone().requires_grad_()
    call(y).pow(2).sum().backward()
    assert torch.equal(grad(lambda x: call(x).pow(2).sum())(x), y.grad)
    batch = torch.randn(3, 2, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(vmap(call)(batch), torch.stack([call(x) for x in batch]))


# --------------------------------------------------------------------------------------------- vmap


def test_vmap_at_an_address_shares_the_mask():
    x = torch.randn(7, 30)
    for randomness in ("same", "error"):
        assert torch.equal(vmap(drop, randomness=randomness)(x), x * 2.0 * mask(30))
    y = vmap(drop, in_dims=1, out_dims=1)(x.T)
    assert torch.equal(y.T, x * 2.0 * mask(30))


def test_vmap_different_folds_the_index_into_the_address():
    x = torch.randn(7, 30)
    y = vmap(drop, randomness="different")(x)
    expected = [x[i] * 2.0 * mask(30, AT.fold_in(i)) for i in range(7)]
    assert torch.equal(y, torch.stack(expected))


def test_vmap_of_a_drawn_seed():
    x = torch.ones(7, 100)
    module = thinned.torch.Dropout(0.5)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(module)(x)
    same = vmap(module, randomness="same")(x)
    assert (same == same[0]).all()
    assert 0 < same[0].sum() < 200
    different = vmap(module, randomness="different")(x)
    assert len({bytes(row.bool().tolist()) for row in different}) == 7
    torch.manual_seed(0)
    first = vmap(module, randomness="different")(x)
    torch.manual_seed(0)
    assert torch.equal(vmap(module, randomness="different")(x), first)


def test_vmap_over_something_else():
    """The input is not mapped, the mask is."""
    x = torch.ones(50)
    y = vmap(lambda s: F.dropout(x, 0.5, True) * s, randomness="different")(torch.ones(4))
    assert len({bytes(row.bool().tolist()) for row in y}) == 4


def test_shared_axes_under_vmap():
    x = torch.randn(5, 4, 6)
    y = vmap(lambda x: drop(x, shared_axes=0))(x)
    assert torch.equal(y, torch.stack([drop(one, shared_axes=0) for one in x]))


def test_gradients_of_each_sample():
    w, x = torch.randn(30), torch.randn(5, 30)
    module = thinned.torch.Dropout(0.5)

    def loss(w, x):
        return module(w * x).pow(2).sum()

    each = vmap(grad(loss), in_dims=(None, 0), randomness="different")(w, x)
    kept = each != 0.0
    torch.testing.assert_close(each, torch.where(kept, 8.0 * w * x * x, 0.0))
    assert len({bytes(row.tolist()) for row in kept}) == 5
    each = vmap(grad(loss), in_dims=(None, 0), randomness="same")(w, x)
    assert ((each != 0.0) == (each != 0.0)[0]).all()


def test_vmap_in_vmap():
    x = torch.randn(3, 4, 20)
    assert torch.equal(vmap(vmap(drop))(x), x * 2.0 * mask(20))
    module = thinned.torch.Dropout(0.5)
    y = vmap(vmap(module, randomness="different"), randomness="different")(torch.ones(3, 4, 100))
    assert len({bytes(row.bool().tolist()) for row in y.flatten(0, 1)}) == 12
    y = vmap(vmap(module, randomness="same"), randomness="different")(torch.ones(3, 4, 100))
    assert (y == y[:, :1]).all()
    assert len({bytes(row.bool().tolist()) for row in y[:, 0]}) == 3


def test_functional_call_and_grad_over_parameters():
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), thinned.torch.Dropout(0.5))
    parameters, x = dict(model.named_parameters()), torch.randn(4, 6)

    def loss(parameters):
        torch.manual_seed(3)
        return functional_call(model, parameters, (x,)).pow(2).sum()

    found = grad(loss)(parameters)
    loss(parameters).backward()
    for name, weight in parameters.items():
        torch.testing.assert_close(found[name], weight.grad, rtol=0, atol=0)


def test_in_place_under_transforms():
    x = torch.randn(4, 30)
    y = vmap(lambda x: F.dropout(x * 1.0, 0.5, True, True, at=AT))(x)
    assert torch.equal(y, x * 2.0 * mask(30))
    assert torch.equal(
        grad(lambda x: F.dropout(x * 1.0, 0.5, True, True, at=AT).sum())(x[0]), 2.0 * mask(30)
    )
