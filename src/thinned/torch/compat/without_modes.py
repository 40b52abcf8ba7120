"""What an adopted model keeps for itself, made and read beside whatever runs the model.

A transform of torch.func, a dispatch or function mode, a default device and inference mode change
every tensor that is made while they are on. The clock's few integers must stay what they are: plain
tensors on the CPU, whose memory can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from thinned.backends.torch.internals import (
    functorch,
    without_functions,
    without_modes,
    without_transforms,
)

__all__ = ["aside", "bare", "innermost"]


@contextmanager
def aside() -> Iterator[None]:
    """Code within is run as if no mode and no transform were on. It costs 12 microseconds."""
    with (
        without_functions(),
        without_modes(),
        without_transforms(),
        torch.inference_mode(False),
    ):
        yield


def innermost(x: Tensor) -> Tensor:
    """The tensor around which transforms of torch.func have wrapped others, as it lies in memory:
    with the axes of a batch that vmap made."""
    while functorch.is_functorch_wrapped_tensor(x):
        x = functorch.get_unwrapped(x)
    return x


def bare(x: Tensor) -> Tensor | None:
    """The tensor that transforms of torch.func wrapped up; None where vmap made it a batch."""
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return None
        x = functorch.get_unwrapped(x)
    return x
