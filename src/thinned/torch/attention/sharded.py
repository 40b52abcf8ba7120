"""Attention on DTensors: each process attends with the samples and heads that it holds, and draws
their part of the whole mask. Nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from thinned.address import Address
from thinned.checks import message
from thinned.torch.compat.dtensor import _leading, _start, is_sharded
from thinned.torch.dropin.seeds import seed_for
from thinned.window import Window, index_strides

__all__ = ["attend", "is_wanted"]


def is_wanted(*arrays: Tensor) -> bool:
    return any(map(is_sharded, arrays))


def attend(
    who: str,
    local: Callable[..., Tensor],
    arrays: tuple[Any, Any, Any],
    mask: Tensor | None,
    shape: tuple[int, ...],
    at: Address | None,
    generator: Any,
    window: Window | None,
) -> Tensor:
    """local(query, key, value, at, window) of what this process holds, as a DTensor placed as the
    query. shape : of all weights, (..., heads, L, S).

    Without an address each process draws the seed from its own generator; for DTensors PyTorch
    requires these to be seeded alike. ValueError for other windows, TypeError for arrays or masks
    that are not placed so that a process has what it needs.
    """
    if window is not None:
        raise ValueError(f"{who}: query is a DTensor, which says where it lies. Leave out window.")
    query, key, value = arrays
    alike = all(is_sharded(x) for x in arrays) and all(
        x.device_mesh == query.device_mesh and x.placements == query.placements for x in arrays
    )
    if not (alike and _leading(query)):
        got = ", ".join(str(getattr(x, "placements", "no DTensor")) for x in arrays)
        requirement = "DTensors placed alike, cut along samples or heads or not at all"
        raise TypeError(message(who, "query, key and value", requirement, got))
    if mask is not None and (is_sharded(mask) or any(n > 1 for n in mask.shape[:-2])):
        requirement = "a tensor of one mask for all samples and heads beside DTensors"
        raise TypeError(message(who, "attn_mask", requirement, f"shape {tuple(mask.shape)}"))
    mesh, placements = query.device_mesh, query.placements
    q, k, v = (x.to_local() for x in arrays)
    if q.dim() > 2 and q.shape[-3] * key.shape[-3] != k.shape[-3] * query.shape[-3]:
        got = f"{k.shape[-3]} heads beside {q.shape[-3]} on one process"
        raise TypeError(message(who, "key", "cut where a group of query's heads ends", got))
    if at is None:
        seed = seed_for(q, generator)
        if isinstance(seed, Tensor):
            got = "None, in a compiled program"
            raise TypeError(message(who, "at", "a thinned.Address for DTensors", got))
        at = Address(seed)
    y = local(q, k, v, at, Window(_start(shape, mesh, placements), shape))
    from torch.distributed.tensor import DTensor

    whole = (*shape[:-1], value.shape[-1])
    made: Tensor = DTensor.from_local(
        y, mesh, placements, run_check=False, shape=query.shape[:-1] + value.shape[-1:],
        stride=index_strides(whole, ()),
    )  # fmt: skip
    return made
