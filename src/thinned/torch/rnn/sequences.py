"""The input of a recurrent network, dense or packed, with a batch or alone, in one form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.checks import message

__all__ = ["Rows", "checked_input", "checked_state"]


class Rows:
    """The sequences of one call.

    Attributes
    ----------
    data : as PyTorch's functions take it: (T, N, F), (N, T, F) or, packed, (elements, F).
    sizes : the batch sizes of a packed sequence, or None.
    alone : bool. Whether one sequence came without an axis for the batch.
    n : sequences.
    """

    def __init__(self, input: Any, batch_first: bool) -> None:
        self.batch_first, self.alone = batch_first, False
        self.sizes: Tensor | None = None
        self.sorting: Tensor | None = None
        self.unsorting: Tensor | None = None
        if isinstance(input, PackedSequence):
            self.data, self.sizes, self.sorting, self.unsorting = input
            self.batch_first, self.n = False, int(self.sizes[0])
            self.steps = len(self.sizes)
            return
        self.alone = input.dim() == 2
        self.data = input.unsqueeze(0 if batch_first else 1) if self.alone else input
        self.n, self.steps = self.data.shape[:2] if batch_first else self.data.shape[1::-1]

    def _places(self) -> tuple[Tensor, Tensor]:
        """Step and row of each element of a packed sequence; rows in the caller's order."""
        assert self.sizes is not None
        device = self.data.device
        each = torch.arange(self.n).expand(self.steps, self.n) < self.sizes[:, None]
        step, row = (found.to(device) for found in each.nonzero(as_tuple=True))
        return step, row if self.sorting is None else self.sorting[row]

    def padded(self) -> Tensor:
        """(T, N, F), rows in the caller's order, zeros behind the end of a sequence."""
        if self.sizes is not None:
            return self.unpacked(self.data)
        return self.data.transpose(0, 1) if self.batch_first else self.data

    def unpacked(self, data: Tensor) -> Tensor:
        """`packed`'s result again as (T, N, F)."""
        if self.sizes is None:
            return data
        padded = data.new_zeros((self.steps, self.n, data.shape[1]))
        return padded.index_put(self._places(), data)

    def packed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(T, N, F) as PyTorch's functions take it, and the sizes where it is packed."""
        return (x, None) if self.sizes is None else (x[self._places()], self.sizes)

    def present(self) -> tuple[Tensor, ...] | None:
        """Masks (N, 1) by step: which sequences have it. None where all have all."""
        if self.sizes is None:
            return None
        each = torch.arange(self.n) < self.sizes[:, None]
        each = each.to(self.data.device)
        return (each if self.unsorting is None else each[:, self.unsorting]).unsqueeze(2).unbind(0)

    def sorted(self, state: Tensor) -> Tensor:
        """A state (L, N, H) in the order in which a packed sequence has its rows."""
        return state if self.sorting is None else state.index_select(1, self.sorting)

    def unsorted(self, state: Tensor) -> Tensor:
        return state if self.unsorting is None else state.index_select(1, self.unsorting)

    def wrapped(self, data: Tensor) -> Any:
        """The output, in the form in which the input came."""
        if self.sizes is not None:
            return PackedSequence(data, self.sizes, self.sorting, self.unsorting)
        return data.squeeze(0 if self.batch_first else 1) if self.alone else data

    def returned(self, x: Tensor) -> Any:
        """(T, N, H) in the form in which the input came."""
        if self.sizes is None and self.batch_first:
            x = x.transpose(0, 1)
        return self.wrapped(self.packed(x)[0])


def checked_input(who: str, layer: Any, input: Any) -> Rows:
    """The sequences. TypeError, ValueError unless `layer` can take them."""
    packed = isinstance(input, PackedSequence)
    data: Any = input.data if packed else input
    if not isinstance(data, Tensor):
        requirement = "a torch tensor or a PackedSequence"
        raise TypeError(message(who, "input", requirement, type(input).__name__))
    if not packed and data.dim() not in (2, 3):
        form = "(N, T, F) or (T, F)" if layer.batch_first else "(T, N, F) or (T, F)"
        raise ValueError(message(who, "input", f"of shape {form}", f"shape {tuple(data.shape)}"))
    if data.shape[-1] != layer.input_size:
        requirement = f"of {layer.input_size} features, its input_size"
        raise ValueError(message(who, "input", requirement, data.shape[-1]))
    weight = layer.weight_ih_l0
    if data.dtype != weight.dtype and not torch.is_autocast_enabled(data.device.type):
        remedy = f"Convert it: input.to({weight.dtype})."
        raise TypeError(message(who, "input", f"of the weights' type {weight.dtype}",
                                str(data.dtype), remedy))  # fmt: skip
    rows = Rows(input, layer.batch_first)
    if rows.steps == 0:
        raise ValueError(message(who, "input", "of at least one step", "none"))
    return rows


def checked_state(who: str, layer: Any, rows: Rows, hx: Any) -> tuple[Tensor, ...]:
    """The initial states, each (layers times directions, N, H), zeros for None."""
    count, lead = (2 if layer.mode == "LSTM" else 1), layer.num_layers * layer.ways
    shape = (lead, rows.n, layer.hidden_size)
    if hx is None:
        return (rows.data.new_zeros(shape),) * count
    states: Any = hx if count == 2 else (hx,)
    names = ("hx[0]", "hx[1]") if count == 2 else ("hx",)
    tuples = isinstance(states, (tuple, list)) and len(states) == count
    if not tuples or not all(isinstance(state, Tensor) for state in states):
        requirement = "a pair (h_0, c_0) of tensors" if count == 2 else "a tensor h_0"
        raise TypeError(message(who, "hx", requirement, _told(hx)))
    wanted = (shape[0], shape[2]) if rows.alone else shape
    for name, state in zip(names, states, strict=True):
        if tuple(state.shape) != wanted:
            raise ValueError(message(who, name, f"of shape {wanted}", f"{tuple(state.shape)}"))
    return tuple(state.unsqueeze(1) for state in states) if rows.alone else tuple(states)


def _told(hx: Any) -> str:
    if isinstance(hx, (tuple, list)):
        return f"a {type(hx).__name__} of {', '.join(type(part).__name__ for part in hx)}"
    return type(hx).__name__
