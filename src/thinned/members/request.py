"""What was asked of members, checked; and how many of them it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from thinned import checks, reference
from thinned.checks import message
from thinned.members.prediction import Gathered, require_task
from thinned.members.statistics import probabilities_to_ask

__all__ = ["SHARES", "Asked", "checked", "in_blocks"]

SHARES = ("member", "row")
# With `until`, members between two looks at the standard error: even, for pairs.
LOOK = 8


class Asked(NamedTuple):
    """What was asked, checked."""

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
    members = checks.integer(who, "members", members, low, 2**32)
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


def members_of(asked: Asked) -> list[tuple[int, bool]]:
    """The seed of each member, and whether it is a mirror."""
    if asked.antithetic:
        return [(reference.fold_in(asked.seed, k // 2), bool(k % 2)) for k in range(asked.members)]
    return [(reference.fold_in(asked.seed, k), False) for k in range(asked.members)]


def in_blocks(
    asked: Asked,
    batches: Sequence[Gathered],
    block: Callable[[list[tuple[int, bool]]], None],
) -> bool | None:
    """Ask block after block, until enough is known. Whether `until` was met; None without it."""
    each = members_of(asked)
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
