"""What the fused functions have in common: their arguments, and by which way a call goes.

One formula stands under all of them, PyTorch's own operations around the noise of `functional`. The
kernel runs it in one pass where it can: on plain tensors of the CPU, in eager code and in programs.
Transforms of torch.func, forward mode, DTensors and other devices take the formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch import devices
from thinned.backends.torch.backend import backend
from thinned.backends.torch.eager import _in_transform, _modes, _wraps
from thinned.backends.torch.internals import forward_ad
from thinned.backends.torch.kernel import Drawn, Noise
from thinned.backends.torch.values import recorded
from thinned.checks import message
from thinned.torch.compat.dtensor import is_sharded
from thinned.torch.dropin.functional import _probability, _training
from thinned.torch.dropin.noise import check_mask
from thinned.torch.dropin.seeds import seed_for
from thinned.window import Repeated, Window, fitting, place

__all__ = ["by_formula", "checked", "drawn", "in_program", "one_number_a_column"]


def checked(
    who: str, x: Any, others: dict[str, Any], p: Any, at: Any, training: Any, generator: Any,
    window: Any, mirror: Any,
) -> tuple[Any, bool]:  # fmt: skip
    """p, and whether anything is dropped; errors for what is wrong. `others` stand beside x."""
    p, training = _probability(who, p), _training(who, training)
    for name, array in {"x": x, **others}.items():
        if array is None:
            continue
        if not isinstance(array, Tensor):
            raise TypeError(message(who, name, "a torch tensor", type(array).__name__))
        backend.require_floating(who, array, name)
        if array.device != x.device:
            requirement = f"on x's device {x.device}"
            raise ValueError(message(who, name, requirement, str(array.device)))
    if not x.dim():
        raise ValueError(message(who, "x", "of at least one axis", "a number"))
    check_mask(who, at, generator, mirror)
    if window is not None:
        fitting(who, (1,) * x.dim(), (), window)
    checks.flag(who, "mirror", mirror)
    return p, training and (isinstance(p, Tensor) or p != 0.0)


def one_number_a_column(x: Tensor, array: Tensor) -> bool:
    return array.dim() > 0 and array.shape[-1] == x.shape[-1] == array.numel()


def by_formula(x: Tensor, others: tuple[Tensor | None, ...], window: Window | None) -> bool:
    """Whether this call is left to PyTorch's operations."""
    arrays = [x, *(array for array in others if array is not None)]
    return (
        not (x.device.type == "cpu" or devices.uses_triton(x.device))
        or _in_transform()
        or forward_ad._current_level >= 0
        or isinstance(window, Repeated)
        or any(is_sharded(array) for array in arrays)
    )


def in_program(*arrays: Tensor | None) -> bool:
    """Whether somebody is to see the operator: a compiler, a mode, a tensor around another."""
    if torch.compiler.is_compiling() or recorded() or _modes():
        return True
    return any(array is not None and _wraps(array) for array in arrays)


def drawn(
    who: str, x: Tensor, p: Any, at: Address | None, generator: Any, window: Any, mirror: bool
) -> Noise:
    """Which draws, in eager code."""
    named: Any = at
    if at is None:
        seed = seed_for(x, generator)
        assert isinstance(seed, int)  # no tensor outside of programs and transforms
        named = Drawn(seed)
    where = place(who, tuple(x.shape), (), window)
    return Noise(Draw(named, reference.threshold(p), where, mirror), reference.scale_for(p))
