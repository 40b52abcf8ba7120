"""The wire: which draw and where, as one operator hands it on to another.

Two tensors on the CPU say it, so that a new step, call, p or place is no new program:

words : int64, shape (6 + n,). An address (seed_low, seed_high, site, step, call), the index of the
    first element, and what one step along each of n axes adds to it: 0 where they share a draw. Of
    an array with more axes, those in front share theirs.
rate : float64, shape (2,) or more. The threshold, which is an integer of at most 2^32, and the
    scale. What follows them belongs to the sender (see clock/in_graphs.py).

An address alone is the first five words.

The compiled part of eager code (native/pytorch) holds the same as a list of integers: seed, site,
step, call, threshold, mirror, gaussian, the bits of the scale, then index and steps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch.kernel import Drawn, Noise, coordinates_of, placed
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import lengths
from thinned.window import Placement, index_strides

__all__ = [
    "address",
    "number",
    "pack",
    "pack_address",
    "pack_place",
    "pack_rate",
    "read",
    "read_native",
    "words_of",
]

_ADDRESS = len(Coordinates._fields)


# ----------------------------------------------------------------------------- in programs: tensors


def number(value: Any, dtype: torch.dtype = torch.int64) -> Tensor:
    """A 0-d tensor on the CPU. By torch.full, which takes a compiler's symbol as it is: as_tensor
    would make it a constant, and each new step another program."""
    if isinstance(value, Tensor):
        return value.to("cpu", dtype)
    return torch.full((), value, dtype=dtype, device="cpu")


def pack(values: Iterable[Any], dtype: torch.dtype = torch.int64) -> Tensor:
    """Numbers, a compiler's symbols and 0-d tensors, in one tensor on the CPU."""
    numbers = [number(value, dtype) for value in values]
    return torch.stack(numbers) if numbers else torch.empty(0, dtype=dtype, device="cpu")


def pack_address(at: Address | Coordinates) -> Tensor:
    """Five words. Coordinates may be symbols and 0-d tensors."""
    return pack(_coordinates(at))


def pack_place(at: Address | Coordinates, offset: Any, strides: Sequence[Any]) -> Tensor:
    """The words of a draw whose element (i, j, ...) has index offset + i strides[0] + ..."""
    return pack((*_coordinates(at), *lengths((offset, *strides))))


def pack_rate(threshold: Any, scale: Any) -> Tensor:
    """Threshold and scale, which may be symbols and 0-d tensors."""
    return pack((threshold, scale), torch.float64)


def _coordinates(at: Address | Coordinates) -> Coordinates:
    return at if isinstance(at, Coordinates) else coordinates_of(at)


# ----------------------------------------------------------------------------- in operators: values


def words_of(at: Any, where: Placement | None = None) -> Tensor:
    """The words of a known address, and of where a draw at it lies."""
    words = [*coordinates_of(at)]
    if where is not None:
        words += where.offset, *where.strides
    return torch.tensor(words, dtype=torch.int64, device="cpu")


def address(words: Tensor) -> Drawn:
    """The address that words begin with."""
    low, high, site, step, call = words.tolist()[:_ADDRESS]
    return Drawn(low | high << 32, site, step, call)


def read(words: Tensor, threshold: float, shape: Sequence[int], mirror: bool) -> Draw:
    """The draw that words stand for, on an array of `shape`."""
    low, high, site, step, call, offset, *strides = words.tolist()
    shared = [0] * (len(shape) - len(strides))
    at: Any = Drawn(low | high << 32, site, step, call)
    return Draw(at, int(threshold), placed(tuple(shape), offset, shared + strides), mirror)


def read_native(numbers: Sequence[int], shape: tuple[int, ...]) -> Noise:
    """The noise that the compiled part's integers stand for."""
    seed, site, step, call, threshold, mirror, gaussian, bits, offset, *strides = numbers
    at: Any = Drawn(seed & 0xFFFFFFFFFFFFFFFF, site, step, call)
    where = placed(shape, offset, strides or index_strides(shape, ()))
    (scale,) = struct.unpack("d", struct.pack("q", bits))
    return Noise(Draw(at, threshold, where, bool(mirror)), scale, 0.0, bool(gaussian))
