"""What an engine is, and how the arrays of a job travel: once for each split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ATTEMPTS", "Arrays", "Engine", "Job", "apart", "together"]

Arrays = tuple[NDArray[Any], ...]

# How often a job is begun again, with nothing done meanwhile, after its worker was ended.
MOST_ATTEMPTS = 4


class Job(Protocol):
    """A dataclass: `key` names it within a run, and its arrays are in two places. All jobs of a
    split have the same tuple of inputs."""

    @property
    def key(self) -> tuple[int, ...]: ...
    @property
    def inputs(self) -> Any: ...
    @property
    def target(self) -> Any: ...


_J = TypeVar("_J", bound=Any)


class Engine(Protocol):
    """workers : how many jobs run at a time."""

    @property
    def workers(self) -> int: ...

    def run(self, do: Callable[[Any], Any], jobs: Iterable[Any], count: int) -> Iterator[Any]:
        """The answers `do(job)`, each with its job's key, in the order in which they are there.

        Parameters
        ----------
        do : a function of a module, pure.
        jobs : taken one by one, as they are needed.
        count : how many there are.
        """
        ...


def apart(job: _J) -> tuple[_J, Arrays]:
    """A job without its arrays, and these: those of the inputs first, then the targets."""
    weights = getattr(job, "weights", None)
    light = replace(job, inputs=len(job.inputs), target=None)
    if weights is None:
        return light, (*job.inputs, *job.target)
    return replace(light, weights=len(job.target)), (*job.inputs, *job.target, *weights)


def together(do: Callable[[Any], Any], light: Any, *arrays: NDArray[Any]) -> Any:
    """`do` of a job that was taken apart. Runs where the work is done."""
    n = light.inputs
    # What other processes share must not be written to; what is computed from it must be writable.
    read = tuple(np.asarray(array) for array in arrays)
    whole = replace(light, inputs=read[:n], target=read[n:])
    if (m := getattr(light, "weights", None)) is not None:
        whole = replace(whole, target=read[n : n + m], weights=read[n + m :])
    return do(whole)
