"""The parameters of a kernel: six 64-bit words, by value or in a tensor on the device.

    0  seed
    1  site | step << 32
    2  threshold mod 2^32 | planes << 32 | mirror << 38 | all dropped << 39 | call << 48
    3  the bits of the scale, as binary64
    4  the bits of the fill, as binary64
    5  the index of the first element

By value they reach a kernel with its launch, and nothing is copied to the device. In a tensor they
can change under a captured CUDA graph; and so can a step that lies on the device by itself. All are
signed, as PyTorch's int64 is. `planes` counts the planes that decide: those down to the lowest set
bit of the threshold. With none, nothing is drawn.
"""

from __future__ import annotations

import struct
from typing import Any

from torch import Tensor

from thinned.backends.base import Draw

__all__ = ["COUNT", "FILL", "FIRST", "LAW", "PLACE", "SCALE", "SEED", "bits", "step_of", "told"]

SEED, PLACE, LAW, SCALE, FILL, FIRST = range(6)
COUNT = 6


def told(draw: Draw, scale: float = 1.0, fill: float = 0.0) -> tuple[int, ...]:
    """The six words of a known draw. Of a step that is a tensor they have a 0: see `step_of`."""
    at: Any
    at, threshold, where, mirror = draw
    step = 0 if isinstance(at.step, Tensor) else at.step
    return (
        _signed(at.seed),
        _signed(at.site | step << 32),
        _signed(law(threshold, mirror, at.call)),
        bits(scale),
        bits(fill),
        where.offset,
    )


def step_of(draw: Draw) -> Tensor | None:
    """The step, where it lies on the device (int64) and its value is that of when a kernel runs."""
    step: Any = draw.at.step
    return step if isinstance(step, Tensor) else None


def law(threshold: int, mirror: bool, call: int) -> int:
    low = threshold & 0xFFFFFFFF
    planes = 33 - (low & -low).bit_length() if low else 0
    everything = threshold >= 2**32
    return low | planes << 32 | mirror << 38 | everything << 39 | call << 48


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def bits(number: float) -> int:
    """Those of a binary64, for kernels whose numbers Triton would make binary32."""
    (word,) = struct.unpack("<q", struct.pack("<d", number))
    return int(word)
