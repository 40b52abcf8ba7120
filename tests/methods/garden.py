"""One PyTorch model that holds the module of every row, each on inputs of its own."""

import torch
from contract.kinds import TorchKind
from torch import nn
from torch.utils.checkpoint import checkpoint

import thinned.torch
from thinned.torch.layers.from_rows import made

from .trying import FASTEST, ROWS, inputs

KIND = TorchKind("float32", FASTEST)
# thinned.torch's own classes of torch.nn's names take the place of those made from a row.
NAMED = {row.module: row for row in ROWS if row.module is not None}
MODULES = {name: row for name, row in NAMED.items() if getattr(thinned.torch, name) is made()[name]}


def module(row):
    return made()[row.module](*((row.sample.p,) if row.has_p else ()), **row.sample.options)


class Garden(nn.Module):
    """forward({name: arrays}) -> {name: y}. how : keyword arguments of torch's checkpoint."""

    def __init__(self, names=None, how=None):
        super().__init__()
        self.names = sorted(MODULES if names is None else names)
        self.how = how
        for name in self.names:
            self.add_module(name, module(MODULES[name]))

    def forward(self, beds):
        return {name: self.part(getattr(self, name), beds[name]) for name in self.names}

    def part(self, module, arrays):
        if self.how is None:
            return module(*arrays)
        return checkpoint(module, *arrays, **self.how)


def beds(names=None, kind=KIND, grad=False):
    """{name: arrays}, the first of which wants a gradient where asked and where it can."""
    found = {}
    for name in sorted(MODULES if names is None else names):
        x, *rest = inputs(MODULES[name], kind)
        if grad and MODULES[name].sample.grad and x.is_floating_point():
            x = x.requires_grad_()
        found[name] = (x, *rest)
    return found


def gradients(ys, arrays):
    """The gradient of y weighed by position, for each bed that wants one."""
    wanted = {name: a[0] for name, a in arrays.items() if a[0].requires_grad}
    for x in wanted.values():
        x.grad = None
    sum(
        (ys[name] * torch.linspace(0.5, 1.5, ys[name].numel()).reshape(ys[name].shape)).sum()
        for name in wanted
    ).backward()
    return {name: x.grad.clone() for name, x in wanted.items()}


def same(found, expected, tolerance=0.0):
    """Each bed's tensors equal; all that differ are named."""
    assert set(found) == set(expected)
    differ = [
        name
        for name in found
        if found[name].shape != expected[name].shape
        or not torch.allclose(found[name], expected[name], rtol=tolerance, atol=tolerance)
    ]
    assert not differ, f"differ: {', '.join(differ)}"
