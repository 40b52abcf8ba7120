"""A fresh seed inside of a compiled program: `thinned::fresh_seed`, and dropout at one.

PyTorch's own draw would do but for two things. Compilers merge operators of equal arguments, and
two dropouts would share a mask: so each place in a program has a number. And where memory is short
(activation_memory_budget below 1) they repeat cheap operators in the backward pass, a draw among
them, and the mask would be another one: so the seed, eight bytes, is marked as one to be kept.
Where a checkpoint marks it otherwise, PyTorch keeps the state of the generator that drew it, and
the recompute draws the same: by the device it finds which generator that is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.checkpoint import CheckpointPolicy

from thinned.backends.torch.internals import memory_budget
from thinned.backends.torch.operators import DROPOUT

__all__ = ["FRESH", "FRESH_SEED", "WORDS", "place_in_program"]

# The half-open range of a seed's 64 bits, as int64, less one seed: the end must be an int64 too.
WORDS = -(2**63), 2**63 - 1

_LIBRARY: Any = torch.library.Library("thinned", "FRAGMENT")
for _schema in (
    "seed(int place, *, Device? device=None) -> Tensor",
    "fresh_seed(int place) -> Tensor",
    "fresh(Tensor x, float p, int place) -> Tensor",
):
    _LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded))
SEED: Any = torch.ops.thinned.seed.default
FRESH_SEED: Any = torch.ops.thinned.fresh_seed.default
FRESH: Any = torch.ops.thinned.fresh.default

# PyTorch before 2.8 repeats an operator that is marked to be kept, too, if memory is short. (A
# TorchVersion compares as one: 2.13 is later.)
_keeps_what_is_marked = torch.__version__ >= "2.8"

_places = itertools.count()


def _next_place() -> int:
    return next(_places)


# Another number for each place at which a program draws: its compiler calls this once.
place_in_program: Callable[[], int] = torch.compiler.assume_constant_result(_next_place)


CPU = torch.device("cpu")


def _drawn(place: int, *, device: torch.device | None = None) -> Tensor:
    """The same 64 bits that eager code draws."""
    return torch.empty((), dtype=torch.int64, device=CPU).random_(*WORDS)


def _fake(place: int, *, device: torch.device | None = None) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=CPU)


def _fresh_seed(place: int) -> Tensor:
    recording = get_proxy_mode()
    if recording is None:
        seed: Tensor = SEED(place, device=CPU)
        return seed
    if not _keeps_what_is_marked and memory_budget() < 1:
        raise RuntimeError(
            f"thinned: with activation_memory_budget below 1, a program that PyTorch "
            f"{torch.__version__} compiles would draw another seed in its backward pass, and with "
            "it another mask. Pass an address, adopt the model, or take PyTorch 2.8 or newer."
        )
    graph = recording.tracer.graph
    before = len(graph.nodes)
    seed = SEED(place, device=CPU)
    for node in itertools.islice(reversed(graph.nodes), len(graph.nodes) - before):
        node.meta["recompute"] = CheckpointPolicy.MUST_SAVE
    return seed


def _fresh(x: Tensor, p: float, place: int) -> Tensor:
    y: Tensor = DROPOUT(x, _fresh_seed(place), round(p * 4294967296.0), 1.0 / (1.0 - p), ())
    return y


_LIBRARY.impl("seed", _drawn, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::seed", _fake, lib=_LIBRARY)
_LIBRARY.impl("fresh_seed", _fresh_seed, "CompositeImplicitAutograd")
_LIBRARY.impl("fresh", _fresh, "CompositeImplicitAutograd")
