"""One training step of a model, and whether two of them are equal."""

import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROUNDING = 1e-4  # of the largest number of a tensor: float32, through a few layers
# Of the largest gradient: a smaller one is compared as if it were so large. That of a bias before
# BatchNorm is rounding alone.
SMALL = 0.1


@dataclass
class Run:
    """What a forward and a backward pass gave."""

    loss: Tensor
    outputs: list[Tensor]
    gradients: dict[str, Tensor]


def seed_all(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that such models draw from
    random.seed(seed)


def tensors_of(output, seen=None):
    """The tensors of what a model returns, in order. Caches and other objects have none."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from tensors_of(value)


def floating(output):
    return [t for t in tensors_of(output) if t.is_floating_point() and t.numel()]


def loss_of(outputs):
    """A sum with fixed weights: one that LayerNorm does not make constant."""
    total = torch.zeros(())
    for place, tensor in enumerate(outputs):
        if tensor.requires_grad:
            generator = torch.Generator().manual_seed(place)
            weights = torch.randn(tensor.shape, generator=generator)
            finite = torch.where(tensor.isfinite(), tensor, 0.0)  # masked logits are -inf
            total = total + (finite.clamp(-1e4, 1e4) * weights).mean()
    return total


@contextmanager
def buffers_kept(model):
    """Buffers are put back, but for the clock: what BatchNorm counts is no part of the question."""
    clock = getattr(model, "thinned_clock", None)
    kept = [(b, b.clone()) for b in model.buffers() if b is not clock]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, was in kept:
                buffer.copy_(was)


def step(model, call, seed, clock_step=None):
    """A training step at these seeds of all generators."""
    if clock_step is not None:
        clock_of(model).step = clock_step
    model.zero_grad(set_to_none=True)
    seed_all(seed)
    with buffers_kept(model):
        outputs = floating(call(model))
        given = [t.detach().clone() for t in outputs]  # a backward pass may free what it inverts
        loss = loss_of(outputs)
        if not loss.requires_grad:
            raise NoLossError("no output requires a gradient")
        loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return Run(loss.detach(), given, gradients)


class NoLossError(RuntimeError):
    pass


def clock_of(model):
    return model.__dict__["thinned_adoption"].clock


def evaluation(model, call, seed=0):
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    seed_all(seed)
    try:
        with torch.no_grad():
            return [t.clone() for t in floating(call(model))]
    finally:
        for module, mode in modes:
            module.training = mode


def same(a: Any, b: Any) -> bool:
    """Bit for bit, nan being nan."""
    if isinstance(a, Run):
        return (
            same(a.loss, b.loss) and same(a.outputs, b.outputs) and same(a.gradients, b.gradients)
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def close(a: Any, b: Any) -> bool:
    """To rounding."""
    if isinstance(a, Run):
        return (
            close(a.loss, b.loss)
            and close(a.outputs, b.outputs)
            and close(a.gradients, b.gradients)
        )
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return False
        most = max((float(t.abs().max()) for t in a.values() if t.numel()), default=0.0)
        return all(_close(a[k], b[k], SMALL * most) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    return _close(a, b, 1e-2)


def _close(a, b, least):
    if a.shape != b.shape:
        return False
    finite = a.isfinite() & b.isfinite()
    if not bool((finite | (a == b) | (a.isnan() & b.isnan())).all()):
        return False
    a, b = a[finite].double(), b[finite].double()
    if not a.numel():
        return True
    return float((a - b).abs().max()) <= ROUNDING * max(float(a.abs().max()), least)


def compared(a, b):
    """ "bits", "rounding", or what differs."""
    if same(a, b):
        return "bits"
    if close(a, b):
        return "rounding"
    if not close(a.outputs, b.outputs):
        return "differs: outputs"
    lost = sorted(a.gradients.keys() ^ b.gradients.keys())
    if lost:
        return f"differs: gradient of {lost[0]} is missing in one"
    most = max((float(t.abs().max()) for t in a.gradients.values() if t.numel()), default=0.0)
    wrong = [k for k in a.gradients if not _close(a.gradients[k], b.gradients[k], SMALL * most)]
    first = wrong[0] if wrong else "the loss"
    return f"differs: {len(wrong)} of {len(a.gradients)} gradients, first {first}"
