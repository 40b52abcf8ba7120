"""What happens while a model runs: which module draws what, and what its draws lead to.

Hooks say which module is running; a dispatch mode sees every operation, and so functional calls,
attention and recurrent layers as well as modules. A tensor that was dropped is known by its memory
until something else than an elementwise function makes another of it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thinned.backends.torch.internals import graph_task, in_transform
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.names import modules_by_name, unwrapped
from thinned.torch.auditing.batch_norm import NORMALISING, Variances, memory_of, tensors_in
from thinned.torch.auditing.draws import Read, Seen, SeenLaw, given_to, identified, read, same_rows
from thinned.torch.auditing.dropping_all import Hearing
from thinned.torch.auditing.restore import clock_of
from thinned.torch.auditing.scale import Scales
from thinned.torch.auditing.uses import Uses
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.covers import covers_of
from thinned.torch.compat.thread_mode import ThreadMode
from thinned.torch.dropin.modules import _DropIn
from thinned.torch.thinning.layers import SHARING

__all__ = [
    "DROPPING",
    "InterruptedForwardError",
    "Observer",
    "Ratio",
    "is_by_hand",
    "is_dropout",
    "nominal_p",
    "tensors_in",
]

_NATIVE = nn.modules.dropout._DropoutNd
_WEIGHTED = (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN)
# Modules that have a p, by PyTorch's names.
DROPPING = (_NATIVE, *_WEIGHTED)
_P = ("p", "drop_prob", "drop_rate", "dropout_p", "rate", "prob", "keep_prob")

# Files whose frames are not the user's.
_FOLDERS = Path(torch.__file__).parent, Path(__file__).parents[2]
_OURS = tuple(str(folder) + os.sep for folder in _FOLDERS)

# Beyond this file's frames is the caller of the audit.
_AUDIT = str(Path(__file__).with_name("audit.py"))


class InterruptedForwardError(Exception):
    """Raised in a model's forward on purpose, to see what it leaves behind."""


def is_dropout(module: nn.Module) -> bool:
    """Whether a module is dropout and nothing else."""
    if isinstance(module, (_NATIVE, Sited)):
        return True
    if module._modules or module._parameters:
        return False
    return any(_is_rate(getattr(module, name, None)) for name in _P)


def is_by_hand(module: nn.Module) -> bool:
    """Whether a module is dropout that was written anew."""
    return is_dropout(module) and not isinstance(module, (_NATIVE, Sited))


def _is_rate(found: Any) -> bool:
    return isinstance(found, float) and 0.0 <= found <= 1.0


def nominal_p(module: nn.Module) -> float | None:
    """The probability to drop that a module says it has; None where it says none."""
    if isinstance(module, Sited):
        return module.own_p
    if isinstance(module, _WEIGHTED):
        return float(module.dropout)
    for name in _P:
        found = getattr(module, name, None)
        if isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found <= 1:
            return 1.0 - float(found) if name == "keep_prob" else float(found)
    return None


class Ratio(NamedTuple):
    """What a module multiplied every kept element by; the share of elements that it kept, of how
    many; and whether some of one row, along the last axis, were kept and some dropped."""

    factor: float
    share: float
    elements: int
    parts: bool


class _Frame:
    """A module that runs: what it was given, and how often it was entered before."""

    def __init__(self, module: nn.Module, name: str, number: int, first: Tensor | None) -> None:
        self.module, self.name, self.number = module, name, number
        self.given = b""
        self.shape: tuple[int, ...] | None = None
        self.memories: set[int] = set()
        self.own = None if first is None else first.detach().clone()  # it may be written into
        self.draws: list[Seen] = []


class Observer(ThreadMode):
    """Runs parts of a model's step under hooks and a mode, and remembers what it saw.

    Attributes
    ----------
    seen : list of Seen, in order.
    calls : how often each module was entered outside of recomputation, by name.
    outputs : of each module's each call, what it was given and what it gave (digests).
    rates : of modules with dropout code of their own: dropped, elements, draws, by name.
    ratios : of modules of dropout by hand: Ratio, one a call, by name.
    variances : what came to BatchNorms.
    scales : what kept elements are multiplied by, in any module.
    uses : what became of dropped tensors.
    everything : site -> p and the line of a call that drops everything.
    asleep : modules that were in evaluation mode when it began.
    switched : number of the entry into a module at which modes differed from the start, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rows: int = 0,
        axis: int = 0,
        others: tuple[int, ...] = (),
        compare: bool = False,
        stop_at: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = unwrapped(model)
        self.names = {m: names[0] for m, names in modules_by_name(self.model).items()}
        self.rows, self.axis, self.others = rows, axis, others
        self.compare, self.stop_at = compare, stop_at
        self.seen: list[Seen] = []
        self.calls: dict[str, int] = defaultdict(int)
        self.outputs: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        self.rates: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.ratios: dict[str, list[Ratio]] = defaultdict(list)
        self.variances, self.scales = Variances(), Scales()
        self.everything: dict[str, tuple[Any, str]] = {}
        self.switched: int | None = None
        self.error: Exception | None = None
        self._entries = 0
        self._frames: list[_Frame] = []
        self._busy = False
        self._handles: list[Any] = []
        self.uses = Uses(self._place, self._trains)
        self._hearing = Hearing(list(self.names), self._heard, self.uses)
        self._modes = [m.training for m in self.names]
        self.asleep = {m for m in self.names if not m.training}

    # ----------------------------------------------------------------------------- hooks, the clock

    def __enter__(self) -> Observer:
        hook: Any
        for module in self.names:
            if isinstance(module, torch.jit.ScriptModule):
                continue  # it takes no hooks: its draws are those of the module around it
            hook = module.register_forward_pre_hook(self._before, with_kwargs=True)
            self._handles.append(hook)
            hook = module.register_forward_hook(self._after, with_kwargs=True, always_call=True)
            self._handles.append(hook)
        clock = clock_of(self.model)
        if clock is not None:
            take = clock.take

            def noted(index: int, name: str, *how: Any) -> Any:
                drawn = take(index, name, *how)
                self._address(name, drawn)
                return drawn

            clock.__dict__["take"] = noted
        super().__enter__()
        self._hearing.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hearing.end()
        self.scales.finish()
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()
        clock = clock_of(self.model)
        if clock is not None:
            clock.__dict__.pop("take", None)
        self._frames.clear()

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._entries += 1
        if self.switched is None and [m.training for m in self.names] != self._modes:
            self.switched = self._entries
        if self.stop_at == self._entries:
            raise InterruptedForwardError
        name = self.names.get(module, "")
        # What a transform of torch.func has wrapped up has neither memory nor values to read.
        inputs = [] if in_transform() else tensors_in((args, kwargs))
        own = inputs[0] if inputs and is_by_hand(module) else None
        with self._aside():
            number = self.calls[name]
            if not _in_backward():
                self.calls[name] += 1
            frame = _Frame(module, name, number, own)
            frame.shape = tuple(inputs[0].shape) if inputs else None
            frame.memories = {memory_of(tensor) for tensor in inputs}
            if not self._frames:
                self.scales.inputs = frame.memories
            if self.compare:
                frame.given = _digest(inputs)
        self._frames.append(frame)

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not any(frame.module is module for frame in self._frames):
            return
        while (frame := self._frames.pop()).module is not module:
            pass
        if in_transform():
            return
        with self._aside():
            if self.compare:
                made = _digest(tensors_in(output))
                self.outputs[frame.name, frame.number] = (frame.given, made)
            if frame.draws and isinstance(module, (Sited, _DropIn)):
                plain = not module._modules and not module._parameters
                self.variances.drew(frame.draws[-1].site, tensors_in(output), plain)
            p = nominal_p(module) if is_by_hand(module) or isinstance(module, Sited) else None
            if p and module.training and isinstance(output, Tensor) and not _in_backward():
                self.uses.watch(
                    _first_of(args, kwargs), output, (frame.name, frame.name, _line(), p)
                )
            if frame.own is not None and isinstance(output, Tensor):
                self._ratio(frame.own, frame, output)
                if nominal_p(module) is not None:
                    self._rate(frame, output, frame.own != 0)

    def _ratio(self, x: Tensor, frame: _Frame, output: Tensor) -> None:
        """What kept elements are multiplied by, where that is one number for all of them."""
        if output.shape != x.shape or not x.is_floating_point() or _in_backward():
            return
        kept = (x != 0) & (output != 0)
        ratio = output[kept].double() / x[kept].double()
        close = 0.05 if x.element_size() < 4 else 1e-3
        if not ratio.numel() or bool((ratio.max() - ratio.min()) > close * ratio.abs().max()):
            return
        zero = (x != 0) & (output == 0)
        rows = zero.reshape(-1, zero.shape[-1]) if zero.dim() else zero.reshape(1, 1)
        parts = rows.any(-1) & (kept.reshape(rows.shape)).any(-1)
        share = ratio.numel() / max(1, int((x != 0).sum()))
        self.ratios[frame.name].append(
            Ratio(float(ratio.median()), share, x.numel(), bool(parts.any()))
        )

    def _rate(self, frame: _Frame, output: Tensor, nonzero: Tensor) -> None:
        draws = [seen for seen in frame.draws if seen.law in (SeenLaw.mask, SeenLaw.noise)]
        if len(draws) != 1 or output.shape != nonzero.shape or _in_backward():
            return
        shape = draws[0].shape
        if len(shape) != output.dim() or any(
            n not in (1, m) for n, m in zip(shape, output.shape, strict=True)
        ):
            return  # not one draw for each element or group of them: a law of its own
        rate = self.rates[frame.name]
        total = int(nonzero.sum())
        rate[0] += int((nonzero & (output == 0)).sum())
        rate[1] += total
        rate[2] += min(draws[0].drawn, total)

    # ------------------------------------------------------------------------------- the operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        # A gradient draws nothing; a recompute runs modules, or has gradients on.
        gradient = _in_backward() and not self._frames and not torch.is_grad_enabled()
        if self._busy or gradient:
            return out
        with self._aside():
            self.uses.touched(tensors_in((args, tuple(kwargs.values()))))
            self._operation(func, args, kwargs, out)
        return out

    def _aside(self) -> _Aside:
        return _Aside(self)

    def _operation(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        name = func._schema.name.split("::")[1].rstrip("_")
        drawn = read(func, args, kwargs, out)
        seen = None
        if drawn is not None and (drawn.law != SeenLaw.seed or self._innermost_is_ours()):
            seen = self._note(drawn)
        if func._overloadpacket in NORMALISING and self._frames and not _in_backward():
            frame = self._frames[-1]
            whole = isinstance(frame.module, nn.modules.batchnorm._NormBase)
            site = frame.name if whole else f"{frame.name}/batch_norm"
            self.variances.normalised(name, given_to(func, args, kwargs), site)
        self._follow(func, name, args, out, drawn, seen)

    def _innermost_is_ours(self) -> bool:
        return bool(self._frames) and isinstance(self._frames[-1].module, (Sited, _DropIn))

    def _heard(self, p: Any) -> None:
        """A call drops everything."""
        self.everything.setdefault(self._site("dropout"), (p, _line()))

    def _place(self) -> tuple[str, str, str]:
        """Where code runs: the site of a dropout there, the module, the line."""
        module = self._frames[-1].name if self._frames else ""
        return self._site("dropout"), module, _line()

    def _trains(self) -> bool:
        return bool(self._frames) and self._frames[-1].module.training

    def _site(self, what: str) -> str:
        if not self._frames:
            return ""
        frame = self._frames[-1]
        return frame.name if is_dropout(frame.module) else f"{frame.name}/{what}"

    def _note(self, drawn: Read) -> Seen | None:
        frame = self._frames[-1] if self._frames else None
        module = None if frame is None else frame.module
        if isinstance(module, Sited) and module.own_p == 0.0:
            return None
        noise = drawn.law == SeenLaw.noise and not (module is not None and is_dropout(module))
        site = self._site(drawn.what if noise else "dropout")
        axis = self._axis_of(module)
        same = (
            axis is not None
            and not noise
            and same_rows(drawn, axis, self.rows, self.others, *self._target(frame))
        )
        p = drawn.p
        if p is None and module is not None and is_dropout(module):
            p = nominal_p(module)
        seen = Seen(
            site,
            "" if frame is None else frame.name,
            _line(),
            drawn.what,
            drawn.law,
            p,
            constant=same,
            again=_in_backward(),
            in_module=frame is not None,
            **identified(drawn),
        )
        self.seen.append(seen)
        for above in self._frames:
            above.draws.append(seen)
        return seen

    def _target(self, frame: _Frame | None) -> tuple[Any, frozenset[tuple[int, ...]]]:
        """The shape of what a module of dropout drops; shapes of weights that may be dropped."""
        if frame is None:
            return None, frozenset()
        weights = frozenset(tuple(p.shape) for p in frame.module.parameters(recurse=False))
        return (frame.shape if is_dropout(frame.module) else None), weights

    def _axis_of(self, module: nn.Module | None) -> int | None:
        """Where the rows of a batch lie; None where draws are not meant to differ by row."""
        site = None if module is None else module.__dict__.get("site")
        if site is not None:
            return None if site.axis == NO_ROWS else int(site.axis)
        if isinstance(module, Sited):
            return None if module.batch_axis == NO_ROWS else int(module.batch_axis)
        # A thin layer's units are dropped for all rows together, on purpose.
        covers = () if module is None else covers_of(module)
        return None if any(isinstance(cover, SHARING) for cover in covers) else self.axis

    def _address(self, name: str, drawn: Any) -> None:
        """A site of an adopted model asked its clock where it stands."""
        moment, call = drawn
        frame = self._frames[-1] if self._frames else None
        words = (moment.seed, name, moment.step, call, moment.start)
        p = None if frame is None else nominal_p(frame.module)
        if p == 0.0:
            return
        identity = hashlib.blake2b(repr(words).encode(), digest_size=16).digest()
        module = "" if frame is None else frame.name
        self.seen.append(
            Seen(
                name, module, "", "address", SeenLaw.seed, p, identity=identity, chance=-19.0,
                again=_in_backward(), in_module=frame is not None,
            )
        )  # fmt: skip

    def _follow(
        self, func: Any, name: str, args: Any, out: Any, drawn: Read | None, seen: Seen | None
    ) -> None:
        drops = seen is not None and seen.p is not None and seen.law != SeenLaw.seed
        site = seen.site if seen is not None and drops else ""
        masked = seen is not None and seen.law in (SeenLaw.mask, SeenLaw.noise)
        self.variances.follow(func, name, args, out, (site, masked))
        if self._frames and not _in_backward():
            frame = self._frames[-1]
            line = _line() if name in ("mul", "where", "masked_fill") else ""
            told = None if drawn is None else (drawn, "" if seen is None else seen.site)
            self.scales.follow(func, name, args, out, told, frame.name, line, frame.memories)


class _Aside:
    """The observer's own operations, which are not the model's."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def __enter__(self) -> None:
        self.before, self.observer._busy = self.observer._busy, True
        self.grad = torch.no_grad()
        self.grad.__enter__()

    def __exit__(self, *_: Any) -> None:
        self.grad.__exit__(None, None, None)
        self.observer._busy = self.before


def _first_of(args: Any, kwargs: Any) -> Tensor | None:
    found = tensors_in((args, tuple(kwargs.values())))
    return found[0] if found else None


def _in_backward() -> bool:
    return bool(graph_task() >= 0)


def _digest(tensors: list[Tensor]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(repr(tuple(tensor.shape)).encode())
        if tensor.layout == torch.strided and not tensor.is_nested:
            # A copy: the storage of a tensor that NumPy has seen can no longer be resized.
            dense = tensor.detach().resolve_conj().resolve_neg().cpu().flatten().clone()
            found.update(dense.view(torch.uint8).numpy().data)
    return found.digest()


def _line() -> str:
    """The innermost line of a user's file: "net.py:14", or nothing."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path == _AUDIT:
            return ""
        if not path.startswith((*_OURS, "<frozen")):
            return f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
