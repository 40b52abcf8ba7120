"""torch.func and forward mode while somebody watches: dispatch modes, wrapper tensors."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jvp, vjp, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

import thinned
import thinned.torch as tt
from thinned import Address
from thinned.torch import functional as F  # noqa: N812 - as PyTorch's

AT = Address(9, 4)
X, V = torch.linspace(-1.0, 1.0, 24).reshape(4, 6), torch.linspace(1.0, 3.0, 24).reshape(4, 6)


class Watch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class Wrapper(torch.Tensor):
    """A tensor around another one, which sees what is done to it."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=inner.device, strides=inner.stride()
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        args, kwargs = tree_map(open_up, (args, kwargs or {}))
        out = function(*args, **kwargs)
        return tree_map(lambda y: cls(y) if isinstance(y, torch.Tensor) else y, out)


def open_up(x):
    return x.inner if isinstance(x, Wrapper) else x


def adopted():
    model = nn.Sequential(nn.Dropout(0.5))
    tt.adopt(model, seed=3)
    return model


CALLS = {  # makers of a function of one tensor
    "at an address": lambda: lambda x: F.dropout(x, 0.5, True, at=AT),
    "whole rows": lambda: lambda x: thinned.dropout(x, 0.5, AT, shared_axes=1),
    "alpha": lambda: lambda x: F.alpha_dropout(x, 0.5, True, at=AT),
    "Gaussian": lambda: lambda x: thinned.gaussian_dropout(x, 0.5, AT),
    "uniform": lambda: lambda x: thinned.uniform_dropout(x, 0.5, AT),
    "zoneout": lambda: lambda x: thinned.zoneout(x, 2.0 * x, 0.5, AT),
    "attention": lambda: (
        lambda x: tt.scaled_dot_product_attention(x, x, x, p=0.3, at=AT, training=True)
    ),
    "a fresh seed": lambda: tt.Dropout(0.5).forward,
    "a row's module": lambda: tt.GaussianDropout(0.5).forward,
    "a word's module": lambda: tt.UniformDropout(0.5).forward,
    "adopted": lambda: adopted()[0].forward,
}
FRESH = ("a fresh seed", "a row's module", "a word's module")


def forward_mode_of(f, x, v):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, v))).tangent


TRANSFORMS = {
    "grad": lambda f, x, v: grad(lambda x: (f(x) ** 2 * v).sum())(x),
    "vjp": lambda f, x, v: vjp(f, x)[1](v)[0],
    "jvp": lambda f, x, v: jvp(f, (x,), (v,))[1],
    "jvp of grad": lambda f, x, v: jvp(grad(lambda x: (f(x) ** 3).sum()), (x,), (v,))[1],
    "forward mode": forward_mode_of,
    "vmap": lambda f, x, v: vmap(f, randomness="same")(x.expand(2, 4, 6)),
    "vmap of grad": lambda f, x, v: vmap(grad(lambda x: (f(x) ** 2).sum()), randomness="same")(
        v.expand(2, 4, 6)
    ),
    "jacfwd": lambda f, x, v: jacfwd(f, randomness="same")(x),
    "hessian": lambda f, x, v: hessian(lambda x: (f(x) ** 3).sum())(x),
}
WATCHERS = {
    "FLOPs": (lambda: FlopCounterMode(display=False), lambda x: x),
    "a mode": (Watch, lambda x: x),
    "a wrapper": (nullcontext, Wrapper),
    "both": (Watch, Wrapper),
}


def taken(transform, call, watcher=None):
    make, wrap = WATCHERS[watcher] if watcher else (nullcontext, lambda x: x)
    f = CALLS[call]()
    torch.manual_seed(5)
    with make():
        return open_up(TRANSFORMS[transform](f, wrap(X), wrap(V)))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_who_watches_changes_no_derivative(transform, call, watcher):
    if transform == "hessian" and call in FRESH:
        return  # vmap refuses to draw there, watched or not
    if watcher in ("a wrapper", "both") and call == "attention" and "jac" in transform:
        return
    torch.testing.assert_close(taken(transform, call, watcher), taken(transform, call))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("transform", ["grad", "vjp", "jvp", "forward mode", "vmap"])
def test_fake_tensors_go_through_transforms(transform, call):
    with FakeTensorMode() as mode:
        x, v = mode.from_tensor(X), mode.from_tensor(V)
        y = TRANSFORMS[transform](CALLS[call](), x, v)
    assert y.shape == taken(transform, call).shape


def test_a_mode_sees_the_operator_under_a_transform():
    with Watch() as watch:
        grad(lambda x: F.dropout(x, 0.5, True, at=AT).sum())(X)
    assert any("thinned" in name for name in watch.seen)


def test_a_vmap_over_the_backward_pass_has_the_forwards_mask():
    x = X.clone().requires_grad_()
    for f in (CALLS["at an address"](), CALLS["a fresh seed"](), CALLS["attention"]()):
        y, gs = f(x), torch.randn(3, 4, 6)

        def back(g, y=y):
            return torch.autograd.grad(y, x, g, retain_graph=True)[0]

        for randomness in ("error", "same", "different"):
            found = vmap(back, randomness=randomness)(gs)
            torch.testing.assert_close(found, torch.stack([back(g) for g in gs]))
