"""The steps of an LSTM and of a GRU, one after another, with noise inside of them.

PyTorch runs a whole layer in one call, which cannot be entered. Here one matrix product multiplies
the input of all steps with its weight, masks were drawn before, and a step does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CellNoise", "gru", "lstm"]

# Zoneout of a state: keep masks by step in training, p in evaluation, None where there is none.
Zone = tuple[Tensor, ...] | Tensor | float | None


@dataclass(frozen=True)
class CellNoise:
    """What happens to one layer in one direction.

    Attributes
    ----------
    candidate : keep masks (N, H) by step, or None. Of the candidate update.
    gates : keep mask (gates, N, H), or None. Of the hidden state on its way into each gate.
    scale : 1 / (1 - p) of whichever of the two there is.
    hidden, cell : zoneout.
    present : masks (N, 1) by step, or None. Which sequences have that step.
    """

    candidate: tuple[Tensor, ...] | None = None
    gates: Tensor | None = None
    scale: Any = 1.0
    hidden: Zone = None
    cell: Zone = None
    present: tuple[Tensor, ...] | None = None

    def zoned(self, zone: Zone, new: Tensor, old: Tensor, t: int) -> Tensor:
        if zone is None:
            return new
        if isinstance(zone, tuple):
            return torch.where(zone[t], new, old)
        if isinstance(zone, Tensor):  # in a compiled program
            return torch.lerp(new, old, zone.to(new.dtype))
        return torch.lerp(new, old, zone)

    def moved(self, new: Tensor, old: Tensor, t: int) -> Tensor:
        """The new state, where the sequence has this step."""
        return new if self.present is None else torch.where(self.present[t], new, old)

    def added(self, kept: Tensor, gate: Tensor, g: Tensor, t: int) -> Tensor:
        """kept + gate times the candidate g, after dropout."""
        if self.candidate is None:
            return torch.addcmul(kept, gate, g)
        g = torch.where(self.candidate[t], g, 0.0)
        if isinstance(self.scale, float):
            return torch.addcmul(kept, gate, g, value=self.scale)
        return torch.addcmul(kept, gate * self.scale, g)


class _Hidden:
    """The product of the hidden state with its weight, for all gates: by column, or by gate."""

    def __init__(self, weight: Tensor, noise: CellNoise, gates: int) -> None:
        self.keep = noise.gates
        if self.keep is None:
            self.weight = weight.t()
        else:
            # (gates, H_in, H_out), scaled once instead of the state at each step.
            self.weight = (weight * noise.scale).view(gates, -1, weight.shape[1]).mT

    def plus(self, bias: Tensor, h: Tensor) -> Tensor:
        """bias + h W: (N, gates H), or, with masks, (gates, N, H) with h masked for each gate."""
        y: Tensor
        if self.keep is None:
            y = torch.addmm(bias, h, self.weight)
        else:
            y = torch.baddbmm(bias, torch.where(self.keep, h, 0.0), self.weight)
        return y


def _by_gate(x: Tensor, gates: int) -> Tensor:
    """(T, N, gates H) as (T, gates, N, H)."""
    return x.view(*x.shape[:2], gates, -1).transpose(1, 2)


def _order(steps: int, backward: bool) -> range:
    return range(steps - 1, -1, -1) if backward else range(steps)


def _stacked(found: list[Tensor], backward: bool) -> Tensor:
    return torch.stack(found[::-1] if backward else found)


def lstm(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], noise: CellNoise, backward: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x (T, N, F), states (h, c), each (N, H), weights (w_ih, w_hh, b_ih, b_hh), the last two or
    none -> the hidden states (T, N, H), and the last (h, c)."""
    h, c = states
    w_ih, w_hh, *biases = weights
    inputs = functional.linear(x, w_ih, biases[0] + biases[1] if biases else None)
    by_gate, units = noise.gates is not None, w_hh.shape[1]
    product = _Hidden(w_hh, noise, 4)
    steps = (_by_gate(inputs, 4) if by_gate else inputs).unbind(0)
    found = []
    for t in _order(len(steps), backward):
        gates = product.plus(steps[t], h)
        if by_gate:
            i, f, g, o = gates.unbind(0)
            i, f = i.sigmoid(), f.sigmoid()
        else:
            two, g, o = gates.split((2 * units, units, units), 1)
            i, f = two.sigmoid().chunk(2, 1)
        new_c = noise.added(f * c, i, g.tanh(), t)
        # Of the cell state before its zoneout, as in Krueger et al.
        new_h = o.sigmoid() * new_c.tanh()
        new_c, new_h = noise.zoned(noise.cell, new_c, c, t), noise.zoned(noise.hidden, new_h, h, t)
        h, c = noise.moved(new_h, h, t), noise.moved(new_c, c, t)
        found.append(h)
    return _stacked(found, backward), (h, c)


def gru(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], noise: CellNoise, backward: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same for a GRU, whose one state is h."""
    (h,) = states
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, w_hh.new_zeros(w_hh.shape[0]))
    inputs = functional.linear(x, w_ih, b_ih)
    by_gate, units = noise.gates is not None, w_hh.shape[1]
    product = _Hidden(w_hh, noise, 3)
    bias = b_hh.view(3, 1, units) if by_gate else b_hh
    parts = _by_gate(inputs, 3).split((2, 1), 1) if by_gate else inputs.split((2 * units, units), 2)
    into_two, into_n = (part.unbind(0) for part in parts)
    found = []
    for t in _order(len(into_n), backward):
        gates = product.plus(bias, h)
        two, n = gates.split((2, 1), 0) if by_gate else gates.split((2 * units, units), 1)
        two = (into_two[t] + two).sigmoid()
        r, z = two.unbind(0) if by_gate else two.chunk(2, 1)
        n = torch.addcmul(into_n[t], r, n).tanh()
        n = n.squeeze(0) if by_gate else n
        new_h = noise.added(z * h, 1.0 - z, n, t)
        h = noise.moved(noise.zoned(noise.hidden, new_h, h, t), h, t)
        found.append(h)
    return _stacked(found, backward), (h,)
