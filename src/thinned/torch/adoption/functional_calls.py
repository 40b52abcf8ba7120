"""Functional calls: F.dropout and its kin, as an adopted module's own code makes them.

A module with code of its own is given a forward that runs the old one under a mode, which sees
every function of PyTorch that is called there. A module inside it has a mode of its own, so that
the innermost module names the site.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode

from thinned import checks
from thinned.backends.torch.internals import is_compiled, seen_in_programs
from thinned.backends.torch.values import inlined
from thinned.methods.draws import Draws
from thinned.torch.adoption import attention, recurrent, watching
from thinned.torch.adoption.gates import BERNOULLI, GATES
from thinned.torch.adoption.site import Site
from thinned.torch.adoption.uniforms import (
    asked_for,
    decided_for,
    gate_of_call,
    numbers_at,
    see_draws,
)
from thinned.torch.clock import checkpoints
from thinned.torch.clock.attempts import attempted
from thinned.torch.clock.checkpoints import Running
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.reading import HEAD
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.arrays_in_graphs import as_written
from thinned.torch.compat.covers import Cover
from thinned.torch.compat.dtensor import is_sharded
from thinned.torch.compat.recording import require_no_proxy

__all__ = [
    "PLACES",
    "REACHED",
    "AdoptedForward",
    "Calls",
    "EncoderForward",
    "is_awake",
    "p_of_call",
    "quietly",
    "taken",
    "with_p",
    "without_p",
]

# The function of PyTorch -> the kind of dropout. torch's own names take `train`, functional's
# `training`; both stand third.
_KINDS: dict[Any, str] = {
    functional.dropout: "dropout",
    functional.dropout1d: "dropout1d",
    functional.dropout2d: "dropout2d",
    functional.dropout3d: "dropout3d",
    functional.alpha_dropout: "alpha_dropout",
    functional.feature_alpha_dropout: "feature_alpha_dropout",
    torch.dropout: "dropout",
    torch.alpha_dropout: "alpha_dropout",
    torch.feature_alpha_dropout: "feature_alpha_dropout",
    torch.feature_dropout: "feature_dropout",
    torch.dropout_: "dropout",
    torch.alpha_dropout_: "alpha_dropout",
    torch.feature_alpha_dropout_: "feature_alpha_dropout",
    torch.feature_dropout_: "feature_dropout",
}
for _name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    _packet = getattr(torch.ops.aten, _name)
    _KINDS[_packet] = _KINDS[_packet.default] = _name
# What also returns where it kept.
_native = torch.ops.aten.native_dropout
_WITH_MASK = (torch.native_dropout, _native, _native.default)
_KINDS.update(dict.fromkeys(_WITH_MASK, "dropout"))
# torch.nn.functional's say `training` where torch's own say `train`.
_TRAINING = tuple(f for f in _KINDS if getattr(functional, f.__name__, None) is f)
_IN_PLACE = (
    torch.dropout_,
    torch.alpha_dropout_,
    torch.feature_alpha_dropout_,
    torch.feature_dropout_,
)
# Without `training` these do nothing, and the others drop.
_AWAKE_IF_TOLD = (functional.alpha_dropout, functional.feature_alpha_dropout)

# Functions that draw numbers into the tensor that they are given.
_FILLING = (Tensor.uniform_, Tensor.normal_)

# Every function that is reached here, and where its p stands: by position and by name. Recurrent
# networks have it one place further on where the sequence is packed; bernoulli_ takes 1 - p.
PLACES: dict[Any, tuple[int, str]] = {
    **dict.fromkeys(_KINDS, (1, "p")),
    **dict.fromkeys(recurrent.KINDS, (5, "dropout")),
    functional.scaled_dot_product_attention: (4, "dropout_p"),
    functional.multi_head_attention_forward: (10, "dropout_p"),
    Tensor.bernoulli_: (1, "p"),
}
# All that a module's mode handles: it sees every function of PyTorch, the shape of a tensor too.
_MET: dict[Any, None] = dict.fromkeys((*PLACES, *GATES))
# The names under which source code calls what is reached here.
REACHED = frozenset(f.__name__.partition(".")[0] for f in PLACES)


def _place(func: Any, args: tuple[Any, ...]) -> tuple[int, str]:
    place, name = PLACES[func]
    packed = func in recurrent.KINDS and not isinstance(args[3], bool)
    return place + packed, name


def with_p(p: float, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of PLACES, other than bernoulli_, returns with another p."""
    return _called(func, args, kwargs, *_place(func, args), p)


def without_p(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of PLACES returns where p = 0: nothing is drawn or dropped."""
    if func is Tensor.bernoulli_:
        return args[0].fill_(1)
    if func in _WITH_MASK:  # which draws with p = 0 too
        return quietly(func, args, kwargs)
    return with_p(0.0, func, args, kwargs)


def quietly(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of PLACES, other than bernoulli_, returns in evaluation."""
    if func is functional.multi_head_attention_forward:
        return _called(func, args, kwargs, 13, "training", False)
    if func in _KINDS:
        name = "training" if func in _TRAINING else "train"
        return _called(func, args, kwargs, 2, name, False)
    return with_p(0.0, func, args, kwargs)


def _called(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, value: Any
) -> Any:
    """What a function returns with another value for the argument of this place and name."""
    if len(args) > place:
        return func(*args[:place], value, *args[place + 1 :], **kwargs)
    return func(*args, **{**kwargs, name: value})


def p_of_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The p that a call of a function of PLACES was given, as it came; None where none was."""
    place, name = _place(func, args)
    return args[place] if len(args) > place else kwargs.get(name)


def is_awake(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of a function of PLACES drops, as far as its mode says."""
    if func in recurrent.KINDS:
        return _drops_between_layers(args)
    if func is functional.multi_head_attention_forward:
        return bool(args[13] if len(args) > 13 else kwargs.get("training", True))
    if func in _KINDS:
        told = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train"))
        return bool(func not in _AWAKE_IF_TOLD if told is None else told)
    return True


class Calls(TorchFunctionMode):
    """Draws at `site` for every function that drops. own: the site's p, not the call's."""

    def __init__(self, site: Site, own: bool) -> None:
        super().__init__()
        self.site, self.own = site, own

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _MET:
            if args and isinstance(args[0], np.ndarray):
                return as_written(func, *args, **kwargs)
            return func(*args, **kwargs)
        if func in _KINDS:
            return self._dropout(func, *args, **kwargs)
        awake = self.site.clock.awake
        if func is functional.scaled_dot_product_attention:
            if awake is None:
                return self._attention(*args, **kwargs)
            with watching.innermost() as first:
                if first and (len(args) > 4 or "dropout_p" in kwargs):
                    p = kwargs["dropout_p"] if "dropout_p" in kwargs else args[4]
                    awake.told(self.site, "scaled_dot_product_attention was given dropout_p=0", p)
                return self._attention(*args, **kwargs)
        if func is functional.multi_head_attention_forward and (
            awake is not None or kwargs.get("training", True)
        ):
            p = self._p("dropout", args[10])
            if isinstance(p, Tensor) or p != 0.0:
                require_no_proxy(args[0], self.site.name)
                return attention.multi_head(self.site, p, *args, **kwargs)
        if func in recurrent.KINDS:
            drops = _drops_between_layers(args)
            if drops:
                require_no_proxy(args[0], self.site.name)
            if drops or (func is torch.lstm and torch.compiler.is_compiling()):
                return recurrent.layers(self.site if drops else None, func, args)
        if func is Tensor.bernoulli_ and kwargs.get("generator") is None:
            return self._bernoulli(*args, **kwargs)
        if func in GATES:
            return self._gate(func, args, kwargs)
        return func(*args, **kwargs)

    def _p(self, who: str, p: Any) -> Any:
        """The p that a call was given; None for the site's own, which is the module's, or that of a
        schedule. A call with p = 0 drops nothing whatever the schedule says."""
        if self.own:
            return None
        if type(p) is not float or not 0.0 <= p <= 1.0:  # the common case needs no more checks
            p = _checked(who, p)
        follows = self.site.rule is not None and (isinstance(p, Tensor) or p != 0.0)
        return None if follows else p

    def _drawing(self, x: Any) -> None:
        """Before a functional call draws for x."""
        site = self.site
        if type(x) is not Tensor:
            require_no_proxy(x, site.name)
        if not torch.compiler.is_compiling():
            covered = AdoptedForward.covered.__code__
            checkpoints.require_seen_again(site.clock, site.index, site.name, covered)

    def _dropout(
        self,
        func: Any,
        input: Tensor,
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
        train: bool | None = None,
    ) -> Any:
        if training is None:
            training = train if train is not None else func not in _AWAKE_IF_TOLD
        if not training and self.site.clock.awake is None:
            return func(input, p, False)
        self._drawing(input)
        given = self._p("dropout", p)
        if given is not None and self.site.clock.awake is not None:
            self.site.clock.awake.told(self.site, f"{_KINDS[func]} was given p=0", given)
        if func in _WITH_MASK:
            return self._with_mask(input, given)
        return self.site.draw(input, _KINDS[func], inplace or func in _IN_PLACE, given)

    def _with_mask(self, x: Tensor, p: Any) -> tuple[Tensor, Tensor]:
        """x dropped, bit for bit as dropout leaves it, and where it was kept."""
        exact = torch.promote_types(x.dtype, torch.float32)
        kept = self.site.draw(torch.ones_like(x, dtype=exact), p=p)
        mask = kept != 0
        return torch.where(mask, (x * kept).to(x.dtype), 0.0), mask

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **other: Any,
    ) -> Any:
        p = self._p("scaled_dot_product_attention", dropout_p)
        if not isinstance(p, Tensor) and p == 0.0:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, **other
            )
        self._drawing(query)
        return attention.attend(self.site, p, query, key, value, attn_mask, is_causal, **other)

    def _bernoulli(self, x: Tensor, p: Any = 0.5, *, axis: int | None = None, **_: Any) -> Tensor:
        """Stochastic depth as timm and torchvision write it: a gate drawn into a fresh tensor."""
        self._drawing(x)
        if isinstance(p, Tensor) and p.dim() == 0 and not torch.compiler.is_compiling():
            p = p.item()
        if isinstance(p, Tensor):
            return x.copy_(self._each(x, p, axis))
        if not x.is_floating_point():
            return x.copy_(self._bernoulli(torch.empty_like(x, dtype=torch.float32), p, axis=axis))
        # Kept elements of a tensor of ones are 1 / p > 0; p is here the probability to keep.
        kept = self.site.draw(torch.ones_like(x), p=1.0 - p, axis=axis)
        decided = decided_for(self.site) if not x.dim() else None
        return x.copy_(kept > 0) if decided is None else x.fill_(decided > 0.5)

    def _gate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Numbers of which the code that draws them may make gates."""
        gate = gate_of_call(self.site, func, kwargs)
        if gate is not None and func in BERNOULLI:
            return self._gates_of(gate.rows, *args, **kwargs)
        asked = None if gate is None else asked_for(func, args, kwargs)
        if gate is not None and asked is not None:
            self._drawing(asked[0])
            numbers = numbers_at(self.site, gate, func, *asked)
            return args[0].copy_(numbers) if func in _FILLING else numbers
        if not torch.compiler.is_compiling():
            return func(*args, **kwargs)
        clock = self.site.clock
        clock.handing, before = True, clock.handing
        try:
            return func(*args, **kwargs)
        finally:
            clock.handing = before

    def _gates_of(self, rows: bool, input: Tensor, p: Any = None, **_: Any) -> Tensor:
        """torch.bernoulli: of a probability for each, or of one for all."""
        gates = torch.empty_like(input)
        return self._bernoulli(gates, input if p is None else p, axis=None if rows else NO_ROWS)

    def _each(self, x: Tensor, p: Tensor, axis: int | None) -> Tensor:
        """Where a gate is open whose elements have a probability each."""
        if is_sharded(x) or is_sharded(p):
            raise NotImplementedError(
                "thinned: bernoulli_ with a tensor of probabilities cannot be drawn for a DTensor. "
                "Pass a number, or keep the gate a plain tensor."
            )
        like = torch.empty_like(x, dtype=torch.float32)
        at, window, _ = self.site.located(tuple(x.shape), axis)
        uniform: Tensor = Draws("bernoulli_", like, 0.5, at, True, window).uniform()
        return uniform < p


class WatchingCalls(Calls):
    """The same in a module's first training forward, where draws that are not reached are noted."""

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():  # a function that the forward calls is compiled
            return super().__torch_function__(func, types, args, kwargs)
        with watching.innermost() as first:
            if first and not self._reaches(func, args, kwargs):
                noticed = self.site.clock.noticed
                watching.saw(noticed, self.site.name, func, kwargs, sys._getframe(1))
            return super().__torch_function__(func, types, args, kwargs)

    def _reaches(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this is a draw of which a gate is made, at the site's address."""
        return func in GATES and gate_of_call(self.site, func, kwargs) is not None


def _has_compiled_parts(module: nn.Module) -> bool:
    """Whether torch.compile was given a module, or its forward, in this one."""
    return any(
        part._compiled_call_impl is not None
        or is_compiled(part)
        or hasattr(part.forward, "_torchdynamo_orig_callable")
        for part in module.modules()
    )


def _see_in_place() -> None:
    for func in _IN_PLACE:
        seen_in_programs(func)


# A constant to Dynamo, which runs it while it traces.
_see_in_place = torch.compiler.assume_constant_result(_see_in_place)


def _see_all(site: Site) -> None:
    """In a program of Dynamo: have it show modes what it hides from them by itself, as eager code
    does not. PyTorch would draw, and nobody would know."""
    _see_in_place()
    if site.gates:
        see_draws()


def _drops_between_layers(args: tuple[Any, ...]) -> bool:
    """Whether a recurrent network of these arguments drops: p > 0, training, several layers."""
    count, p, training = args[4:7] if isinstance(args[3], bool) else args[5:8]
    return bool(count > 1 and p > 0.0 and training)


def _checked(who: str, p: Any) -> Any:
    """The p of a call. A tensor whose value a compiler cannot know is looked at when it is run."""
    if isinstance(p, Tensor) and torch.compiler.is_compiling():
        return p
    return taken(who, p)


def taken(who: str, p: Any, name: str = "p") -> float:
    """The p that PyTorch was given, as a float: it takes True for 1, as a number or in an array."""
    if type(p) is not float:
        p = p.item() if getattr(p, "shape", None) == () and hasattr(p, "item") else p
        p = float(p) if isinstance(p, bool) else p
    return checks.probability(who, p, name)


class AdoptedForward(Cover):
    """The forward of a module in an adopted model: the one that was there, its calls addressed.

    site : Site or None. None only begins the counting in compiled graphs, see `Clock.live`.
    watched : whether the first training forward was, see `watching`.
    """

    def __init__(
        self, module: nn.Module, clock: Clock, site: Site | None, own: bool = False
    ) -> None:
        super().__init__(module)
        self.clock, self.site, self.own = clock, site, own
        self.watched = clock.noticed is None
        self.calls = None if site is None else Calls(site, own)
        # Whether a program may call what lies beneath without going through `run`.
        self._runs_beneath = type(self).run is Cover.run

    def covered(self, args: Any, kwargs: Any) -> Any:
        # In one function: Dynamo leaves it to eager code as a whole where its graph breaks within,
        # and takes a dozen of its thousand frames for each that it follows.
        clock, training = self.clock, self.module.training
        quiet = self.site is None or (clock.awake is None and not training)
        function, first = self.beneath() if self._runs_beneath else (self._run, ())
        if not torch.compiler.is_compiling():
            run = function if quiet else partial(self._addressed, function)
            if clock.awake is None:
                return attempted(run, first + args, kwargs)
            with clock.awake.forward():
                return attempted(run, first + args, kwargs)
        begins = clock.live is None and clock.awake is None and training
        if quiet and not begins:
            return function(*first, *args, **kwargs)
        if begins:
            clock.live = clock.snapshot()
        after = clock.counts  # if this fails
        try:
            if quiet:
                result = function(*first, *args, **kwargs)
            else:
                site: Any = self.site
                _see_all(site)
                with Calls(site, self.own):
                    result = function(*first, *args, **kwargs)
            if begins:
                assert clock.live is not None
                after = clock.live[HEAD:].clone()
            return result
        finally:
            if begins:
                clock.counts, clock.live = after, None

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(args, kwargs)

    def _addressed(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        site: Any = self.site
        if torch.compiler.is_compiling():  # by itself, where the function that calls it was not
            _see_all(site)
            with Calls(site, self.own):
                return function(*args, **kwargs)
        if not self.watched and self.clock.awake is None:
            return self._first(site, function, args, kwargs)
        calls: Any = self.calls
        with calls, Running((self.clock.number, site.index), calls):
            return function(*args, **kwargs)

    def _first(self, site: Site, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # A program depends on the mode: compiled parts would be compiled for each of the two.
        kind = Calls if _has_compiled_parts(self.module) else WatchingCalls
        if site.gates and "torch._dynamo" in sys.modules:
            see_draws()
        calls = kind(site, self.own)
        with (
            watching.watched(self, self.clock.noticed, site.name),
            calls,
            Running((self.clock.number, site.index), calls),
        ):
            return function(*args, **kwargs)


class EncoderForward(AdoptedForward):
    """The forward of one of torch.nn's transformer encoders, in evaluation with a part awake.

    PyTorch then has a fused form of the whole layer, which asks the layer's own flag and no other:
    dropout that was switched on inside it would draw nothing, in silence. Under any mode that sees
    functions it goes the plain way.
    """

    def covered(self, args: Any, kwargs: Any) -> Any:
        if self.module.training or not any(part.training for part in self.module.modules()):
            return super().covered(args, kwargs)
        with BaseTorchFunctionMode():
            return super().covered(args, kwargs)
