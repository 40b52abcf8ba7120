"""Shard: where a local array lies in a sharded one."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Shard"]


class Shard:
    """Where a local array lies in a sharded one; `covers` says that every process holds a shard."""

    __slots__ = ("covers", "shape", "start")

    def __init__(self, start: Sequence[int], shape: Sequence[int], covers: bool) -> None:
        self.start, self.shape, self.covers = tuple(start), tuple(shape), covers
