"""The operators that a compiled graph holds of a clock: its reading, and where a site draws next.

They are functions of their inputs alone, so that a compiler may run them again in the backward pass
(checkpointing inside a compiled model, an activation memory budget) and get the same mask. Step, p,
call and piece are tensors: a new value is no new program.

One thing they look up outside: run in a backward pass, and asked for a call not made yet, the
compiled code as a whole is being recomputed by a checkpoint around it, and the call to repeat is
found as in eager code.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from thinned import checks, reference
from thinned.backends.torch import wire
from thinned.backends.torch.internals import graph_task
from thinned.backends.torch.library import defined
from thinned.torch.clock import checkpoints
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.numbers import clock_by_number
from thinned.torch.clock.reading import HEAD, Moment, moment_of, require_call, words_of
from thinned.torch.clock.rows import address_of, window_of
from thinned.torch.compat.shard import Shard
from thinned.torch.dropin import kinds
from thinned.window import Window, place

__all__ = ["BITS_OF_P", "P", "bits_of"]

# Words of a site: its index among the model's sites, its 32-bit name, the bits of p as binary64.
INDEX, NAME, BITS_OF_P = range(3)
# Where p stands in a site's rate, behind threshold and scale.
P = 2


def bits_of(p: float) -> int:
    """A binary64 number as an int64: integers and p travel in one tensor."""
    bits: int = struct.unpack("<q", struct.pack("<d", p))[0]
    return bits


def _number_of(bits: int) -> float:
    p: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return p


def _clock(buffer: Tensor, identity: Tensor, counts: Tensor) -> Tensor:
    clock = clock_by_number(int(identity))
    assert clock is not None
    known, moment = clock.counts, clock.moment()
    if clock.counts is not known:
        # The buffer was written into, and this read began its step: no call was made yet.
        counts = torch.zeros_like(counts)
    words = torch.tensor(words_of(moment), dtype=torch.int64, device="cpu")
    return torch.cat([words, counts])


def _fake_clock(buffer: Tensor, identity: Tensor, counts: Tensor) -> Tensor:
    return counts.new_empty(HEAD + counts.shape[0])


CLOCK = defined(
    "clock(Tensor buffer, Tensor identity, Tensor counts) -> Tensor", _clock, _fake_clock
)


def _located(
    live: Tensor,
    site: Tensor,
    p: Tensor | None,
    held: Sequence[int],
    shared: Sequence[int] | None,
    axis: int,
    start: Sequence[int],
    shape: Sequence[int],
    covers: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the draws of a site's next call on an array of shape `held` lie. p None: its own.

    Returns words, window, rate, and `live` with one call more. Where the shared axes are known, the
    words are those of a draw, and the window is empty. Else they are those of an address, and a
    method places its draws itself: window is (start, whole shape), or -1s. Behind threshold and
    scale the rate has p, and the two numbers of alpha dropout's map.
    """
    name = int(site[NAME])
    moment, call, label, after = _next_call(live, site)
    rate = _rate(_p(site, moment) if p is None else checks.probability("dropout", p.item())).clone()
    shard = Shard(start, shape, covers) if start else None
    at = address_of(moment, name, call, shard)
    window = window_of(label, moment, tuple(held), axis, shard)
    if shared is None:
        return wire.words_of(at), _numbers(window, len(held)), rate, after
    where = place(label, tuple(held), tuple(shared), window)
    return wire.words_of(at, where), live.new_empty(0), rate, after


def _fake_located(
    live: Tensor, site: Tensor, p: Tensor | None, held: Sequence[int],
    shared: Sequence[int] | None, *_: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    n, rate = len(held), live.new_empty(5, dtype=torch.float64)
    words, window = (5, 2 * n) if shared is None else (6 + n, 0)
    return live.new_empty(words), live.new_empty(window), rate, torch.empty_like(live)


LOCATED = defined(
    "located(Tensor live, Tensor site, Tensor? p, SymInt[] held, int[]? shared, int axis, "
    "SymInt[] start, SymInt[] shape, bool covers) -> (Tensor, Tensor, Tensor, Tensor)",
    _located,
    _fake_located,
)


def _own_p(buffer: Tensor, identity: Tensor, site: Tensor) -> Tensor:
    """The p of a site now, for an evaluation that needs one: 0-d, float64. No call is counted."""
    clock = clock_by_number(int(identity))
    assert clock is not None
    return torch.tensor(_p(site, clock.moment()), dtype=torch.float64, device="cpu")


def _fake_own_p(buffer: Tensor, identity: Tensor, site: Tensor) -> Tensor:
    return site.new_empty((), dtype=torch.float64)


OWN_P = defined("own_p(Tensor buffer, Tensor identity, Tensor site) -> Tensor", _own_p, _fake_own_p)


@lru_cache(maxsize=256)
def _rate(p: float) -> Tensor:
    """What follows from p, for nobody to write into. -1 stands for the p's of a module's own, of
    which the site knows nothing."""
    numbers = [0, 1.0, p, 0.0, 0.0]
    if p >= 0.0:
        numbers = [reference.threshold(p), reference.scale_for(p), p, *kinds.affine(p)]
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")


def _numbers(window: Window | None, axes: int) -> Tensor:
    """Start and shape of the whole."""
    numbers: tuple[int, ...] = (-1,) * (2 * axes)
    if window is not None:
        assert isinstance(window.start, tuple)
        assert isinstance(window.global_shape, tuple)
        numbers = window.start + window.global_shape
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _p(site: Tensor, moment: Moment) -> float:
    return _number_of(_own_bits(site, moment))


# ------------------------------------------------------------------------------- which call is next


def _own_bits(words: Tensor, moment: Moment) -> int:
    """The bits of the site's own p at this moment.

    Its schedule is asked: who writes into the clock's buffer moves the step, and the words that the
    site had ready for this run were those of another step.
    """
    index, _, bits = words.tolist()
    clock = clock_by_number(moment.clock)
    rule = None if clock is None else clock.rules.get(clock.names[index])
    return int(bits) if rule is None else bits_of(rule(moment.step))


def _next_call(live: Tensor, words: Tensor) -> tuple[Moment, int, str, Tensor]:
    """The moment and number of a site's next call, its name for messages, and `live` after it."""
    index, name, _ = words.tolist()
    moment = moment_of(live[:HEAD].tolist())
    call, after = int(live[HEAD + index]), live.clone()
    label = f"number {name}"
    clock = clock_by_number(moment.clock)
    repeated = None
    if clock is not None:
        label = clock.names[index]
        if graph_task() >= 0 or checkpoints._here.replaying:
            repeated = _repeated(clock, moment, index, call, label)
        else:
            clock.drew(index, moment, call)
    if repeated is None:
        require_call(call, label)
        after[HEAD + index] += 1
    else:
        moment, call = repeated
    return moment, call, label, after


def _repeated(
    clock: Clock, moment: Moment, index: int, call: int, label: str
) -> tuple[Moment, int] | None:
    """What a recompute of the whole compiled code is to draw; None for a draw made again in it."""
    if clock.moment().epoch != moment.epoch or call < clock.drawn(index):
        return None
    return clock.repeated(index, label)
