"""What an LSTM and a GRU with dropout inside have in common: parameters, options, the forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.checks import message
from thinned.torch.adoption.module import Sited, fresh_address, put
from thinned.torch.adoption.site import p_of, set_p
from thinned.torch.compat import recurrence
from thinned.torch.compat.dtensor import is_sharded
from thinned.torch.rnn.masks import (
    BETWEEN,
    CANDIDATE,
    CELL,
    GATES,
    HIDDEN,
    INPUT,
    WEIGHT,
    Masks,
    number_of,
)
from thinned.torch.rnn.sequences import Rows, checked_input, checked_state

__all__ = ["Recurrent", "option"]

States = tuple[Tensor, ...]


def option(name: str) -> Any:
    """An option: a p of its own, or True, to follow the layer's p."""

    def get(self: Any) -> Any:
        return self.__dict__[f"_{name}"]

    def put(self: Any, p: Any) -> None:
        who = type(self).__name__
        self.__dict__[f"_{name}"] = p if p is True else checks.probability(who, p, name)

    return property(get, put)


class Recurrent(Sited):
    """What LSTM and GRU have in common. See there."""

    # Each has its own: how many gates, torch.nn's name, its options that are probabilities,
    # PyTorch's function for whole layers and Thinned's for steps.
    gates: ClassVar[int]
    mode: ClassVar[str]
    rates: ClassVar[tuple[str, ...]]
    run: ClassVar[Callable[..., Any]]
    step: ClassVar[Callable[..., Any]]
    proj_size = 0  # asked for by flatten_parameters
    several = True

    input_p = option("input_p")
    dropout = option("dropout")
    between_p = option("between_p")
    output_p = option("output_p")
    recurrent_p = option("recurrent_p")
    weight_p = option("weight_p")

    def __init__(
        self,
        sizes: tuple[Any, Any, Any],
        flags: dict[str, Any],
        p: Any,
        recurrent: Any,
        rates: dict[str, Any],
        device: Any,
        dtype: Any,
    ) -> None:
        nn.Module.__init__(self)
        who = type(self).__name__
        named = zip(("input_size", "hidden_size", "num_layers"), sizes, strict=True)
        self.input_size, self.hidden_size, self.num_layers = (
            checks.integer(who, name, n, 1, 2**31) for name, n in named
        )
        self.bias, self.batch_first, self.bidirectional = (
            checks.flag(who, name, value) for name, value in flags.items()
        )
        for name, value in rates.items():
            put(self, name, value)
        put(self, "recurrent", recurrent)
        put(self, "p", p)
        self._require_places()
        factory: Any = {"device": device, "dtype": dtype}
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else self.hidden_size * self.ways
            for direction in range(self.ways):
                shapes = [(self.gates * self.hidden_size, n) for n in (inputs, self.hidden_size)]
                names = self._names(layer, direction)
                for name, shape in zip(names, [*shapes, *((s[0],) for s in shapes)], strict=False):
                    setattr(self, name, nn.Parameter(torch.empty(shape, **factory)))
        self.reset_parameters()

    def _require_followed(self, p: float | None) -> None:
        who, following = type(self).__name__, [n for n in self.rates if getattr(self, n) is True]
        if following and p is None:
            raise TypeError(
                f"{who}: p must be given: {following[0]}=True says that it follows p, the layer's "
                "main probability."
            )
        if p is not None and not following:
            raise ValueError(
                f"{who}: p must be None where nothing follows it, got {p:g}. Pass True for what it "
                f"is to rule: {', '.join(self.rates)}."
            )

    def _require_places(self) -> None:
        who, between = type(self).__name__, [n for n in ("between_p", "dropout") if self._on(n)]
        if len(between) == 2:
            raise ValueError(
                f"{who}: between_p and dropout both drop what goes from layer to layer: between_p "
                "with one mask for all steps, dropout, as in torch.nn, anew for each. Pass one."
            )
        if between and self.num_layers == 1:
            name, remedy = between[0], "For what leaves the last layer: output_p."
            raise ValueError(message(who, name, "0 with num_layers=1", getattr(self, name), remedy))

    # ---------------------------------------------------------------------------------- as a module

    @property  # type: ignore[override]
    def p(self) -> float | None:
        """The main probability, which options given as True follow, and which schedules move."""
        return p_of(self, "_p")

    @p.setter
    def p(self, p: Any) -> None:
        checked: Any = None if p is None else checks.probability(type(self).__name__, p)
        self._require_followed(checked)
        set_p(self, "_p", checked)

    @property
    def recurrent(self) -> str:
        """Where recurrent_p drops: "candidate" or "gal"."""
        where: str = self.__dict__["_recurrent"]
        return where

    @recurrent.setter
    def recurrent(self, where: Any) -> None:
        where = checks.one_of(type(self).__name__, "recurrent", where, ("candidate", "gal"))
        self.__dict__["_recurrent"] = where

    @property
    def own_p(self) -> float | None:
        return self.p

    @property
    def ways(self) -> int:
        """Directions: 2 where bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def batch_axis(self) -> int:
        return 0 if self.batch_first else 1

    def _names(self, layer: int, direction: int) -> list[str]:
        """Names of the parameters, torch.nn's: the weights of input and state, then the biases."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        end = f"_l{layer}" + ("_reverse" if direction else "")
        return [kind + end for kind in kinds[: 4 if self.bias else 2]]

    def _weights(self, layer: int, direction: int) -> list[Tensor]:
        return [getattr(self, name) for name in self._names(layer, direction)]

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters, a list for each layer and direction, as in torch.nn."""
        return [self._weights(i, j) for i in range(self.num_layers) for j in range(self.ways)]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [weight for weights in self.all_weights for weight in weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        layers, ways = range(self.num_layers), range(self.ways)
        return [name for i in layers for j in ways for name in self._names(i, j)]

    def reset_parameters(self) -> None:
        """Draw all parameters from U(-k, k), k = 1 / sqrt(hidden_size), as torch.nn does."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Lay the parameters out as cuDNN requires; nothing on other devices."""
        layer: Any = self  # torch.nn's own code, which reads what is here under the same names
        nn.RNNBase.flatten_parameters(layer)

    def _apply(self, fn: Any, recurse: bool = True) -> Recurrent:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.flatten_parameters()
        return self

    def extra_repr(self) -> str:
        told = [f"{self.input_size}, {self.hidden_size}"]
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "bidirectional": False}
        told += [f"{n}={getattr(self, n)}" for n, v in usual.items() if getattr(self, n) != v]
        told += [f"p={self.p}"] if self.p is not None else []
        told += [f"{name}={getattr(self, name)}" for name in self.rates if self._on(name)]
        told += ["recurrent='gal'"] if self.recurrent == "gal" else []
        return ", ".join(told)

    # ---------------------------------------------------------------------------------- the forward

    def _on(self, name: str) -> bool:
        value = getattr(self, name, 0.0)
        return value is True or value > 0.0

    def _zoned(self) -> bool:
        return self._on("zoneout_hidden_p") or self._on("zoneout_cell_p")

    def forward(self, input: Any, hx: Any = None) -> Any:
        who = type(self).__name__
        rows = checked_input(who, self, input)
        states = checked_state(who, self, rows, hx)
        drawing = self.training and any(self._on(name) for name in self.rates)
        expecting = self._zoned() and not self.training
        if not drawing and not expecting and not _unrolled(rows):
            return self._plain(rows, states)
        if is_sharded(rows.data):
            raise NotImplementedError(
                f"{who}: input must be a plain tensor where something is dropped, got a DTensor. "
                "Pass each process its rows of the batch, and adopt with ranks='split'."
            )
        x = rows.padded()
        masks, p = self._masks(x, rows.alone) if drawing else (None, self.quiet_p)
        rate = {name: self._now(name, p) for name in self.rates}
        found: list[States] = []
        for layer in range(self.num_layers):
            if masks is not None:
                x = self._entered(x, layer, masks, rate)
            first = layer * self.ways
            mine = [tuple(s[first + j] for s in states) for j in range(self.ways)]
            x, ended = self._layer(x, layer, mine, rows, masks, rate)
            found += ended
        if masks is not None and rate["output_p"] is not None:
            number = number_of(INPUT, self.num_layers)
            x = _dropped(masks, x, rate["output_p"], number, True)
        last = tuple(torch.stack(parts) for parts in zip(*found, strict=True))
        return rows.returned(x), self._ended(rows, last)

    def _masks(self, x: Tensor, alone: bool) -> tuple[Masks, Any]:
        """The masks of this call, and the main p; x (T, N, F)."""
        who, (steps, n, features) = type(self).__name__, x.shape
        if self.site is None:
            at, window, p = fresh_address(who, x), None, self.p
        else:
            # In any layout rows come first in what is drawn: see rnn/masks.py.
            at, window, p = self.site.located((n, steps, features), -1 if alone else 0)
        return Masks(who, at, window, n, steps), p

    def _now(self, name: str, p: Any) -> Any:
        """An option's p in this call; None where it does nothing."""
        value = getattr(self, name)
        value = p if value is True else value
        return None if isinstance(value, float) and value == 0.0 else value

    def _entered(self, x: Tensor, layer: int, masks: Masks, rate: dict[str, Any]) -> Tensor:
        """What goes into a layer."""
        locked = rate["input_p" if layer == 0 else "between_p"]
        if locked is not None:
            x = _dropped(masks, x, locked, number_of(INPUT, layer), True)
        if layer > 0 and rate["dropout"] is not None:
            x = _dropped(masks, x, rate["dropout"], number_of(BETWEEN, layer), False)
        return x

    def _layer(
        self,
        x: Tensor,
        layer: int,
        states: Sequence[States],
        rows: Rows,
        masks: Masks | None,
        rate: dict[str, Any],
    ) -> tuple[Tensor, list[States]]:
        """One layer: by PyTorch in one call, or step by step where noise goes inside."""
        weights = [self._weights(layer, j) for j in range(self.ways)]
        if masks is not None and rate["weight_p"] is not None:
            for j, mine in enumerate(weights):
                number = number_of(WEIGHT, layer, j)
                mine[1] = masks.on_weight(mine[1], rate["weight_p"], number)
        drawn = masks is not None and rate["recurrent_p"] is not None
        zoned = [rate.get(name) for name in ("zoneout_hidden_p", "zoneout_cell_p")]
        quiet = not drawn and all(p is None for p in zoned)
        if quiet and not _unrolled(rows):
            return self._whole(x, states, weights, rows)
        present = rows.present()
        ends, parts = [], []
        for j, mine in enumerate(weights):
            noise = self._noise(x, layer, j, masks, rate, present)
            part, end = type(self).step(x, states[j], mine, noise, j == 1)
            parts.append(part)
            ends.append(end)
        return parts[0] if self.ways == 1 else torch.cat(parts, 2), ends

    def _noise(
        self,
        x: Tensor,
        layer: int,
        direction: int,
        masks: Masks | None,
        rate: dict[str, Any],
        present: tuple[Tensor, ...] | None,
    ) -> recurrence.CellNoise:
        hidden, cell = rate.get("zoneout_hidden_p"), rate.get("zoneout_cell_p")
        if masks is None:
            return recurrence.CellNoise(hidden=hidden, cell=cell, present=present)
        units = self.hidden_size

        def anew(purpose: int, p: Any) -> tuple[Tensor, ...] | None:
            number = number_of(purpose, layer, direction)
            return None if p is None else masks.each_step(x, units, p, number)

        p, candidate, gates, scale = rate["recurrent_p"], None, None, 1.0
        if p is not None:
            scale = masks.scale(x, p)
            if self.recurrent == "candidate":
                candidate = anew(CANDIDATE, p)
            else:
                first = number_of(GATES, layer, direction)
                gates = masks.all_steps(x, units, p, range(first, first + self.gates))
        return recurrence.CellNoise(
            candidate, gates, scale, anew(HIDDEN, hidden), anew(CELL, cell), present
        )

    def _whole(
        self, x: Tensor, states: Sequence[States], weights: list[list[Tensor]], rows: Rows
    ) -> tuple[Tensor, list[States]]:
        data, sizes = rows.packed(x)
        initial = tuple(torch.stack(parts) for parts in zip(*states, strict=True))
        initial = tuple(rows.sorted(state) for state in initial)
        flat = [weight for mine in weights for weight in mine]
        data, *last = self._call(data, sizes, initial, flat, 1, False)
        ends = [rows.unsorted(state).unbind(0) for state in last]
        return rows.unpacked(data), list(zip(*ends, strict=True))

    def _plain(self, rows: Rows, states: States) -> Any:
        """All layers in PyTorch's one call, as torch.nn makes it."""
        initial = tuple(rows.sorted(state) for state in states)
        data, *last = self._call(
            rows.data, rows.sizes, initial, self._flat_weights, self.num_layers, rows.batch_first
        )
        return rows.wrapped(data), self._ended(rows, tuple(rows.unsorted(s) for s in last))

    def _call(
        self,
        data: Tensor,
        sizes: Tensor | None,
        states: States,
        weights: list[Tensor],
        layers: int,
        batch_first: bool,
    ) -> Any:
        state: Any = states if self.mode == "LSTM" else states[0]
        rest = (self.bias, layers, 0.0, self.training, self.bidirectional)
        if sizes is None:
            return type(self).run(data, state, weights, *rest, batch_first)
        return type(self).run(data, sizes, state, weights, *rest)

    def _ended(self, rows: Rows, last: States) -> Any:
        last = tuple(s.squeeze(1) for s in last) if rows.alone else last
        return last if self.mode == "LSTM" else last[0]


def _unrolled(rows: Rows) -> bool:
    """Whether a compiler reads the steps one by one.

    So it does with PyTorch's own call, and then takes for a layer of weights an operator that
    Inductor cannot run (mkldnn_rnn_layer, in 2.13). Packed sequences stay one call.
    """
    return torch.compiler.is_compiling() and rows.sizes is None


def _dropped(masks: Masks, x: Tensor, p: Any, number: int, locked: bool) -> Tensor:
    return masks.on_sequence(x.transpose(0, 1), p, number, locked).transpose(0, 1)
