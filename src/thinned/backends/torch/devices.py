"""Which way draws go on a device.

compiled    the C++ kernel: the CPU
triton      the kernels of triton/: CUDA devices (and AMD's, which PyTorch calls so) with Triton
operations  PyTorch's own operations (spec.py): every other device
reference   NumPy's: the CPU where THINNED_KERNEL asks for it
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import torch

from thinned import kernel

__all__ = ["holds_tiles", "interpreted", "path_of", "paths", "uses_triton"]

# Integer products of 64 bits, reductions over a warp and bfloat16 in hardware.
LEAST_CAPABILITY = (8, 0)
# The oldest Triton that the kernels were compiled with; they were counted with 3.7.
LEAST_TRITON = (3, 6)

# AMD's devices whose registers and shared memory hold attention's tiles: those with warps of 64.
HOLDS_TILES = ("gfx942", "gfx950")

_interpreting = False


def uses_triton(device: torch.device) -> bool:
    """Whether the kernels of triton/ run on what lies on this device."""
    if device.type == "cpu":
        return _interpreting
    return device.type == "cuda" and not kernel.uses_reference() and _has_triton(device.index)


@lru_cache(maxsize=64)
def _has_triton(index: int | None) -> bool:
    # A fake tensor may name a device that does not exist.
    if _triton() < LEAST_TRITON or not torch.cuda.is_available():
        return False
    return torch.version.hip is not None or (
        torch.cuda.get_device_capability(index) >= LEAST_CAPABILITY
    )


def holds_tiles(device: torch.device) -> bool:
    """Whether the kernels of attention run there, too."""
    return uses_triton(device) and (torch.version.hip is None or _has_room(device.index))


@lru_cache(maxsize=64)
def _has_room(index: int | None) -> bool:
    name: str = torch.cuda.get_device_properties(index).gcnArchName
    return name.partition(":")[0] in HOLDS_TILES


def _triton() -> tuple[int, ...]:
    """The version of Triton; () where there is none."""
    if find_spec("triton") is None:
        return ()
    version: str = import_module("triton").__version__
    return tuple(int(part) for part in version.split(".")[:2])


def path_of(device: torch.device) -> str:
    """The name of the way, as above."""
    if uses_triton(device):
        return "triton"
    if device.type != "cpu":
        return "operations"
    return "reference" if kernel.uses_reference() else "compiled"


def paths() -> dict[str, str]:
    """The way of each accelerator that PyTorch sees, by the name that PyTorch has for it."""
    if not hasattr(torch, "accelerator") or not torch.accelerator.is_available():
        return {}
    kind = torch.accelerator.current_accelerator()  # 2.6 raises where it was built for one in vain
    if kind is None:
        return {}
    names = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())]
    return {name: path_of(torch.device(name)) for name in names}


@contextmanager
def interpreted() -> Iterator[None]:
    """For tests: CPU tensors go through the kernels of triton/, by Triton's interpreter.

    Triton reads TRITON_INTERPRET=1 when the kernels are imported, and the compiled part takes plain
    tensors before anybody is asked: RuntimeError unless THINNED_TORCH=python keeps it out.
    """
    global _interpreting
    from thinned.backends.torch import compiled_node

    if compiled_node.is_compiled():
        raise RuntimeError("thinned: to interpret kernels, set THINNED_TORCH=python.")
    before, _interpreting = _interpreting, True
    try:
        yield
    finally:
        _interpreting = before


kernel.tell_devices(paths)
