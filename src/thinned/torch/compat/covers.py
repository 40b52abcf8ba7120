"""Covers: what lies over a module's forward, one on the other, and is lifted again.

A module's `forward`, among its own attributes, is a method bound to the cover on top; each cover
runs what lay there before it. Bound to a cover, and not to the module, it is pickled and copied
with the module, and Dynamo traces it. The module holds its covers as well, so that the function may
also be bound to the module itself, as libraries do that wrap `module.forward.__func__`.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from torch import nn

from thinned.torch.compat import torch_2_6

__all__ = ["Cover", "cover_behind", "covers_of", "uncovered"]

_HELD = "thinned_covers"
_REPLICATE = "_replicate_for_data_parallel"
_ORIGINAL = "_original_forward"  # where accelerate keeps what its precision wraps


class _Covers:
    """The covers of one module, the lowest first."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.laid: list[Cover] = []

    def __getstate__(self) -> dict[str, Any]:
        # A method of the module's own is pickled as its name, by which a module that is being
        # loaded has the forward of its class.
        forward = self.module.__dict__.get("forward")
        return {**self.__dict__, "named": getattr(forward, "__self__", None) is self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        named = state.pop("named")
        self.__dict__.update(state)
        if named:
            self.module.__dict__["forward"] = self.laid[-1].forward

    def replicate(self) -> nn.Module:
        """A replica of the module, by torch.nn.DataParallel, with covers of its own: those of the
        module would run the module."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        twins: dict[int, Any] = {id(cover): copy.copy(cover) for cover in self.laid}
        twins[id(self.module)] = replica

        def moved(method: Any) -> Any:
            twin = twins.get(id(getattr(method, "__self__", None)))
            return method if twin is None else types.MethodType(method.__func__, twin)

        held = _Covers(replica)
        for cover in self.laid:
            twin = twins[id(cover)]
            twin.module, twin.before = replica, moved(cover.before)
            held.laid.append(twin)
        state = replica.__dict__
        state[_HELD], state[_REPLICATE] = held, held.replicate
        if "forward" in state:
            state["forward"] = moved(state["forward"])
        return replica


@torch_2_6.forward_of_a_module
class Cover:
    """Something over a module's forward. A subclass says in `covered` what a call does; `run` runs
    what lies beneath.

    before : the forward that the module had of its own; None where it had that of its class.
    plain : whether that of its class is a plain function.
    original : what accelerate's precision wraps, where that is what lies beneath, and `before` once
        accelerate takes it away; else None.
    place : tells a module's covers apart, in functions that are bound to the module.
    """

    place = 0

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before: Callable[..., Any] | None = None
        self.original: Callable[..., Any] | None = None
        found = inspect.getattr_static(type(module), "forward")
        self.plain = isinstance(found, types.FunctionType)

    def __reduce__(self) -> Any:
        # The place first: what leads back here while this is loaded asks for the method.
        return _new, (type(self), self.place), self.__getstate__()

    @property
    def forward(self) -> types.MethodType:
        """The method that a module is given, as pickle finds it again."""
        return types.MethodType(_function(self.place), self)

    @property
    def signed(self) -> types.MethodType:
        """`forward` with the signature of the one beneath, which trainers read."""
        if self.plain and self.before is None:
            function = _of_class(type(self.module).forward, self.place)
        else:
            beneath = _bound(self.module) if self.before is None else self.before
            function = _signed(beneath, self.place, True)
            if any(cover.original is not None for cover in covers_of(self.module)):
                function.__dict__["__wrapped__"] = _unwrapping(self.place)
        return types.MethodType(function, self)

    def covered(self, args: Any, kwargs: Any) -> Any:
        """A call of the module's forward."""
        raise NotImplementedError

    def run(self, args: Any, kwargs: Any) -> Any:
        """A call of what lies beneath."""
        function, first = self.beneath()
        return function(*first, *args, **kwargs)

    def beneath(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What lies beneath: a function, and what it takes before the arguments of a call."""
        if self.before is not None:
            return self.before, ()
        if self.plain:
            return type(self.module).forward, (self.module,)
        return _bound(self.module), ()

    # ------------------------------------------------------------------------------ lay and lift

    def lay(self, beneath: Cover | None = None) -> None:
        """Put it on top of all that covers the module's forward, or right beneath another one."""
        state = self.module.__dict__
        if _HELD not in state:
            held = _Covers(self.module)
            forward = state.pop("forward", None)
            # In front of `forward`: what is loaded first.
            state.update({_HELD: held, _REPLICATE: held.replicate})
            if forward is not None:
                state["forward"] = forward
        laid = state[_HELD].laid
        self.place = max((cover.place for cover in laid), default=-1) + 1
        if beneath is None:
            self.before = state.get("forward")
            if cover_behind(self.before) is None:
                self.original = state.get(_ORIGINAL)
            laid.append(self)
            state["forward"] = self.signed
        else:
            self.before = beneath.before
            laid.insert(laid.index(beneath), self)
            beneath.before = self.signed

    @property
    def loose(self) -> bool:
        """Whether it can be lifted: it is on top or right beneath another cover, or other hands put
        a forward in the module's place that does not run it. What runs it, and is not ours, could
        not be told that it is gone."""
        forward, laid = self.module.__dict__.get("forward"), covers_of(self.module)
        top = cover_behind(forward)
        on_top = top in laid and laid.index(top) <= laid.index(self)
        return on_top or self._above() is not None or forward is None or _is_of_class(forward)

    def lift(self) -> None:
        """Take it away; what lay beneath, lies there as before. Only a loose one."""
        if _is_unwrapped(self.module.__dict__.get("forward")):
            _unwrap(self.module)
        state, above = self.module.__dict__, self._above()
        on_top = cover_behind(state.get("forward")) is self
        held: _Covers = state[_HELD]
        held.laid.remove(self)
        if above is not None:
            above.before = self.before
        elif on_top and self.before is not None:
            state["forward"] = self.before
        elif on_top:
            del state["forward"]
        if not held.laid:
            del state[_HELD], state[_REPLICATE]

    def _above(self) -> Cover | None:
        """The cover that runs this one, and no other hand's forward in between."""
        laid = covers_of(self.module)
        return next((cover for cover in laid if cover_behind(cover.before) is self), None)


def covers_of(module: nn.Module) -> list[Cover]:
    """What covers a module's forward, the lowest first, whatever other hands put in between."""
    held = module.__dict__.get(_HELD)
    return [] if held is None else list(held.laid)


def cover_behind(forward: Any) -> Cover | None:
    """The cover that a module's forward, or what lies beneath a cover, is the method of."""
    if not isinstance(forward, types.MethodType):
        return None
    owner, function = forward.__self__, forward.__func__
    if isinstance(owner, nn.Module) and getattr(function, "__code__", None) in _CODES:
        (place,) = function.__closure__ or ()
        return next((c for c in covers_of(owner) if c.place == place.cell_contents), None)
    return owner if isinstance(owner, Cover) else None


def uncovered(module: nn.Module, forward: Any) -> Any:
    """What is not ours of a module's forward: what lies beneath its covers, as a function of the
    class where there is nothing else."""
    while (cover := cover_behind(forward)) is not None:
        forward = cover.before
    return type(module).forward if forward is None else forward


def _bound(module: nn.Module) -> Callable[..., Any]:
    """The forward of a module's class where that is no plain function: a static method, a partial
    one, an object that decorates. Only the attribute's own way of binding knows what it takes."""
    kind = type(module)
    found = inspect.getattr_static(kind, "forward")
    bind = getattr(type(found), "__get__", None)
    bound: Callable[..., Any] = found if bind is None else bind(found, module, kind)
    return bound


def _is_of_class(forward: Any) -> bool:
    owner, function = getattr(forward, "__self__", None), getattr(forward, "__func__", None)
    return isinstance(owner, nn.Module) and function is type(owner).forward


def _new(kind: type[Cover], place: int) -> Cover:
    cover = object.__new__(kind)
    cover.place = place
    return cover


# ------------------------------------------------------------------------------------ the function


@cache
def _function(place: int) -> types.FunctionType:
    return _made(place)


def _made(place: int) -> types.FunctionType:
    def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        cover = self if isinstance(self, Cover) else _laid_at(self, place)
        return cover.covered(args, kwargs)

    return cast(types.FunctionType, forward)


def _unwrapping(place: int) -> types.FunctionType:
    """What accelerate comes to when it takes its precision away beneath a cover: it follows
    __wrapped__ to the end, and binds what stands there to the model."""

    def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        cover = _laid_at(self, place)
        _unwrap(self)
        self.__dict__["forward"] = cover.signed
        return cover.covered(args, kwargs)

    return cast(types.FunctionType, forward)


_CODES = (_made(0).__code__, _unwrapping(0).__code__)


def _is_unwrapped(forward: Any) -> bool:
    function = getattr(forward, "__func__", None)
    return getattr(function, "__code__", None) is _CODES[1]


def _unwrap(module: nn.Module) -> None:
    for cover in covers_of(module):
        if cover.original is not None:
            cover.before = None if _is_of_class(cover.original) else cover.original
            cover.original = None


def _laid_at(module: nn.Module, place: int) -> Cover:
    """What covers a module to which the function is bound, and not to a cover."""
    for cover in covers_of(module):
        if cover.place == place:
            return cover
    raise RuntimeError(
        f"thinned: the forward of this {type(module).__name__} was taken from it before release or "
        "remove_noise, and runs what they took away. Take module.forward anew."
    )


@cache
def _of_class(original: Callable[..., Any], place: int) -> types.FunctionType:
    """The function for all modules of a class, by which their programs in Dynamo are one."""
    return _signed(original, place)


def _signed(original: Callable[..., Any], place: int, bound: bool = False) -> types.FunctionType:
    signed = _made(place)
    try:
        signature = inspect.signature(original)
    except ValueError:  # compiled code, and some objects, say nothing of what they take
        return signed
    taken = signature.parameters
    # Binding takes one parameter away, and what is bound lacks it; but for a wrapper by
    # functools.wraps, which copied the signature of one of our functions.
    if bound and "self" not in taken:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[own, *taken.values()])
    signed.__dict__["__signature__"] = signature
    return signed
