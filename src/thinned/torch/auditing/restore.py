"""A model as it was: everything that running it may change is put back, to the last bit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thinned.torch.adoption.site import Site
from thinned.torch.clock.clock import Clock
from thinned.torch.compat.covers import covers_of

__all__ = ["clock_of", "kept_as_it_was", "sites_of"]

_CONTAINERS = (list, dict, set)


def sites_of(model: nn.Module) -> list[Site]:
    """The sites of an adopted model; none for another."""
    found = []
    for module in model.modules():
        covers = (getattr(cover, "site", None) for cover in covers_of(module))
        for site in (module.__dict__.get("site"), *covers):
            if isinstance(site, Site) and site not in found:
                found.append(site)
    return found


def clock_of(model: nn.Module) -> Clock | None:
    """The clock of an adopted model; None for another."""
    sites = sites_of(model)
    return sites[0].clock if sites else None


class _Tensors:
    """Tensors and their values. A copy is made of each; only what changed is written back."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def add(self, tensor: Tensor) -> None:
        if id(tensor) not in self.kept:
            copy = tensor.detach().clone()
            self.kept[id(tensor)] = (tensor, copy, tensor.grad if tensor.is_leaf else None)

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, copy, grad in self.kept.values():
            if not _same_bits(tensor, copy):
                tensor.detach().copy_(copy)
            if tensor.is_leaf:
                tensor.grad = grad


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if one.layout != torch.strided:
        return False
    bits = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*bits)


class _Attributes:
    """The __dict__ of an object, and one level into what it holds."""

    def __init__(self, owner: Any, tensors: _Tensors) -> None:
        self.owner, self.attributes = owner, dict(owner.__dict__)
        self.inside: list[tuple[Any, Any]] = []
        self.generators: list[tuple[Callable[[Any], Any], Any]] = []
        for value in self.attributes.values():
            if isinstance(value, _CONTAINERS):
                self.inside.append((value, _copy(value)))
                items = value.values() if isinstance(value, dict) else value
                for item in items:
                    if isinstance(item, Tensor):
                        tensors.add(item)
                    elif isinstance(item, _CONTAINERS):
                        self.inside.append((item, _copy(item)))
            elif isinstance(value, Tensor):
                tensors.add(value)
            else:
                self._hold(value)

    def _hold(self, value: Any) -> None:
        """Remember the state of a generator: PyTorch's, NumPy's or Python's."""
        if isinstance(value, torch.Generator):
            self.generators.append((value.set_state, value.get_state()))
        elif isinstance(value, np.random.Generator):
            bits: Any = value.bit_generator
            self.generators.append((lambda state: setattr(bits, "state", state), bits.state))
        elif isinstance(value, np.random.RandomState):
            self.generators.append((value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self.generators.append((value.setstate, value.getstate()))

    def restore(self) -> None:
        for held, copy in self.inside:
            if isinstance(held, list):
                held[:] = copy
            else:
                held.clear()
                held.update(copy)
        for put_back, state in self.generators:
            put_back(state)
        # Through __dict__: a module's own __setattr__ would sort things anew.
        self.owner.__dict__.clear()
        self.owner.__dict__.update(self.attributes)


def _copy(held: Any) -> Any:
    return type(held)(held) if type(held) in _CONTAINERS else held.copy()


@contextlib.contextmanager
def kept_as_it_was(model: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the model and every generator are what they were before.

    Parameters, buffers, gradients, modes, hooks, the attributes of modules (one level into lists,
    dicts and sets), the clock of an adopted model and its sites; the generators of PyTorch on every
    device, of NumPy and of Python, and those that modules hold.
    """
    tensors = _Tensors()
    owners: list[Any] = list(model.modules())
    sites = sites_of(model)
    clocks = list({id(site.clock): site.clock for site in sites}.values())
    kept = [_Attributes(owner, tensors) for owner in (*owners, *sites, *clocks)]
    gradients = [parameter for parameter in model.parameters() if parameter.grad is not None]
    state, cuda = torch.get_rng_state(), _cuda_state()
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - users'
    try:
        for parameter in gradients:
            parameter.grad = None
        yield
    finally:
        for one in kept:
            one.restore()
        tensors.restore()
        for clock in clocks:  # read again, because the buffer was written to
            clock.__dict__["_read"] = clock.__dict__["_moment"] = None
        torch.set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _cuda_state() -> list[Tensor]:
    if not torch.cuda.is_available():
        return []
    states: list[Tensor] = torch.cuda.get_rng_state_all()
    return states
