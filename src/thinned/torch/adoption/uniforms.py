"""Numbers of which the model's own code makes gates, drawn at a site's address."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch.internals import break_graph, seen_in_programs
from thinned.methods.draws import NO_P, Draws
from thinned.torch.adoption.gates import GATES, GAUSSIAN, Gate, gate_at
from thinned.torch.adoption.site import Site
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.dtensor import is_sharded, on_shards
from thinned.torch.compat.shard import Shard

__all__ = [
    "ABOVE",
    "BELOW",
    "asked_for",
    "decided_for",
    "draws_for_itself",
    "gate_here",
    "gate_of_call",
    "numbers_at",
    "see_draws",
    "uniform_filled",
]

# Uniform numbers above, and below, every rate that drops and keeps.
ABOVE, BELOW = 1.0 - 2.0**-24, 0.0

# Where a module's mode hands on what it leaves to PyTorch: those of the modules around see it too.
_HANDING = "thinned.torch.adoption.functional_calls"

# Those that are no methods of tensors: modes see methods in any program.
_FUNCTIONS = tuple(func for func in GATES if not hasattr(Tensor, GATES[func]))

# Bits of a number that torch.rand draws in these types: as many as make it below 1.
_BITS = {torch.float16: 11, torch.bfloat16: 8}


def _caller() -> types.FrameType:
    """The frame of the code that called a function which a mode sees, other modes left out."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "__torch_function__":
        frame = frame.f_back
    while frame.f_back is not None and frame.f_code.co_name == "__torch_function__":
        frame = frame.f_back
    return frame


def gate_of_call(site: Site, func: Any, kwargs: dict[str, Any]) -> Gate | None:
    """What the code makes of the numbers that it draws by this call; None where that is no gate, or
    the numbers come from a generator of its own."""
    if draws_for_itself(kwargs):
        return None
    name = GATES[func]
    if torch.compiler.is_compiling():
        if site.clock.handing:
            return None
        # No frame can be looked at while a program is traced. What counts is what the module's code
        # was read, and seen, to make of such numbers.
        made = site.gates.get(name, ())
        if len(made) > 1:
            break_graph()
        return next(iter(made), None)
    gate = gate_here(func)
    if gate not in site.gates.get(name, ()):
        site.gates[name] = frozenset((*site.gates.get(name, ()), gate))
    return gate


def draws_for_itself(kwargs: dict[str, Any]) -> bool:
    """Whether a call draws from a generator of its own, or into an array that it brings."""
    return kwargs.get("generator") is not None or kwargs.get("out") is not None


def gate_here(func: Any) -> Gate | None:
    """The same of the call that a mode sees now, in eager code."""
    frame = _caller()
    home = str(frame.f_globals.get("__name__"))
    if home == _HANDING or home.startswith("torch."):  # torch.distributions and its like
        return None
    return gate_at(frame.f_code, frame.f_lasti, GATES[func])


def _see_draws() -> None:
    if not all(map(seen_in_programs, _FUNCTIONS)):
        raise RuntimeError(
            f"thinned: torch.compile of PyTorch {torch.__version__} shows nobody the calls of "
            "torch.rand and its kin, of which this model makes a mask: it would not be drawn at "
            "its address. Put thinned.torch.DropPath there, or run the model without torch.compile."
        )


# A constant to Dynamo, which runs it while it traces.
see_draws: Callable[[], None] = torch.compiler.assume_constant_result(_see_draws)


def asked_for(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, torch.dtype] | None:
    """An empty tensor of the shape and on the device that torch.rand and its kin are asked for, and
    the type; None where that is not one of plain floating numbers."""
    plain = (None, False, torch.strided, torch.preserve_format)
    known = ("size", "dtype", "device", "input", "from", "to")
    if any(value not in plain for name, value in kwargs.items() if name not in known):
        return None
    dtype = kwargs.get("dtype")
    if func in (torch.rand, torch.randn):
        size: Any = kwargs.get("size", args)
        if len(size) == 1 and isinstance(size[0], (tuple, list)):
            size = size[0]
        like = torch.empty(tuple(size), dtype=torch.float32, device=kwargs.get("device"))
        dtype = dtype or torch.get_default_dtype()
    else:
        x = args[0] if args else kwargs["input"]
        like = torch.empty_like(x, dtype=torch.float32, device=kwargs.get("device"))
        dtype = dtype or x.dtype
    return (like, dtype) if dtype.is_floating_point else None


def numbers_at(site: Site, gate: Gate, func: Any, like: Tensor, dtype: torch.dtype) -> Tensor:
    """What a function is to return, drawn at the site's next call, of the shape of `like`. Of
    uniform numbers, which lie in [0, 1), those below p are what p drops."""
    gaussian = func in GAUSSIAN

    def drawn(part: Tensor, shard: Shard | None) -> Tensor:
        numbers = _drawn(site, gate, part, shard, gaussian)
        return numbers.to(dtype) if gaussian else _typed(numbers, dtype)

    return on_shards(like, drawn) if is_sharded(like) else drawn(like, None)


def decided_for(site: Site) -> float | None:
    """The number by which code is to decide for the whole batch, where it is only looked who draws
    on either way; None where it is drawn."""
    awake = site.clock.awake
    if awake is None or awake.decided is None:
        return None
    awake.decides = True
    return awake.decided


def _drawn(site: Site, gate: Gate, like: Tensor, shard: Shard | None, gaussian: bool) -> Tensor:
    shape, axis = tuple(like.shape), site.axis if gate.rows else NO_ROWS
    alone = not shape or (gate.one and math.prod(shape) == 1)
    if alone:
        # One number decides for the whole batch which way the code goes: every process and every
        # piece of the batch has to go the same way, also where processes draw masks of their own.
        like, axis, shard = like.reshape(1), NO_ROWS, Shard((0,), (1,), True)
    at, window, _ = site.located(tuple(like.shape), axis, shard)
    decided = decided_for(site) if alone else None
    if decided is not None:
        return uniform_filled(like.reshape(shape), decided, like.dtype)
    draws = Draws("rand", like, NO_P, at, True, window)
    numbers: Tensor = draws.gaussian() if gaussian else draws.uniform()
    return numbers.reshape(shape) if alone else numbers


def uniform_filled(like: Tensor, number: float, dtype: torch.dtype) -> Tensor:
    """Uniform numbers that are all the same."""
    return _typed(torch.full_like(like, number), dtype)


def _typed(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """In another type, below 1 as well."""
    bits = _BITS.get(dtype)
    if bits is not None:
        numbers = torch.floor(numbers * 2.0**bits) * 2.0**-bits
    return numbers.to(dtype)
