"""One training as values: what it needs, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from thinned.address import Address
from thinned.fit.network import Network, measures
from thinned.fit.own_network import OwnNetwork
from thinned.fit.rate import Rate
from thinned.fit.results import FitSettings
from thinned.fit.tables import Problem, Task
from thinned.fit.together import Head

__all__ = ["Job", "Trained", "job_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """What one training needs, and nothing of the table it came from.

    `inputs`, `target` and `weights` hold two parts of the rows: those to train on, and those to
    look at only. Without weights all rows count the same. After `until` (seconds since 1970) no
    further epoch is begun: what was not finished by then is said so in what comes back.

    heads : of several targets what each is; `target` then has a column for each, and `task` and
    `n_classes` are those of the one that is asked about.
    """

    key: tuple[int, ...]
    task: Task
    n_classes: int
    inputs: tuple[Array, Array]
    target: tuple[Array, Array]
    p: Rate
    random_state: int
    looks: tuple[int, ...]
    settings: FitSettings
    weights: tuple[Array, Array] | None = None
    until: float | None = None
    heads: tuple[Head, ...] = ()

    def measured(self, outputs: Callable[[Array], Array]) -> list[Sequence[float]]:
        """The measures of both parts, by a network's function from inputs to outputs."""
        weights = self.weights or (None, None)
        parts = zip(self.inputs, self.target, weights, strict=True)
        return [measures(self.task, outputs(x), y, of_rows) for x, y, of_rows in parts]


def job_of(
    problem: Problem,
    settings: FitSettings,
    parts: tuple[Array, Array],
    inputs: tuple[Array, Array],
    *,
    key: tuple[int, ...],
    p: Rate,
    random_state: int,
    looks: tuple[int, ...],
    until: float | None = None,
) -> Job:
    """A training on some rows of a problem. parts : the rows to train on, and those to look at.
    inputs : what they are for a network."""
    several, weights = problem.together, problem.weights
    target = problem.target if several is None else several.values
    return Job(
        key=key,
        task=problem.task,
        n_classes=len(problem.classes),
        inputs=inputs,
        target=(target[parts[0]], target[parts[1]]),
        p=p,
        random_state=random_state,
        looks=looks,
        settings=settings,
        weights=None if weights is None else (weights[parts[0]], weights[parts[1]]),
        until=until,
        heads=() if several is None else several.heads,
    )


@dataclass(frozen=True)
class Trained:
    """measured[part, look, measure] for the two parts of the rows, and the network at the end.

    Looks after the one at which patience ended the training are NaN.

    `masks` names the masks of the first batch: for the input and each hidden layer the site, the
    address, p and the shape. `epochs` counts those that were trained; `finished` is False where
    time ended them.
    """

    key: tuple[int, ...]
    measured: Array
    network: Network | OwnNetwork
    masks: tuple[tuple[str, Address, float, tuple[int, int]], ...]
    epochs: int = 0
    finished: bool = True
