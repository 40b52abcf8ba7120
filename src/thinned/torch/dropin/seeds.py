"""Where 64 fresh bits come from: PyTorch's generators, in eager code and in compilers' programs."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from thinned.backends.torch import compiled_node
from thinned.backends.torch.fresh_seed import FRESH_SEED, WORDS, place_in_program
from thinned.backends.torch.internals import in_transform
from thinned.backends.torch.values import has_values, recorded
from thinned.torch.compat.recording import require_no_capture

__all__ = ["seed_for"]

CPU = torch.device("cpu")
_in_transform = in_transform


class _Word(threading.local):
    """Where a thread's random word is put: writing there costs half of making a tensor."""

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.tensor = torch.empty((), dtype=torch.int64, device=CPU)


_word = _Word()


def _drawn_seed(generator: torch.Generator | None) -> int:
    """64 fresh bits from PyTorch's CPU generator, which manual_seed and checkpoints rule, or from
    the generator given, wherever it is."""
    require_no_capture("dropout without an address", "Pass an address")
    if generator is None:
        seed: int | None = compiled_node.fresh_seed()
        if seed is not None:
            return seed
        word = _word.tensor.random_(*WORDS)
    else:
        word = torch.empty((), dtype=torch.int64, device=generator.device)
        word.random_(*WORDS, generator=generator)
    return int(word.item()) & 0xFFFFFFFFFFFFFFFF


def _traced_seed(generator: torch.Generator | None) -> Tensor:
    """The same bits where nothing can be read: in a program that is made, under torch.func."""
    # Under vmap one seed is asked for, or one for each entry: PyTorch's own draw knows which.
    if generator is None and torch.compiler.is_compiling() and not _in_transform():
        seed: Tensor = FRESH_SEED(place_in_program())
        return seed
    # A generator that is named, be it None, is one that compilers leave to PyTorch itself; their
    # own would make all 64 bits of 32.
    device = CPU if generator is None else generator.device
    return torch.randint(*WORDS, (), generator=generator, device=device)


def _halves(seed: Tensor) -> tuple[Tensor, Tensor]:
    """A seed in words of 32 bits, the lower one first."""
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF


def seed_for(x: Tensor, generator: torch.Generator | None = None) -> int | Tensor:
    """A fresh seed for draws on x: the one way in which all that has no address comes by one.

    A number, or a 0-d tensor (int64) where nothing can be read: in a program that is made, whose
    every run draws anew, and under a transform of torch.func, where it may be a batch of seeds.
    Draws that have no values have no need of a seed either.
    """
    if recorded() or _in_transform():
        return _traced_seed(generator)
    return _drawn_seed(generator) if has_values(x) else 0
