"""What one operation of PyTorch draws: read by a dispatch mode, beneath every module and function.

torch.nn's dropout, its functional calls, attention and recurrent layers all end in `bernoulli_` on
the CPU; ours end in operators whose mask can be drawn again, because it has an address.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinned.backends.torch import wire
from thinned.backends.torch.address import draw_values
from thinned.backends.torch.operators import GAUSSIAN, GRADIENT, NOISED

__all__ = ["LIKELY", "Read", "Seen", "SeenLaw", "given_to", "identified", "read", "same_rows"]

# log10 of the chance below which two equal masks are no accident.
LIKELY = -9.0

# How many elements of two masks of different sizes are compared.
_HEAD = 256


class SeenLaw:
    """What is known of a draw: keep bits, numbers, an address or seed alone, or nothing of it."""

    mask, noise, seed, hidden = "mask", "noise", "seed", "hidden"


@dataclass(frozen=True)
class Read:
    """What an operation drew. values: True where kept, or numbers; length 1 along shared axes."""

    what: str
    law: str
    p: float | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """A draw with its place, and of its values only what is compared.

    chance : log10 of the chance that another draw of this law is equal to it.
    constant : whether every row of the batch has the same draws.
    again : whether a backward pass drew it, to recompute.
    """

    site: str
    module: str
    line: str
    what: str
    law: str
    p: float | None
    shape: tuple[int, ...] = ()
    identity: bytes = b""
    head: bytes = b""
    drawn: int = 0
    dropped: int = 0
    chance: float = 0.0
    constant: bool = False
    again: bool = False
    in_module: bool = True


def read(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Read | None:
    """What `func` drew when it gave `out`; None where it drew nothing, or drops with p = 0."""
    if func.namespace == "thinned":
        return _ours(func, args, kwargs, out)
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None
    name = func._schema.name.split("::")[1].rstrip("_")
    given = given_to(func, args, kwargs)
    if name == "bernoulli":
        return _bernoulli(given, out)
    if name == "native_dropout":
        p = float(given["p"])
        idle = given.get("train") is False or p == 0.0
        return None if idle else Read("native_dropout", SeenLaw.mask, p, out[1].bool())
    for key in ("dropout_p", "dropout"):
        if key in given:  # attention, or a recurrent network, in one piece
            p = float(given[key])
            idle = p == 0.0 or given.get("train") is False
            return None if idle else Read(name, SeenLaw.hidden, p)
    if given.get("training") is False:
        return None
    first = out[0] if isinstance(out, (tuple, list)) and out else out
    if not isinstance(first, Tensor) or not first.numel():
        return None
    if first.dim() == 0 and not first.is_floating_point():
        return Read(name, SeenLaw.seed, values=first)
    if not first.is_floating_point() and first.numel() < 32:
        return None  # a few integers may well be equal
    return Read(name, SeenLaw.noise, values=first)


def given_to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by its name, those left out with their defaults."""
    declared = func._schema.arguments
    left_out = {one.name: one.default_value for one in declared if one.has_default_value()}
    named = dict(zip((one.name for one in declared), args, strict=False))
    return {**left_out, **named, **kwargs}


def _bernoulli(given: dict[str, Any], out: Tensor) -> Read | None:
    keep = given["p"] if given.get("p") is not None else given["self"]
    if isinstance(keep, Tensor):
        keep = float(keep.double().mean()) if keep.numel() else 0.0
    p = 1.0 - float(keep)
    if not 0.0 < p < 1.0 or not out.numel():
        return None  # nothing is drawn
    return Read("bernoulli", SeenLaw.mask, p, out.bool())


def _ours(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Read | None:
    name = func._schema.name.split("::")[1]
    given = given_to(func, args, kwargs)
    if name == "dropout":
        x, threshold, strides = given["x"], int(given["threshold"]), given["strides"]
        again = func(torch.ones_like(x), given["seed"], threshold, 1.0, strides)
        return _kept("dropout", threshold, again != 0, strides)
    if name == "noised":
        return _noised(given)
    if name == "attention":
        return _attended(given)
    if name == "drawn":
        if given["law"] == "mask":
            p = int(given["threshold"]) / 2**32
            return None if p in (0.0, 1.0) else Read("drawn", SeenLaw.mask, p, out)
        return Read("drawn", SeenLaw.noise, values=out)
    return None


def _noised(given: dict[str, Any]) -> Read | None:
    if given["law"] == GRADIENT:  # draws in the backward pass
        return None
    threshold = given["rate"][:1]
    rate, ones = torch.cat([threshold, threshold.new_ones(1)]), torch.ones_like(given["x"])
    again = NOISED(ones, given["words"], rate, 0.0, given["mirror"], given["law"])
    draw = wire.read(given["words"], threshold.item(), ones.shape, given["mirror"])
    strides = draw.place.strides
    if given["law"] == GAUSSIAN:
        return Read("gaussian", SeenLaw.noise, values=_single(again, strides))
    return _kept("dropout", int(threshold), again != 0, strides)


def _attended(given: dict[str, Any]) -> Read | None:
    """The mask of the weights, which attention itself never has as a whole."""
    q, k, threshold = given["q"], given["k"], int(given["rate"][0])
    if threshold in (0, 2**32):
        return None
    draw = wire.read(given["words"], threshold, (*q.shape[:-1], k.shape[-2]), given["mirror"])
    keep = _single(draw_values(draw, "mask", q), draw.place.strides)
    return Read("attention", SeenLaw.mask, threshold / 2**32, keep)


def _kept(what: str, threshold: int, keep: Tensor, strides: Any) -> Read | None:
    p = threshold / 2**32
    return None if p in (0.0, 1.0) else Read(what, SeenLaw.mask, p, _single(keep, strides))


def _single(values: Tensor, strides: Any) -> Tensor:
    """One of the elements that share a draw: those along axes whose stride is 0."""
    for axis, stride in enumerate(strides):
        if int(stride) == 0:
            values = values.narrow(axis, 0, min(1, values.shape[axis]))
    return values


def identified(read: Read) -> dict[str, Any]:
    """The fields of `Seen` that say which draw it was. Equal draws have equal ones."""
    values = read.values
    if values is None:
        return {}
    shape, n = tuple(values.shape), values.numel()
    # A copy: the storage of a tensor that NumPy has seen can no longer be resized.
    array = values.detach().cpu().clone(memory_format=torch.contiguous_format)
    if read.law == SeenLaw.mask:
        bits = np.packbits(array.numpy().reshape(-1))
        raw, head = bits.tobytes(), bits[: _HEAD // 8].tobytes()
        dropped = n - int(array.sum())
    else:
        # bfloat16 has no counterpart in NumPy; its bytes have.
        raw = array.reshape(-1).view(torch.uint8).numpy().tobytes()
        head, dropped = raw[: _HEAD * array.element_size()], 0
    return {
        "shape": shape,
        "identity": hashlib.blake2b(raw, digest_size=16).digest(),
        "head": head if n >= _HEAD else b"",
        "drawn": n,
        "dropped": dropped,
        "chance": _chance(read, n),
    }


def _chance(read: Read, n: int) -> float:
    if read.law == SeenLaw.mask and read.p is not None:
        return n * math.log10(read.p**2 + (1.0 - read.p) ** 2)
    return (
        -19.0 if read.law == SeenLaw.seed else -2.0 * n
    )  # bfloat16 tells a hundred uniforms apart


def same_rows(
    read: Read,
    axis: int,
    rows: int,
    others: tuple[int, ...] = (),
    onto: tuple[int, ...] | None = None,
    weights: frozenset[tuple[int, ...]] = frozenset(),
) -> bool:
    """Whether every row of a batch of `rows` has the same draws. False where it cannot be told.

    others : lengths of an axis that may be the batch as well, in sequences with time in front.
    onto : the shape of what is dropped, where it is known.
    weights : shapes of weights that may be what is dropped.
    """
    values = read.values
    if (
        values is None
        or rows < 2
        or values.numel() < 2
        or read.law not in (SeenLaw.mask, SeenLaw.noise)
    ):
        return False
    shape = tuple(values.shape)
    if len(shape) > axis and shape[axis] > 1 and shape[axis] % rows == 0:
        first = values.narrow(axis, 0, 1)
        expected = _chance(read, values.numel() - first.numel())
        return expected < LIKELY and bool((values == first).all())
    if len(shape) == 1:
        if onto is not None:
            return len(onto) > 1 and axis == 0 and onto[0] == rows
        return read.law == SeenLaw.mask and bool(shape[0] % rows) and shape[0] not in others
    if len(shape) <= axis or shape[axis] != 1 or shape in weights:
        return False
    # Time stands in front, or fused attention has put an axis of its own there.
    in_front = axis == 0 and len(shape) > 2 and (shape[1] == rows or shape[1] in others)
    # Of pictures, of which as many channels as rows may be, the first axis is that of the rows.
    pictures = onto is not None and len(onto) > 3 and onto[0] == rows
    return pictures or not in_front
