"""The masks of one forward pass of a recurrent network: which draw is whose, and where it lies.

All of them come from one address. Draw d is made at `at.fold_in(d)`, draw 0 at the address itself,
with d = 16 (2 layer + direction) + purpose; layers and directions (0 forward, 1 backward) count
from 0, and purposes are

    0      the layer's input, locked; with layer = num_layers the network's output
    1      the candidate update, anew for each step
    2, 3   zoneout of the hidden state, of the cell state, anew for each step
    4..7   the hidden state on its way into each gate, in PyTorch's order (i f g o; r z n), locked
    8      the hidden-to-hidden weight
    9      the layer's input, one draw per element

Purposes 0 and 9 belong to both directions, and count as direction 0. This numbering is part of what
an address means: another one would be another stream.

A locked draw has an index of row and unit, (N, H) in C order. A draw made anew for each step has
one of row, step and unit in an array (N, STEPS, H) of which every sequence is a beginning. So
neither the length of a batch nor its layout, padding or packing enters a mask, and a piece of a
batch only needs to know its first row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch import wire
from thinned.backends.torch.address import GraphAddress
from thinned.checks import message
from thinned.methods.draws import NO_P, Draws
from thinned.window import Repeated, Window

__all__ = [
    "BETWEEN",
    "CANDIDATE",
    "CELL",
    "GATES",
    "HIDDEN",
    "INPUT",
    "STEPS",
    "WEIGHT",
    "Masks",
    "number_of",
]

INPUT, CANDIDATE, HIDDEN, CELL, GATES, WEIGHT, BETWEEN = 0, 1, 2, 3, 4, 8, 9

# Steps that a sequence has room for: 2^20 of them, 2^13 units and 2^13 rows are 2^46 elements, and
# the mask spec counts to 2^47.
STEPS = 2**20


def number_of(purpose: int, layer: int, direction: int = 0) -> int:
    """The number of a draw."""
    return 16 * (2 * layer + direction) + purpose


class Masks:
    """The draws of `who`'s one call on n sequences, at an address.

    window : of an array (N, T, F), or None; only its first row counts. In a graph the address holds
        it.
    """

    def __init__(self, who: str, at: Any, window: Window | None, n: int, steps: int) -> None:
        if steps > STEPS:
            remedy = "Run it in parts, handing the state on."
            requirement = f"a sequence of at most {STEPS} steps"
            raise ValueError(message(who, "input", requirement, steps, remedy))
        self.who, self.n, self.steps = who, n, steps
        self._at, self._first = at, 0
        if window is not None:
            assert isinstance(window.start, tuple)
            self._first = window.start[0]
        self._repeated = window.axes if isinstance(window, Repeated) else None

    def _draws(self, x: Tensor) -> Draws:
        """For an array (N, T, F), a beginning of (N, STEPS, F)."""
        features = x.shape[2]
        at = self._at
        if isinstance(at, GraphAddress):
            return Draws(self.who, x, NO_P, _placed(at, self.n, features))
        first = self._first
        window = Window((first, 0, 0), (first + self.n, STEPS, features))
        if self._repeated is not None:
            window = Repeated(window.start, window.global_shape, self._repeated)
        return Draws(self.who, x, NO_P, at, True, window)

    def on_sequence(self, x: Tensor, p: Any, number: int, locked: bool) -> Tensor:
        """x (N, T, F) dropped and scaled, in one pass that keeps nothing of a mask's size."""
        y: Tensor = self._draws(x).noise(x, shared_axes=(1,) if locked else (), number=number, p=p)
        return y

    def on_weight(self, weight: Tensor, p: Any, number: int) -> Tensor:
        """weight dropped and scaled: one draw per element, the same for all rows and pieces."""
        at: Any = self._at
        if isinstance(at, GraphAddress):
            at = GraphAddress(at.words, wire.pack(()))
        y: Tensor = Draws(self.who, weight, NO_P, at).noise(weight, number=number, p=p)
        return y

    def each_step(self, like: Tensor, units: int, p: Any, number: int) -> tuple[Tensor, ...]:
        """Keep masks (N, units), one for each step, drawn in one call."""
        x = like.new_empty(()).expand(self.n, self.steps, units)
        keep: Tensor = self._draws(x).keep(p, number=number)
        return keep.unbind(1)

    def all_steps(self, like: Tensor, units: int, p: Any, numbers: range) -> Tensor:
        """Keep masks (len(numbers), N, units), each the same for all steps."""
        draws = self._draws(like.new_empty(()).expand(self.n, self.steps, units))
        return torch.stack([draws.keep(p, (1,), number=number).squeeze(1) for number in numbers])

    def scale(self, like: Tensor, p: Any) -> Any:
        """The nominal scale 1 / (1 - p), a float, or, in a graph, a tensor of `like`'s type."""
        found = Draws(self.who, like, NO_P, self._at).rate(p)[1]
        return found if isinstance(found, float) else found.to(like)


def _placed(at: GraphAddress, n: int, features: int) -> GraphAddress:
    """The address for an array (N, T, features), of the window it has for the input."""
    cpu = torch.device("cpu")

    def word(number: Any) -> Tensor:
        return torch.full((1,), number, dtype=torch.int64, device=cpu)

    # A start of -1 says that there is no window; an empty tensor says so too.
    first = at.where[:1].clamp(min=0) if at.where.numel() else word(0)
    start, whole = (first, word(0), word(0)), (first + n, word(STEPS), word(features))
    return GraphAddress(at.words, torch.cat([*start, *whole]))
