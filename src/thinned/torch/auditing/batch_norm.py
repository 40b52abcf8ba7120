"""What comes to each BatchNorm that keeps statistics: its variance, and whose noise is in it.

A dropped tensor is known by its memory: directly, until something else than an elementwise function
makes another of it; and through all functions, as what the noise of a site has reached.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

__all__ = ["ELEMENTWISE", "NORMALISING", "Variances", "memory_of", "tensors_in"]

# What makes a dropped tensor of a dropped tensor, or of a mask.
ELEMENTWISE = frozenset(
    [
        "mul",
        "div",
        "where",
        "masked_fill",
        "clone",
        "_to_copy",
        "floor",
        "lt",
        "gt",
        "le",
        "ge",
        "logical_not",
        "bitwise_not",
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "mish",
        "tanh",
        "sigmoid",
        "hardtanh",
        "hardswish",
        "threshold",
    ]
)
# Operations that normalise by the batch, and have no flag of the mode.
_ALWAYS = frozenset({"_batch_norm_with_update", "batch_norm_stats"})
_BY_FLAG = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
    "miopen_batch_norm",
)
# By their packets: an operation that this PyTorch lacks cannot run.
NORMALISING = frozenset(
    getattr(torch.ops.aten, name) for name in (*_ALWAYS, *_BY_FLAG) if hasattr(torch.ops.aten, name)
)


class Variances:
    """Of one run.

    Attributes
    ----------
    fed : BatchNorm's site -> the site whose dropped tensor it was given.
    reached : BatchNorm's site -> the last site whose noise came to it, through whatever layers.
    of : BatchNorm's site -> variances of what it was given, one a call.
    """

    def __init__(self) -> None:
        self.fed: dict[str, str] = {}
        self.reached: dict[str, str] = {}
        self.of: dict[str, list[float]] = defaultdict(list)
        self._dropped: dict[int, str] = {}
        self._noisy: dict[int, str] = {}

    def follow(self, func: Any, name: str, args: Any, out: Any, drawn: tuple[str, bool]) -> None:
        """Note what an operation made.

        drawn : the site that drew in it, and whether what came out is what it dropped. A mask
            counts as dropped, and so does what it is multiplied by.
        """
        if not isinstance(out, Tensor) and not (isinstance(out, (tuple, list)) and out):
            return
        given = {memory_of(tensor) for tensor in tensors_in(args)}
        site, dropped = drawn
        elementwise = name in ELEMENTWISE or (name == "add" and func._overloadname == "Scalar")
        noisy = site or _first(self._noisy, given)
        direct = site if dropped else _first(self._dropped, given) if elementwise else ""
        for tensor in tensors_in(out):
            memory = memory_of(tensor)
            _mark(self._dropped, memory, direct, memory in given)
            _mark(self._noisy, memory, noisy, memory in given)

    def drew(self, site: str, out: list[Tensor], dropped: bool) -> None:
        """Note what a module of ours gave, whose kernels the dispatcher does not see."""
        for tensor in out:
            _mark(self._noisy, memory_of(tensor), site, True)
            _mark(self._dropped, memory_of(tensor), site if dropped else "", True)

    def normalised(self, name: str, given: dict[str, Any], site: str) -> None:
        """Note what a BatchNorm was given, if it learns the batch's statistics by it."""
        x = given.get("input")
        learns = name in _ALWAYS or (
            given.get("training") is True and given.get("running_mean") is not None
        )
        if not isinstance(x, Tensor) or x.dim() < 2 or not learns:
            return
        wide = x.detach().transpose(0, 1).reshape(x.shape[1], -1).double()
        self.of[site].append(float(wide.var(1, correction=0).sum()))
        for found, known in ((self.fed, self._dropped), (self.reached, self._noisy)):
            source = known.get(memory_of(x))
            if source is not None:
                found[site] = source


def _first(known: dict[int, str], memories: set[int]) -> str:
    return next((known[memory] for memory in memories if memory in known), "")


def _mark(known: dict[int, str], memory: int, site: str, was_given: bool) -> None:
    if site and memory:
        known[memory] = site
    elif not was_given:
        known.pop(memory, None)


def memory_of(tensor: Tensor) -> int:
    """By what a tensor's memory is known while it lives."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # a sparse tensor, or one around others
        return id(tensor)


def tensors_in(held: Any, around: tuple[int, ...] = ()) -> list[Tensor]:
    """Every tensor in tuples, lists, dicts and objects with attributes, in order. What holds itself
    is gone through once: `around` are the ids of what holds `held`."""
    if isinstance(held, Tensor):
        return [held]
    if id(held) in around:
        return []
    if isinstance(held, dict):
        items = list(held.values())
    elif isinstance(held, (list, tuple)):
        items = list(held)
    else:
        fields = getattr(held, "__dataclass_fields__", ())
        items = [getattr(held, name) for name in fields]
    inside = (*around, id(held))
    return [tensor for item in items for tensor in tensors_in(item, inside)]
