"""One model, one seed, one batch: the mask at every site is the same however the model is run.

Several processes (DDP, FSDP2, tensor and sequence parallel) are compared in distributed/.
"""

from contextlib import nullcontext

import pytest
import torch
import torch._functorch.config as partitioning
from observed import batch, build, gradients

import thinned
from thinned.torch import adopt

SEED = 11


SITES = {  # site: p, the mask's shape, the axes that share a draw
    "drop": (0.5, (8, 5, 8), ()),
    "gate/dropout": (0.3, (8, 5, 8), ()),
    "attention/dropout": (0.25, (8, 2, 5, 5), ()),
    "last": (0.4, (8, 5, 8), (2,)),
}


def by_address(step):
    """The masks from the mask spec alone: no model, no clock."""
    return [
        thinned.keep_mask(shape, p, thinned.Address(SEED, site, step), shared, like=torch.ones(1))
        for site, (p, shape, shared) in SITES.items()
    ]


def compiled(model):
    return torch.compile(model, fullgraph=True, backend="aot_eager_decomp_partition")


PLAIN, REENTRANT = {"use_reentrant": False}, {"use_reentrant": True}

RUNS = {  # name: checkpoint, compiler, memory budget, rows of a piece
    "eager": (None, None, 1.0, 8),
    "checkpoint": (PLAIN, None, 1.0, 8),
    "reentrant checkpoint": (REENTRANT, None, 1.0, 8),
    "compiled": (None, compiled, 1.0, 8),
    "compiled, checkpoint": (PLAIN, compiled, 1.0, 8),
    "compiled, memory budget": (None, compiled, 0.0, 8),
    "pieces": (None, None, 1.0, 2),
    "pieces, checkpoint": (PLAIN, None, 1.0, 3),
    "pieces, compiled": (None, compiled, 1.0, 4),
}


def steps(how, wrap, budget, rows, device="cpu"):
    """Masks and gradients of two steps with an optimizer between them, on the CPU."""
    torch._dynamo.reset()
    # In double precision, so that gradients differ by little but a mask.
    model = build(how=how).double().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clock = adopt(model, seed=SEED, optimizer=optimizer).clock
    run, seen = model if wrap is None else wrap(model), []
    for _ in range(2):
        optimizer.zero_grad()
        parts = []
        for start in range(0, 8, rows):
            with partitioning.patch(activation_memory_budget=budget):
                x = batch().double().to(device)[start : start + rows].requires_grad_()
                with clock.piece(start) if rows < 8 else nullcontext():
                    y, masks = run(x)
                    y.square().sum().backward()
            parts.append(masks)
        seen.append([torch.cat(masks).cpu() for masks in zip(*parts, strict=True)])
        optimizer.step()
    return seen, [grad.cpu() for grad in gradients(model)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_masks_are_those_of_the_addresses(name, device):
    seen, grads = steps(*RUNS[name], device)
    for step, masks in enumerate(seen):
        for site, found, mask in zip(SITES, masks, by_address(step), strict=True):
            assert torch.equal(found, mask), site
    # And those of the backward pass, where it makes them again: another mask is another gradient.
    for a, b in zip(grads, steps(*RUNS["eager"])[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
