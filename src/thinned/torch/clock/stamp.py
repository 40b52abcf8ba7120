"""The stamp: seed and step as four integers, as a model's buffer and its state_dict hold them.

The fourth word is the version of the mask spec and a check of the other three. Averages of weights
run over buffers too, and make of a clock a seed that was never given: the check detects that.
Stamps written before there was one have a 0 in its place, and are taken as they are.
"""

from __future__ import annotations

import struct
import zlib

import torch
from torch import Tensor

__all__ = ["BUFFER", "SPEC_VERSION", "STEP", "advance", "read", "stamp"]

# The buffer's name in the model and in its state_dict.
BUFFER = "thinned_clock"
SPEC_VERSION = 1
# Which of the four words is the step.
STEP = 2

_MASK32 = 0xFFFFFFFF
# The fourth word: the lower bits are the version, and the check is above them. Its 40 bits
# leave room to add up the stamps of millions of models, as a mean does.
_VERSION_BITS = 8
_VERSIONS = 2**_VERSION_BITS
# Types in which a mean of equal stamps differs from the stamp: in the
# check's first 23 bits, or in all of them.
_MEANS = (torch.float32, torch.float64)


def stamp(seed: int, step: int, version: int = SPEC_VERSION) -> list[int]:
    """The four words: the seed's lower and upper half, the step, version and check."""
    check = zlib.crc32(struct.pack("<QQQ", seed, step, version))
    return [seed & _MASK32, seed >> 32, step, check << _VERSION_BITS | version]


def advance(buffer: Tensor, skipped: Tensor | None = None) -> None:
    """The next step, by operations alone, which a CUDA graph repeats; of the check, which they
    cannot make, the version remains. skipped : one number; unless it is 0, the step stays."""
    more = 1 if skipped is None else (skipped.reshape(()) == 0).to(buffer.dtype)
    buffer[STEP].add_(more)
    buffer[STEP + 1].fill_(SPEC_VERSION)


def read(found: Tensor) -> tuple[int, int] | None:
    """Seed and step; None if no clock wrote this. `found` has the shape (4,).

    ValueError if it was written under another version of the mask spec.
    """
    if found.dtype in _MEANS and bool(found.isfinite().all()):
        low, high, step, _ = (round(word) for word in found.tolist())
        if not _possible(low, high, step):
            return None
        meant = torch.tensor(stamp(low | high << 32, step), dtype=torch.float64, device="cpu")
        near = 4 * torch.finfo(found.dtype).eps
        equal = torch.allclose(found.detach().cpu().double(), meant, rtol=near, atol=0.0)
        return (low | high << 32, step) if equal else None
    if found.dtype != torch.int64:
        return None
    low, high, step, last = found.tolist()
    if not _possible(low, high, step) or last < 0:
        return None
    seed, version = low | high << 32, last % _VERSIONS
    if last != version and last != stamp(seed, step, version)[3]:
        return None
    if version != SPEC_VERSION and version:
        raise ValueError(
            f"thinned: the state_dict was saved under version {version} of the mask spec, and this "
            f"is version {SPEC_VERSION}: it would draw other masks. Load it with the thinned that "
            f"saved it, or remove {BUFFER!r} from it."
        )
    return (seed, step) if version else None


def _possible(low: int, high: int, step: int) -> bool:
    """Whether an address can have these: the last step is the mask spec's own."""
    return 0 <= low <= _MASK32 and 0 <= high <= _MASK32 and 0 <= step < _MASK32
