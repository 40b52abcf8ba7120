"""What the clusters share: a limit of jobs on the way, arrays of a split sent once, and jobs that
were lost begun again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from thinned.fit.engines.base import MOST_ATTEMPTS, Arrays, apart

__all__ = ["LostError", "Remote"]

# Splits whose arrays the cluster keeps: jobs come split after split.
KEPT = 3


class LostError(Exception):
    """The worker of a job, or the arrays that it needs, are gone. The cause is why."""


class Remote(ABC):
    """An engine whose jobs run in another place."""

    def __init__(self, at_a_time: int, workers: int) -> None:
        self.at_a_time, self.workers = at_a_time, workers
        self._sent: dict[int, tuple[Any, Any]] = {}

    @abstractmethod
    def _send(self, arrays: Arrays) -> Any:
        """Put arrays where every worker can fetch them, and return what stands for them."""

    @abstractmethod
    def _begin(self, do: Callable[[Any], Any], light: Any, sent: Any) -> Any:
        """Begin a job, and return what stands for its answer, which can be a dict's key."""

    @abstractmethod
    def _ended(self, begun: list[Any]) -> list[Any]:
        """Wait until at least one of these has ended, and return those that have."""

    @abstractmethod
    def _answer(self, ended: Any) -> Any:
        """The answer of a job that has ended. Raises LostError if it is to be begun again."""

    def run(self, do: Callable[[Any], Any], jobs: Iterable[Any], count: int) -> Iterator[Any]:
        """As `Engine.run`."""
        left = iter(jobs)
        begun: dict[Any, tuple[Any, int]] = {}
        try:
            while True:
                while len(begun) < self.at_a_time and (job := next(left, None)) is not None:
                    begun[self._started(do, job)] = job, 1
                if not begun:
                    return
                for one in self._ended(list(begun)):
                    job, attempt = begun.pop(one)
                    try:
                        answer = self._answer(one)
                    except LostError as lost:
                        if attempt >= MOST_ATTEMPTS:
                            raise lost.__cause__ or lost from None
                        self._sent.clear()  # it may be the arrays that are gone
                        begun[self._started(do, job)] = job, attempt + 1
                    else:
                        yield answer
        finally:
            self._forget(list(begun))
            self._sent.clear()

    @abstractmethod
    def _forget(self, begun: list[Any]) -> None:
        """Give up on these: their results are no longer needed."""

    def _started(self, do: Callable[[Any], Any], job: Any) -> Any:
        light, arrays = apart(job)
        key = id(job.inputs)
        if key not in self._sent:
            while len(self._sent) >= KEPT:
                self._sent.pop(next(iter(self._sent)))
            # The inputs are kept with what was sent, so that no others can get their number.
            self._sent[key] = job.inputs, self._send(arrays)
        return self._begin(do, light, self._sent[key][1])
