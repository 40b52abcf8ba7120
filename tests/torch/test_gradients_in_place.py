"""The backward pass writes into the gradient that came in, but never into one that others hold."""

import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import thinned
import thinned.torch
from thinned import kernel
from thinned.backends import torch as backend, torch_gradients
from thinned.torch import functional as F  # noqa: N812

needs_kernel = pytest.mark.skipif(
    kernel.uses_reference(), reason="THINNED_KERNEL=reference draws in tensor operations"
)
N = 4096
AT = thinned.Address(seed=5, site="here")
COME = torch.linspace(1.0, 2.0, N)  # the gradient that comes in

# A fresh seed goes through one Function, an address through the other.
WAYS = {
    "fresh": lambda x: F.dropout(x, 0.5, True),
    "address": lambda x: F.dropout(x, 0.5, True, at=AT),
}
every_way = pytest.mark.parametrize("drop", WAYS.values(), ids=WAYS)


def numbers():
    return torch.linspace(-1.0, 1.0, N, requires_grad=True)


def start(drop):
    """x, something in between, and dropout of it."""
    torch.manual_seed(3)
    x = numbers()
    h = x * 1.0
    return x, h, drop(h)


def where_it_went(y, h, after):
    """Memory of the gradient that came in, and of the one that went out."""
    seen = {}
    y.register_hook(lambda g: seen.__setitem__("in", g.data_ptr()))
    h.register_hook(lambda g: seen.__setitem__("out", g.data_ptr()))
    after(y).sum().backward()
    return seen["in"], seen["out"]


# ------------------------------------------------------------------------------------------- nobody

AFTER = {
    "a product": lambda y: y * COME,
    "a view of a product": lambda y: y.view(64, 64) @ torch.eye(64),
    "views of views": lambda y: y.view(64, 64).view(8, 512) * COME.view(8, 512),
    "a linear layer": lambda y: nn.functional.linear(y.view(8, 8, 64), torch.eye(64)),
}


@needs_kernel
@every_way
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_a_gradient_that_nobody_holds_is_written_into(drop, after):
    if not torch_gradients._can_count or sys.gettrace() is not None:
        pytest.skip("nothing is counted: this PyTorch cannot, or a debugger looks on")
    _, h, y = start(drop)
    came, went = where_it_went(y, h, after)
    assert came == went


@every_way
def test_the_values_are_those_of_the_mask(drop):
    x, _, y = start(drop)
    kept = y.detach() != 0
    (y * COME).sum().backward()
    assert torch.equal(x.grad, torch.where(kept, 2 * COME, 0.0))


# ----------------------------------------------------------------------------------------- somebody


def keep_memory(g):
    return g.untyped_storage(), lambda s: torch.empty(0).set_(s)


KEPT = {
    "itself": lambda g: (g, lambda k: k),
    "detached": lambda g: (g.detach(), lambda k: k),
    "a view": lambda g: (g.view(64, 64), lambda k: k.reshape(-1)),
    "a part": lambda g: (g[:7], lambda k: torch.cat([k, COME[7:]])),
    "numpy": lambda g: (g.numpy(), torch.tensor),
    "its storage": keep_memory,
    "dlpack": lambda g: (torch.utils.dlpack.to_dlpack(g), torch.utils.dlpack.from_dlpack),
    "a weak reference": lambda g: (weakref.ref(g), lambda k: COME if k() is None else k()),
    "a saved tensor": lambda g: (g.detach().requires_grad_().exp(), lambda k: k.log().detach()),
    "an attribute": lambda g: (type("Box", (), {"held": g})(), lambda k: k.held),
    "a closure": lambda g: ((lambda: g), lambda k: k()),
}


def keeps(drop, keep):
    """What a hook keeps of the gradient, read when all is done."""
    x, _, y = start(drop)
    found = []
    y.register_hook(lambda g: found.append(keep(g)))
    (y * COME).sum().backward()
    kept, read = found[0]
    return torch.as_tensor(read(kept)), x.grad


@every_way
@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_what_a_hook_keeps_stays_as_it_was(drop, keep):
    kept, dx = keeps(drop, keep)
    assert torch.allclose(kept.reshape(-1), COME, atol=1e-6)
    assert bool(((dx == 0) | (dx == 2 * COME)).all())


def shares_with_a_sum(drop):
    x, h, y = start(drop)
    out = h + y  # one gradient for both
    (out * COME).sum().backward()
    return x.grad, COME + torch.where(y.detach() != 0, 2 * COME, 0.0)


def is_asked_for(drop):
    _, _, y = start(drop)
    return torch.autograd.grad((y * COME).sum(), y)[0], COME


def is_asked_for_with_another(drop):
    x, _, y = start(drop)
    dy, _ = torch.autograd.grad((y * COME).sum(), (y, x))
    return dy, COME


def is_retained(drop):
    _, _, y = start(drop)
    y.retain_grad()
    (y * COME).sum().backward()
    return y.grad, COME


def is_the_callers(drop):
    _, _, y = start(drop)
    mine = COME.clone()
    y.backward(mine)
    return mine, COME


def is_a_view_of_the_callers(drop):
    _, _, y = start(drop)
    mine = COME.clone()
    y.view(64, 64).backward(mine.view(64, 64))
    return mine, COME


def is_behind_a_view(drop):
    _, _, y = start(drop)
    mine = COME.view(64, 64).clone()
    y.view(64, 64).backward(mine)
    return mine.view(-1), COME


def is_passed_on_by_views_alone(drop):
    _, _, y = start(drop)
    mine = COME.clone().view(64, 64)
    y.view(64, 64).view(8, 512).view(64, 64).backward(mine)
    return mine.view(-1), COME


def is_numpys(drop):
    _, _, y = start(drop)
    mine = COME.numpy().copy()
    y.register_hook(lambda g: torch.from_numpy(mine))
    (y * COME).sum().backward()
    return torch.from_numpy(mine), COME


def is_shared_with_processes(drop):
    _, _, y = start(drop)
    mine = COME.clone().share_memory_()
    memory = memoryview(np.asarray(mine.numpy()))
    y.register_hook(lambda g: mine.set_(mine.untyped_storage(), 0, (N,)))
    (y * COME).sum().backward()
    return torch.from_numpy(np.asarray(memory)), COME


def is_a_modules_output_gradient(drop):
    class Drop(nn.Module):
        def forward(self, x):
            return drop(x)

    module, kept = Drop(), []
    module.register_full_backward_hook(lambda m, into, out: kept.append(out[0]))
    x = numbers()
    (module(x * 1.0) * COME).sum().backward()
    return kept[0], COME


def is_seen_by_a_node(drop):
    _, _, y = start(drop)
    kept = []
    y.grad_fn.register_hook(lambda into, out: kept.append(out[0]))
    (y * COME).sum().backward()
    return kept[0], COME


def is_seen_before_a_node(drop):
    _, _, y = start(drop)
    kept = []
    y.grad_fn.register_prehook(lambda out: kept.append(out[0]))
    (y * COME).sum().backward()
    return kept[0], COME


def is_wanted_twice(drop):
    x, _, y = start(drop)
    loss = (y * COME).sum()
    loss.backward(retain_graph=True)
    once = x.grad.clone()
    loss.backward()
    return x.grad, 2 * once


HELD = [
    shares_with_a_sum,
    is_asked_for,
    is_asked_for_with_another,
    is_retained,
    is_the_callers,
    is_a_view_of_the_callers,
    is_behind_a_view,
    is_passed_on_by_views_alone,
    is_numpys,
    is_shared_with_processes,
    is_a_modules_output_gradient,
    is_seen_by_a_node,
    is_seen_before_a_node,
    is_wanted_twice,
]


@every_way
@pytest.mark.parametrize("held", HELD, ids=lambda f: f.__name__)
def test_a_gradient_that(held, drop):
    found, expected = held(drop)
    assert torch.equal(found, expected)


@every_way
def test_gradients_of_gradients_are_not_written_into(drop):
    x, _, y = start(drop)
    (dx,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    (again,) = torch.autograd.grad((dx * COME).sum(), x)
    assert torch.allclose(again, torch.where(y.detach() != 0, 8 * COME, 0.0))


def test_threads_that_learn_at_once_learn_the_same(monkeypatch):
    monkeypatch.setattr(torch_gradients, "_alone", {})

    def one(i):
        return keeps(WAYS["fresh"], KEPT["itself"])[0]

    with ThreadPoolExecutor(8) as pool:
        for kept in pool.map(one, range(64)):
            assert torch.equal(kept, COME)


@needs_kernel
def test_who_looks_on_teaches_nothing(monkeypatch):
    monkeypatch.setattr(torch_gradients, "_alone", {})
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        keeps(WAYS["fresh"], KEPT["itself"])
    finally:
        sys.settrace(before)
    assert torch_gradients._alone == {}


# ---------------------------------------------------------------------------------- planted faults


def blind_to(*places):
    """A count that leaves out some of the places where a holder would be seen."""
    real = torch_gradients.holders

    def counted(objects, x):
        found = real(objects, x)
        return tuple(int(i == 2) if i in places else n for i, n in enumerate(found))

    return counted


FAULTS = {
    "always alone": (None, lambda: keeps(WAYS["fresh"], KEPT["itself"])[0]),
    "no objects": ((0,), lambda: keeps(WAYS["fresh"], KEPT["itself"])[0]),
    "no memory": ((4, 5), lambda: keeps(WAYS["fresh"], KEPT["numpy"])[0]),
    "no storage": ((3,), lambda: keeps(WAYS["fresh"], KEPT["its storage"])[0]),
    "others' memory": ((4, 5), lambda: is_numpys(WAYS["fresh"])[0]),
    "no tensors": ((0, 2), lambda: is_asked_for_with_another(WAYS["fresh"])[0]),
    "no bases": ((6, 8), lambda: is_behind_a_view(WAYS["fresh"])[0]),
}


@needs_kernel
@pytest.mark.parametrize(("places", "look"), FAULTS.values(), ids=FAULTS)
def test_a_count_that_misses_a_holder_is_caught(places, look, monkeypatch):
    monkeypatch.setattr(torch_gradients, "_alone", {})
    if places is None:
        monkeypatch.setattr(backend, "nobody_else", lambda counted, function: True)
    else:
        monkeypatch.setattr(backend, "holders", blind_to(*places))
    assert not torch.allclose(look().reshape(-1), COME, atol=1e-6)
