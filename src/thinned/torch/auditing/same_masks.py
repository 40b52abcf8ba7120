"""One training step run several ways, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from thinned.torch.auditing.audit import _copied, checked
from thinned.torch.auditing.observer import tensors_in
from thinned.torch.auditing.restore import kept_as_it_was
from thinned.torch.clock.checkpoints import RecomputeError

__all__ = ["differences"]

_MENDS = {
    "compile": "Compiled, PyTorch draws other numbers than without. Call thinned.torch.adopt(model)"
    ": the masks of an address are the same.",
    "checkpoint": "Leave preserve_rng_state at True, keep no state between calls, or call "
    "thinned.torch.adopt(model): a recompute then draws the masks of its forward.",
}


def differences(
    model: nn.Module,
    inputs: Any,
    ways: tuple[str, ...],
    loss: Callable[[Any], Tensor] | None,
    backend: str,
    tolerance: float,
) -> list[str]:
    """A sentence for each way whose outputs or gradients are not those of a plain step."""
    model = checked("assert_same_masks", model, inputs)
    plain = _step(model, model, inputs, loss)
    found = []
    for way in ways:
        compiled = way == "compile"
        runs: Any = torch.compile(model, backend=backend) if compiled else _Checkpointed(model)
        try:
            other = _step(model, runs, inputs, loss)
        except RecomputeError as error:
            if way != "checkpoint":
                raise
            found.append(f"  under {way!r}: it raises. {error}")
            continue
        for what, one in plain.items():
            distance = _distance(one, other[what])
            if not distance <= tolerance:  # so that NaN is a difference
                found.append(
                    f"  under {way!r}: {what} differs by {distance:.2g} of its norm. {_MENDS[way]}"
                )
                break
    return found


class _Checkpointed:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.model, *args, use_reentrant=False, **kwargs)


def _step(
    model: nn.Module, runs: Any, inputs: Any, loss: Callable[[Any], Tensor] | None
) -> dict[str, Tensor]:
    """The outputs of a training step and its gradients, by name."""
    found = {}
    with kept_as_it_was(model), torch.inference_mode(False), torch.enable_grad():
        model.train()
        given = _copied(inputs)
        if isinstance(given, dict):
            output = runs(**given)
        else:
            output = runs(*given) if isinstance(given, (tuple, list)) else runs(given)
        tensors = [t for t in tensors_in(output) if t.is_floating_point()]
        for number, tensor in enumerate(tensors):
            found[f"output {number}"] = tensor.detach().clone()
        if loss is not None:
            total = loss(output)
        else:
            total = sum((t.square().sum() for t in tensors), torch.zeros(()))
        if isinstance(total, Tensor) and total.requires_grad:
            total.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"the gradient of {name!r}"] = parameter.grad.clone()
    return found


def _distance(one: Tensor, other: Tensor) -> float:
    one, other = one.double(), other.double()
    norm = float(one.norm())
    apart = float((one - other).norm())
    return apart / norm if norm > 0.0 else apart
