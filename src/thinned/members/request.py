"""A request for a prediction, checked; and how many members it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

from thinned import checks, reference
from thinned.checks import message
from thinned.members.prediction import Gathered, require_task
from thinned.members.statistics import probabilities_to_ask

__all__ = ["SHARES", "Asked", "Members", "checked", "in_blocks"]

SHARES = ("member", "row")
# With `until`, members between two looks at the standard error: even, for pairs.
LOOK = 8


class Asked(NamedTuple):
    """A request, checked."""

    members: int
    seed: int
    share: str
    antithetic: bool
    until: float | None
    keep: bool
    quantiles: tuple[float, ...]
    task: str | None


def checked(
    who: str,
    members: Any,
    seed: Any,
    share: Any,
    antithetic: Any = False,
    until: Any = None,
    keep: Any = False,
    quantiles: Any = None,
    task: Any = None,
    shares: tuple[str, ...] = SHARES,
) -> Asked:
    """The parameters that all ways of asking share. shares : what `share` may be."""
    antithetic = checks.flag(who, "antithetic", antithetic)
    low = 4 if antithetic else 2
    members = checks.integer(who, "members", members, low, 2**31)
    if antithetic and members % 2:
        raise ValueError(message(who, "members", "even for antithetic pairs", members))
    share = checks.one_of(who, "share", share, shares)
    if until is not None:
        until = checks.real(who, "until", until, "a number or None")
        if not 0.0 < until < math.inf:
            raise ValueError(message(who, "until", "positive and finite", until))
    require_task(who, task)
    return Asked(
        members,
        checks.integer(who, "seed", seed, 0, 2**64),
        share,
        antithetic,
        until,
        checks.flag(who, "keep", keep),
        probabilities_to_ask(who, quantiles),
        task,
    )


class Members(Sequence[tuple[int, bool]]):
    """The seed of each member, and whether it is a mirror: computed when they are asked for, since
    most of many members are never run where `until` is met."""

    def __init__(self, asked: Asked, numbers: range) -> None:
        self.asked, self.numbers = asked, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, which: int) -> tuple[int, bool]: ...
    @overload
    def __getitem__(self, which: slice) -> Members: ...
    def __getitem__(self, which: int | slice) -> tuple[int, bool] | Members:
        if isinstance(which, slice):
            return Members(self.asked, self.numbers[which])
        k = self.numbers[which]
        if self.asked.antithetic:
            return reference.fold_in(self.asked.seed, k // 2), bool(k % 2)
        return reference.fold_in(self.asked.seed, k), False


def in_blocks(
    asked: Asked,
    batches: Sequence[Gathered],
    block: Callable[[Members], None],
) -> bool | None:
    """Ask block after block, until enough is known. Whether `until` was met; None without it."""
    each = Members(asked, range(asked.members))
    if asked.until is None:
        block(each)
        return None
    reached = False
    for start in range(0, len(each), LOOK):
        block(each[start : start + LOOK])
        reached = all(bool((b.standard_error < asked.until).all()) for b in batches)
        # All equal so far: more of the same would only be slower to refuse.
        if reached or all(batch.equal for batch in batches):
            break
    return reached
