"""DTensors: what each process holds of one array, and so which window of its mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.torch.compat.shard import Shard
from thinned.window import index_strides

__all__ = ["is_sharded", "on_shards", "product"]


def is_sharded(x: Any) -> bool:
    """Whether x is a DTensor. Nothing of torch.distributed is loaded for a tensor that is none."""
    return type(x) is not Tensor and hasattr(x, "device_mesh") and hasattr(x, "placements")


def on_shards(x: Any, draw: Callable[[Tensor, Shard], Tensor]) -> Tensor:
    """`draw` on the shard at hand; the result is sharded as x. Partial sums are summed up first."""
    from torch.distributed.tensor import DTensor, Replicate, Shard as ShardedAxis

    if any(placement.is_partial() for placement in x.placements):
        x = x.redistribute(placements=[Replicate() if p.is_partial() else p for p in x.placements])
    strange = [p for p in x.placements if type(p) is not ShardedAxis and type(p) is not Replicate]
    if strange:
        raise NotImplementedError(
            f"thinned: a DTensor with placement {strange[0]} does not say which of its elements "
            "are at hand. Redistribute it to Shard or Replicate before its dropout."
        )
    mesh, placements = x.device_mesh, x.placements
    shape, stride = x.shape, x.stride()
    world = torch.distributed.get_world_size()
    local = x.to_local()
    start = _start(tuple(shape), mesh, placements)
    y = draw(local, Shard(start, tuple(shape), mesh.size() == world))
    result: Tensor = DTensor.from_local(
        y, mesh, placements, run_check=False, shape=shape, stride=stride
    )
    return result


def product(a: Any, b: Any) -> Tensor:
    """a @ b, whose axes before the last two agree. Where these alone are cut (heads, say), each
    process multiplies what it holds: DTensor of PyTorch 2.8 to 2.11 refuses that."""
    y: Tensor
    both = is_sharded(a) and is_sharded(b) and a.device_mesh == b.device_mesh
    if not (both and _leading(a) and _leading(b)):
        y = a @ b
        return y
    from torch.distributed.tensor import DTensor

    cut = [p if p.is_shard() else q for p, q in zip(a.placements, b.placements, strict=True)]
    a, b = (x.redistribute(placements=cut) for x in (a, b))
    shape = torch.Size((*a.shape[:-1], b.shape[-1]))
    y = DTensor.from_local(
        a.to_local() @ b.to_local(), a.device_mesh, cut,
        run_check=False, shape=shape, stride=index_strides(tuple(shape), ()),
    )  # fmt: skip
    return y


def _leading(x: Any) -> bool:
    """Whether x is cut, if at all, along axes before the last two."""
    from torch.distributed.tensor import Replicate, Shard as ShardedAxis

    return all(
        type(p) is Replicate or (type(p) is ShardedAxis and p.dim % x.dim() < x.dim() - 2)
        for p in x.placements
    )


def _start(shape: tuple[int, ...], mesh: Any, placements: Any) -> tuple[int, ...]:
    """The first element of the shard at hand: chunks of ceil(n / ranks), mesh axes in order."""
    start, length = [0] * len(shape), list(shape)
    for i, placement in enumerate(placements):
        if not placement.is_shard():
            continue
        axis = placement.dim % len(shape)
        ranks, rank = mesh.size(i), mesh.get_local_rank(i)
        chunk = -(-length[axis] // ranks)
        first = min(rank * chunk, length[axis])
        start[axis] += first
        length[axis] = min(chunk, length[axis] - first)
    return tuple(start)
