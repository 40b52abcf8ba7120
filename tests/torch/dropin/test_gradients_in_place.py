"""The backward pass writes into the gradient that came in, but never into one that others hold."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn

import thinned
import thinned.torch
from thinned import kernel
from thinned.backends.torch import compiled_node
from thinned.torch import functional as F  # noqa: N812

needs_kernel = pytest.mark.skipif(
    kernel.uses_reference() or not compiled_node.is_compiled(),
    reason="only the compiled part writes into gradients: not with THINNED_KERNEL=reference or "
    "THINNED_TORCH=python",
)
N = 4096
AT = thinned.Address(seed=5, site="here")
COME = torch.linspace(1.0, 2.0, N)  # the gradient that comes in

WAYS = {
    "fresh": lambda x: F.dropout(x, 0.5, True),
    "address": lambda x: F.dropout(x, 0.5, True, at=AT),
    "rows": lambda x: thinned.drop_path(x, 0.5, AT),
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


def memory_taken(loss):
    """Tensors of N numbers that a backward pass takes memory for. (Who looked at a gradient from
    Python would hold it, and so would a profiler that records shapes.)"""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True) as seen:
        loss.backward()
    events = seen.profiler.kineto_results.events()
    return sum(event.name() == "[memory]" and event.nbytes() == 4 * N for event in events)


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
    taken = {}
    for way in (drop, lambda x: x * 2.0):
        _, _, y = start(way)
        taken[way] = memory_taken(after(y).sum())
    assert taken[drop] == taken[way] - 1


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


# ---------------------------------------------------------------------------------- planted faults

TENSORS, OBJECTS, BASES, MEMORY, STRANGERS = 1, 2, 4, 8, 16

# What is overlooked beside: a gradient that Python has seen is held by its object.
SEEN = TENSORS | OBJECTS
FAULTS = {
    "no tensors": (OBJECTS, TENSORS, lambda: keeps(WAYS["fresh"], KEPT["itself"])[0]),
    "no objects": (TENSORS, OBJECTS, lambda: keeps(WAYS["fresh"], KEPT["itself"])[0]),
    "no memory": (SEEN, MEMORY, lambda: keeps(WAYS["fresh"], KEPT["numpy"])[0]),
    "no storage": (SEEN, MEMORY, lambda: keeps(WAYS["fresh"], KEPT["its storage"])[0]),
    "no strangers": (SEEN | MEMORY, STRANGERS, lambda: is_numpys(WAYS["fresh"])[0]),
    "no bases": (SEEN, BASES, lambda: is_behind_a_view(WAYS["fresh"])[0]),
}


@needs_kernel
@pytest.mark.parametrize(("beside", "kind", "look"), FAULTS.values(), ids=FAULTS)
def test_a_count_that_misses_a_holder_is_caught(beside, kind, look):
    try:
        compiled_node.overlook(beside)
        right = look()
        compiled_node.overlook(beside | kind)
        wrong = look()
    finally:
        compiled_node.overlook(0)
    assert torch.allclose(right.reshape(-1), COME, atol=1e-6)
    assert not torch.allclose(wrong.reshape(-1), COME, atol=1e-6)
