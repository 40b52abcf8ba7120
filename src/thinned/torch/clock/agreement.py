"""Agreeing: processes that split a batch tell one another, once, how many rows each holds.

They tell it through the store of their group and not by a collective operation. A collective waits
for as long as the group does, in silence, for a process that never makes this call, and meets that
process's next collective, which is another one.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any, NamedTuple

import torch.distributed

__all__ = ["Turn", "rows_of_all"]

_TIMEOUT = "THINNED_RANKS_TIMEOUT"
_SECONDS = 60.0
_REMEDY = (
    "With ranks='split' all processes make the first call in training together. A forward that "
    "only some of them run goes into evaluation, or into clock.piece(start), which says its rows. "
    f"Processes that are farther apart: {_TIMEOUT}=seconds in their environment."
)

# How many clocks of a seed began to agree in a group: the order is the same on every process.
_begun: Counter[tuple[str, int]] = Counter()


class Turn(NamedTuple):
    """Which agreement this is: of which clock, and for which time."""

    seed: int
    clock: int
    time: int

    @staticmethod
    def of(seed: int, group: Any) -> Turn:
        """The first one of a clock that never agreed before."""
        key = (_whole(group).group_name, seed)
        _begun[key] += 1
        return Turn(seed, _begun[key], 0)

    def next(self) -> Turn:
        return self._replace(time=self.time + 1)


def rows_of_all(turn: Turn, group: Any, site: str, rows: int) -> list[int]:
    """The rows of each rank, this one's among them.

    RuntimeError where one of them tells nothing in time, here and on those who come later.
    """
    rank, size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    if torch.distributed.get_backend(group) == "fake":  # the other processes are imagined
        return [rows] * size
    store = torch.distributed.distributed_c10d._get_process_group_store(_whole(group))
    keys = ["/".join(("thinned", *map(str, turn), str(each))) for each in range(size)]
    seconds = _patience(store)
    try:
        store.set(keys[rank], json.dumps([rows, site, None]))
        if not _all_come(store, keys, seconds):
            store.set(keys[rank], json.dumps([rows, site, seconds]))
            missing = [each for each in range(size) if not store.check([keys[each]])]
            raise RuntimeError(
                f"thinned: rank {rank} calls site {site!r} and waited {seconds:g} seconds for the "
                f"first call of {_ranks(missing)}, which never came. {_REMEDY}"
            )
        said = [json.loads(word) for word in store.multi_get(keys)]
    except torch.distributed.DistError as error:
        raise RuntimeError(
            f"thinned: rank {rank} calls site {site!r} and waits for the first call of the other "
            f"ranks, and the store of their group is gone: has a process ended? {_REMEDY}"
        ) from error
    for other, (_, where, gave_up) in enumerate(said):
        if gave_up is not None:
            raise RuntimeError(
                f"thinned: rank {rank} calls site {site!r} for the first time. Rank {other} called "
                f"site {where!r} before, waited {gave_up:g} seconds for this call, and gave up. "
                f"{_REMEDY}"
            )
    return [int(count) for count, _, _ in said]


def _all_come(store: Any, keys: list[str], seconds: float) -> bool:
    """Whether each key is set in time. It looks again and again, and so can be interrupted."""
    end, pause = time.monotonic() + seconds, 0.001
    while not store.check(keys):
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return True


def _patience(store: Any) -> float:
    """Seconds to wait. Less than the group does, so that there is a process left to say it."""
    told = os.environ.get(_TIMEOUT)
    if told is None:
        return float(min(_SECONDS, store.timeout.total_seconds() / 2))
    try:
        seconds = float(told)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ValueError(f"{_TIMEOUT} must be a number of seconds, got {told!r}.")
    return seconds


def _ranks(which: list[int]) -> str:
    return f"rank{'s' if len(which) > 1 else ''} {', '.join(map(str, which))}"


def _whole(group: Any) -> Any:
    return torch.distributed.group.WORLD if group is None else group
