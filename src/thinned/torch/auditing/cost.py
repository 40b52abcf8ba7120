"""What dropout costs a model's training step, now and adopted: measured on request."""

from __future__ import annotations

import copy
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from thinned.backends.torch.values import inlined
from thinned.torch.adoption.adopt import adopt, release
from thinned.torch.adoption.changes import MARK
from thinned.torch.adoption.functional_calls import PLACES, without_p
from thinned.torch.adoption.module import Sited
from thinned.torch.auditing.restore import clock_of
from thinned.torch.compat.without_modes import innermost

__all__ = ["Cost", "Off", "UnmeasuredError", "measured"]

_WARM, _TIMES = 2, 7


@dataclass(frozen=True)
class Cost:
    """Medians over a few training steps on this machine.

    step : seconds of a step (forward, loss, backward) as the model is.
    dropout : seconds of it that go to dropout: the difference to p = 0. May come out negative where
        the noise of the measurement is larger.
    adopted : the same after `adopt`; None where adopting was not possible, or was done already.
    saved, saved_dropout, saved_adopted : bytes that the forward keeps for the backward pass: all of
        them, those that are there for dropout, and the latter after `adopt`.
    machine : str. Where it was measured.
    note : str. What could not be measured, and why.
    """

    step: float
    dropout: float
    adopted: float | None
    saved: int
    saved_dropout: int
    saved_adopted: int | None
    machine: str
    note: str = ""

    def lines(self) -> list[str]:
        """Sentences of it."""
        first = (
            f"A training step takes {_time(self.step)}, of which dropout is "
            f"{_time(self.dropout)} ({_share(self.dropout, self.step)}); for the backward pass "
            f"{_bytes(self.saved)} are kept, of which {_bytes(self.saved_dropout)} for dropout."
        )
        said = [first]
        if self.adopted is not None and self.saved_adopted is not None:
            step = self.step - self.dropout + self.adopted
            said.append(
                f"Adopted, dropout is {_time(self.adopted)} ({_share(self.adopted, step)}) and "
                f"{_bytes(self.saved_adopted)}."
            )
        said += [self.note] if self.note else []
        return [*said, f"Measured on this machine: {self.machine}."]


def _time(seconds: float) -> str:
    if seconds <= 0.0:
        return "too little to measure"
    return f"{1e3 * seconds:.3g} ms"


def _share(part: float, whole: float) -> str:
    return f"{max(0.0, 100.0 * part / whole):.0f} %"


def _bytes(n: int) -> str:
    for unit, size in (("MB", 10**6), ("kB", 10**3)):
        if abs(n) >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"


class Off(TorchFunctionMode):
    """Every function that `adopt` reaches with p = 0; with on=True as it is, at the same cost."""

    def __init__(self, on: bool) -> None:
        super().__init__()
        self.on = on

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        off = func in PLACES and not self.on
        return without_p(func, args, kwargs) if off else func(*args, **kwargs)


class UnmeasuredError(Exception):
    """Why the cost of dropout in a model was not measured."""


def measured(model: nn.Module, step: Callable[[nn.Module], None], functional_calls: bool) -> Cost:
    """The cost of dropout in `step(model)`, on copies of the model.

    Raises
    ------
    UnmeasuredError where the model has no copy, does not run without dropout, or keeps tensors for
    the backward pass that nobody is shown.
    """
    try:
        now, without, addressed = (copy.deepcopy(model) for _ in range(3))
    except Exception as error:  # a model's own __deepcopy__ may raise whatever it likes
        raise UnmeasuredError("the model cannot be copied") from error
    already = MARK in model.__dict__
    # A site's p belongs to its clock; without one it is the module's.
    if already:
        release(without)
    _without_dropout(without)
    variants: list[tuple[nn.Module, bool | None]] = [(now, None), (without, None)]
    if functional_calls:
        variants = [(now, None), (now, True), (copy.deepcopy(without), False)]
    for one, mode in variants[1:]:
        why = _fails(one, step, mode)
        if why:
            raise UnmeasuredError(f"without dropout the model does not run: {why}")
    adopted = None
    reason = "The model is adopted already." if already else _adopted(addressed, step)
    if not reason:
        variants.append((addressed, None))
        adopted = len(variants) - 1
    times = _times(variants, step)
    try:
        saved = [_saved(one, step, mode) for one, mode in variants]
    except RuntimeError as error:  # grad of torch.func allows no hooks of saved tensors
        why = f"what it keeps for the backward pass cannot be seen: {str(error).rstrip('.')}"
        raise UnmeasuredError(why) from error
    base, off = (1, 2) if functional_calls else (0, 1)
    dropout = _apart(times[base], times[off])
    return Cost(
        statistics.median(times[0]),
        dropout,
        None if adopted is None else dropout + _apart(times[adopted], times[0]),
        saved[0],
        saved[0] - saved[off],
        None if adopted is None else saved[adopted] - saved[off],
        _machine(model),
        reason,
    )


def _adopted(model: nn.Module, step: Callable[[nn.Module], None]) -> str:
    """Adopt a model and run it; the reason where it refuses, or does not run so."""
    try:
        adopt(model)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"Adopted it was not measured: {error}"
    why = _fails(model, step, None)
    return f"Adopted it was not measured: {why}" if why else ""


def _fails(model: nn.Module, step: Callable[[nn.Module], None], off: bool | None) -> str:
    """What a copy of the model raises, which itself runs; nothing where this does, too."""
    try:
        _one(model.train(), step, off)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _apart(one: list[float], other: list[float]) -> float:
    """The median of what two variants of a step differ by in each turn."""
    return statistics.median(a - b for a, b in zip(one, other, strict=True))


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN)):
            module.dropout = 0.0
        elif isinstance(module, Sited) and module.own_p is not None:
            module.p = 0.0


def _times(
    variants: list[tuple[nn.Module, bool | None]], step: Callable[[nn.Module], None]
) -> list[list[float]]:
    """Seconds of each step, the variants taking turns so that a busy moment meets all of them."""
    times: list[list[float]] = [[] for _ in variants]
    for turn in range(_WARM + _TIMES):
        for place, (one, off) in enumerate(variants):
            _wait()
            begin = time.perf_counter()
            _one(one, step, off)
            _wait()
            if turn >= _WARM:
                times[place].append(time.perf_counter() - begin)
    return times


def _one(model: nn.Module, step: Callable[[nn.Module], None], off: bool | None) -> None:
    if off is None:
        step(model)
    else:
        with Off(off):
            step(model)
    clock = clock_of(model)
    if clock is not None:
        clock.tick()
    model.zero_grad(set_to_none=True)


def _saved(model: nn.Module, step: Callable[[nn.Module], None], off: bool | None) -> int:
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        storage = innermost(tensor).untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)  # so that no other one takes its address
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        _one(model, step, off)
    return sum(kept.values())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _machine(model: nn.Module) -> str:
    devices = sorted({str(p.device) for p in model.parameters()} or {"cpu"})
    names = [
        torch.cuda.get_device_name(device) if device.startswith("cuda") else device
        for device in devices
    ]
    threads = f"{torch.get_num_threads()} threads, {os.cpu_count()} cores"
    return f"{platform.system()} {platform.machine()}, {threads}, {', '.join(names)}"
