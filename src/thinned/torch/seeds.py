"""Where 64 fresh bits come from: PyTorch's generators, in eager code and in compilers' programs."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

__all__: list[str] = []

CPU = torch.device("cpu")
# The half-open range of a seed's 64 bits, as int64; but for one, for the end must be one itself.
WORDS = -(2**63), 2**63 - 1


class _Word(threading.local):
    """Where a thread's random word is put: writing there costs half of making a tensor."""

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.tensor = torch.empty((), dtype=torch.int64, device=CPU)


_word = _Word()


def _drawn_seed(generator: torch.Generator | None) -> int:
    """64 fresh bits from PyTorch's CPU generator, which manual_seed and checkpoints rule, or from
    the generator given, wherever it is."""
    if generator is None:
        word = _word.tensor.random_(*WORDS)
    else:
        word = torch.empty((), dtype=torch.int64, device=generator.device)
        word.random_(*WORDS, generator=generator)
    return int(word.item()) & 0xFFFFFFFFFFFFFFFF


def _traced_seed(generator: torch.Generator | None) -> Tensor:
    """The same bits where nothing can be read: in a compiler's program, under torch.func.

    A generator that is named, be it None, is one that compilers leave to PyTorch itself; their own
    would make all 64 bits of 32.
    """
    device = CPU if generator is None else generator.device
    return torch.randint(*WORDS, (), generator=generator, device=device)


def _traced_words(generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """The same in words of 32 bits, the lower one first."""
    seed = _traced_seed(generator)
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
