"""Several targets that one network learns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinned.fit.target import FEWEST_IN_CLASS, Goal, Task

__all__ = ["Head", "Together", "together"]


@dataclass(frozen=True)
class Head:
    """The outputs of a network that are one target's: a logit for each class, or a value."""

    task: Task
    n_classes: int

    @property
    def outputs(self) -> int:
        return self.n_classes or 1


@dataclass(frozen=True)
class Together:
    """Of all targets what each is; their class numbers and values, float64 of shape (rows,
    targets); and what splits keep in proportion, None where none of them has classes."""

    names: tuple[str, ...]
    heads: tuple[Head, ...]
    values: NDArray[np.float64]
    strata: NDArray[np.intp] | None

    @property
    def task(self) -> Task | None:
        """What all of them are; None where they are not the same."""
        tasks = {one.task for one in self.heads}
        return tasks.pop() if len(tasks) == 1 else None

    def taken(self, rows: NDArray[np.intp]) -> Together:
        """The same for some of the rows."""
        strata = None if self.strata is None else self.strata[rows]
        return Together(self.names, self.heads, self.values[rows], strata)


def together(goals: Sequence[Goal]) -> Together | None:
    """What goals are together; None for one."""
    if len(goals) == 1:
        return None
    return Together(
        tuple(one.name for one in goals),
        tuple(Head(one.task, len(one.classes)) for one in goals),
        np.column_stack([one.target for one in goals]).astype(np.float64),
        _strata([one.target for one in goals if one.task == "classification"]),
    )


def _strata(targets: Sequence[NDArray[np.intp]]) -> NDArray[np.intp] | None:
    """For each row the number of the rarest class that it has of any target.

    So a rare class is spread evenly, whatever the other targets are; the classes of all targets at
    once would be too many to have rows enough. Rows of what few of them are left for join the
    commonest.
    """
    if not targets:
        return None
    sizes = [np.bincount(one) for one in targets]
    first = np.cumsum([0, *map(len, sizes)])
    rows_of = np.column_stack([size[one] for size, one in zip(sizes, targets, strict=True)])
    numbers = np.column_stack([at + one for at, one in zip(first[:-1], targets, strict=True)])
    rarest = np.take_along_axis(numbers, rows_of.argmin(axis=1)[:, None], axis=1)[:, 0]
    counts = np.bincount(rarest, minlength=int(first[-1]))
    few = counts[rarest] < FEWEST_IN_CLASS
    return np.asarray(np.where(few, counts.argmax(), rarest), np.intp)
