"""Masks that are written by hand: by what a kept element is multiplied, all in all.

Followed are draws that become gates (0 and 1, with a known chance of 1) by functions of elements,
what a gate is multiplied by, and numbers that either is multiplied by. Everything else ends the
trail, so that what is told is certain: sums of a mask and its complement, gates of learned chances,
gates that a pooling widens and noise of other laws are not judged.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from thinned.torch.auditing.batch_norm import memory_of
from thinned.torch.auditing.draws import Read, SeenLaw

__all__ = ["Multiplied", "Scales"]

_UNIFORM = frozenset({"rand", "rand_like", "uniform"})
_CARRIES = frozenset({"_to_copy", "clone", "alias", "detach", "contiguous", "copy", "lift_fresh"})
_SHAPES = frozenset(
    {"view", "_unsafe_view", "expand", "unsqueeze", "squeeze", "reshape", "_reshape_alias"}
    | {"permute", "transpose", "t", "slice", "select"}
)
_COMPARISONS = {"lt": False, "le": False, "gt": True, "ge": True}


@dataclass(frozen=True)
class _Gate:
    """A draw on its way to a mask: uniform numbers plus `value`; or 0 and `scale`, which comes with
    the chance `value`. turned: whether it is the complement of what was drawn."""

    site: str
    group: int
    is_open: bool
    value: float
    scale: float = 1.0
    turned: bool = False


@dataclass(frozen=True)
class Multiplied:
    """A tensor that a gate was put on.

    keep : chance that an element is kept. scale : what a kept one was multiplied by.
    gate, shape : shapes of the gate and of what it was put on. raw : whether that was the model's
    own input. residual : whether it was then added to what its module was given. summed : whether
    it was summed up.
    """

    site: str
    module: str
    line: str
    group: int
    turned: bool
    keep: float
    scale: float
    gate: tuple[int, ...]
    shape: tuple[int, ...]
    raw: bool
    residual: bool = False
    summed: bool = False


class Scales:
    """Of one run.

    Attributes
    ----------
    found : list of Multiplied, each at the end of its trail.
    numbers : module -> the numbers that it multiplied tensors by which are no gates and not gated.
    inputs : memories of the model's own inputs.
    others : groups of draws whose gates served for something else than being put on a tensor.
    """

    def __init__(self) -> None:
        self.found: list[Multiplied] = []
        self.numbers: dict[str, list[float]] = defaultdict(list)
        self.inputs: set[int] = set()
        self.others: set[int] = set()
        self._gates: dict[int, _Gate] = {}
        self._gated: dict[int, Multiplied] = {}
        self._factors: dict[int, tuple[str, float]] = {}
        self._groups = 0

    def follow(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        out: Any,
        drawn: tuple[Read, str] | None,
        module: str,
        line: str,
        given: set[int],
    ) -> None:
        """Note what an operation made.

        drawn : what it drew, and the site. given : memories of what its module was given.
        """
        made = [one for one in (out if isinstance(out, (tuple, list)) else [out]) if _is(one)]
        if name in _SHAPES:
            return  # the same memory
        gate = gated = factor = None
        if drawn is not None:
            gate = self._drawn(name, func, args, *drawn)
        elif len(made) == 1:
            gate = self._gate(name, args)
            gated = None if gate is not None else self._dropped(name, args, module, line)
            if gate is None and gated is None:
                factor = self._factor(name, args, module)
        if gate is None and gated is None:
            self._end(name, args, given)
        for tensor in made:
            self._forget(memory_of(tensor))
        if gate is not None:
            self._gates[memory_of(out)] = gate
        elif gated is not None:
            self._gated[memory_of(out)] = gated
        elif factor is not None:
            self._factors[memory_of(out)] = factor

    def finish(self) -> None:
        """The run is over: what is gated still came out of the model."""
        self.found += self._gated.values()
        self._gated.clear()

    def _forget(self, memory: int) -> None:
        for known in (self._gates, self._gated, self._factors):
            known.pop(memory, None)

    def _drawn(
        self, name: str, func: Any, args: tuple[Any, ...], drawn: Read, site: str
    ) -> _Gate | None:
        if func.namespace != "aten":
            return None
        self._groups += 1
        if drawn.law == SeenLaw.noise and name in _UNIFORM:
            ends = [one for one in args[1:] if isinstance(one, (int, float))]
            plain = name != "uniform" or not ends or [float(one) for one in ends] == [0.0, 1.0]
            return _Gate(site, self._groups, True, 0.0) if plain else None
        if name != "bernoulli" or drawn.p is None:
            return None
        chances = [one for one in args[:2] if isinstance(one, Tensor)]
        one = chances[-1] if func._overloadname in ("default", "out", "Tensor") else None
        if one is not None and one.numel() and bool(one.max() != one.min()):
            return None  # a chance for each element: what is kept is another thing for each
        return _Gate(site, self._groups, False, 1.0 - drawn.p)

    def _gate(self, name: str, args: tuple[Any, ...]) -> _Gate | None:
        """The gate that an operation makes of a draw or of a gate and numbers."""
        gates = [self._gates.get(memory_of(one)) for one in args[:2] if isinstance(one, Tensor)]
        known = [one for one in gates if one is not None]
        if name == "copy":
            known = known[-1:] if len(gates) == 2 and gates[1] is not None else []
            return known[0] if known else None
        if len(known) != 1:
            return None
        gate, number = known[0], self._number_beside(args)
        if name in _CARRIES:
            return gate
        if gate.is_open:
            return self._of_uniforms(name, args, gate, number)
        if name in ("logical_not", "bitwise_not") or (name == "rsub" and number == gate.scale == 1):
            return replace(gate, value=1.0 - gate.value, turned=not gate.turned)
        first = isinstance(args[0], Tensor) and memory_of(args[0]) in self._gates
        if name == "sub" and not first and number == gate.scale == 1:
            return replace(gate, value=1.0 - gate.value, turned=not gate.turned)
        if number is None or name not in ("mul", "div") or (name == "div" and not first):
            return None
        if name == "div" and number == 0.0:
            return None
        return replace(gate, scale=gate.scale * number if name == "mul" else gate.scale / number)

    def _of_uniforms(
        self, name: str, args: tuple[Any, ...], gate: _Gate, number: float | None
    ) -> _Gate | None:
        first = isinstance(args[0], Tensor) and memory_of(args[0]) in self._gates
        if name == "floor":
            shift = gate.value
            return replace(gate, is_open=False, value=shift) if 0.0 <= shift <= 1.0 else None
        if number is None:
            return None
        if name in ("add", "sub") and first:
            return replace(gate, value=gate.value + (number if name == "add" else -number))
        if name == "add":
            return replace(gate, value=gate.value + number)
        if name in _COMPARISONS:
            below = min(1.0, max(0.0, number - gate.value))
            above = _COMPARISONS[name] is first
            return replace(gate, is_open=False, value=1.0 - below if above else below)
        return None

    def _number_beside(self, args: tuple[Any, ...]) -> float | None:
        """The number among the first two arguments that is no gate: 1 - m, m / 0.5, u < p."""
        for one in args[:2]:
            if isinstance(one, (int, float)):
                return float(one)
            if isinstance(one, Tensor) and one.numel() == 1 and memory_of(one) not in self._gates:
                return _value(one)
        return None

    def _dropped(
        self, name: str, args: tuple[Any, ...], module: str, line: str
    ) -> Multiplied | None:
        """The gated tensor that an operation makes: x m, or a gated one times a number."""
        if name in _CARRIES:
            source = args[1] if name == "copy" else args[0]
            return self._gated.pop(memory_of(source), None) if isinstance(source, Tensor) else None
        if name in ("mul", "div"):
            return self._multiplied(name, args, module, line)
        if name == "masked_fill" and _zero(args[2]):
            gate = self._gates.get(memory_of(args[1]))
            return self._put(args[0], _turned(gate), args[1], module, line)
        if name == "where" and len(args) == 3:
            gate = self._gates.get(memory_of(args[0]))
            if _zero(args[2]):
                return self._put(args[1], gate, args[0], module, line)
            if _zero(args[1]):
                return self._put(args[2], _turned(gate), args[0], module, line)
        return None

    def _multiplied(
        self, name: str, args: tuple[Any, ...], module: str, line: str
    ) -> Multiplied | None:
        one, other = args[:2]
        for x, factor in ((one, other), (other, one))[: 1 if name == "div" else 2]:
            if not isinstance(x, Tensor):
                continue
            gated = self._gated.get(memory_of(x))
            number = _number(factor)
            known = isinstance(factor, Tensor) and memory_of(factor) in self._gates
            if gated is not None and number is not None and not known:
                if name == "div" and number == 0.0:
                    return None
                scale = gated.scale * number if name == "mul" else gated.scale / number
                del self._gated[memory_of(x)]
                return replace(gated, scale=scale)
            if name == "mul" and known:
                return self._put(x, self._gates[memory_of(factor)], factor, module, line)
        return None

    def _put(
        self, x: Any, gate: _Gate | None, mask: Tensor, module: str, line: str
    ) -> Multiplied | None:
        """A gate on a tensor, which may have been multiplied by numbers in the same module."""
        if gate is None or gate.is_open or not isinstance(x, Tensor) or not 0.0 < gate.value < 1.0:
            return None
        memory = memory_of(x)
        if not x.is_floating_point() or memory in self._gates or memory in self._gated:
            return None
        home, factor = self._factors.get(memory, (module, 1.0))
        factor = factor if home == module else 1.0
        return Multiplied(
            gate.site, module, line, gate.group, gate.turned, gate.value, gate.scale * factor,
            tuple(mask.shape), tuple(x.shape), memory in self.inputs,
        )  # fmt: skip

    def _factor(self, name: str, args: tuple[Any, ...], module: str) -> tuple[str, float] | None:
        """A plain tensor times a number: where, and times what it was before."""
        if name not in ("mul", "div") or len(args) < 2 or not isinstance(args[0], Tensor):
            return None
        x, number = args[0], _number(args[1])
        if number is None and isinstance(args[1], Tensor) and name == "mul":
            x, number = args[1], _number(args[0])
        if number is None or not x.is_floating_point() or (name == "div" and number == 0.0):
            return None
        number = number if name == "mul" else 1.0 / number
        self.numbers[module].append(number)
        home, before = self._factors.get(memory_of(x), (module, 1.0))
        return module, number * (before if home == module else 1.0)

    def _end(self, name: str, args: tuple[Any, ...], given: set[int]) -> None:
        """An operation that ends the trail of its input."""
        if not (self._gated or self._gates):
            return
        tensors = [
            one for arg in args for one in (arg if isinstance(arg, (list, tuple)) else [arg])
        ]
        memories = {memory_of(one) for one in tensors if _is(one)}
        if not memories.isdisjoint(self._gates):  # two gates, one after the other
            for memory in memories:
                self._gated.pop(memory, None)
        for memory in memories:
            gate, scaled = self._gates.get(memory), self._gated.pop(memory, None)
            if gate is not None:
                self.others.add(gate.group)
            if scaled is not None:
                residual = name == "add" and bool((memories - {memory}) & given)
                summed = name in ("sum", "mean")
                self.found.append(replace(scaled, residual=residual, summed=summed))


def _is(one: Any) -> bool:
    return isinstance(one, Tensor)


def _turned(gate: _Gate | None) -> _Gate | None:
    if gate is None or gate.is_open:
        return None
    return replace(gate, value=1.0 - gate.value, scale=1.0, turned=not gate.turned)


def _number(one: Any) -> float | None:
    if isinstance(one, (int, float)):
        return float(one)
    return _value(one) if isinstance(one, Tensor) and one.numel() == 1 else None


def _value(tensor: Tensor) -> float | None:
    if tensor.dtype == torch.bool or tensor.is_complex() or tensor.is_meta:
        return None
    return float(tensor.detach().reshape(()))


def _zero(one: Any) -> bool:
    if isinstance(one, Tensor):
        return not bool(one.detach().any())
    return isinstance(one, (int, float)) and one == 0
