"""Jobs on a cluster of Ray's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from thinned.errors import InputError
from thinned.fit.engines.base import MOST_ATTEMPTS, Arrays, together
from thinned.fit.engines.remote import LostError, Remote

__all__ = ["ray_engine"]


@contextmanager
def ray_engine(place: str, processes: int | None) -> Iterator[Remote]:
    """The engine of the cluster at host:port, else of one that runs on this machine or is started
    here. One that the program is connected to already stays so."""
    try:
        import ray
    except ImportError as missing:
        raise ImportError(
            'ray is not installed; --engine ray needs: pip install "thinned[ray]"', name="ray"
        ) from missing
    was_there = ray.is_initialized()
    if not was_there:
        how: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if place:
                ray.init(f"ray://{place}", **how)
            else:
                ray.init(num_cpus=processes, include_dashboard=False, **how)
        except ValueError:  # a cluster runs here already, and has its own number of processors
            ray.init(**how)
        except (ConnectionError, TimeoutError, RuntimeError) as reason:
            said = str(reason).splitlines()[0]
            raise InputError(f"--engine: no cluster of Ray's at {place}: {said}.") from None
    try:
        # Ray gives this function no types.
        cores = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        if not cores:
            raise InputError("--engine: the cluster of Ray's has no processors.")
        yield _Ray(ray, processes or 2 * cores, min(processes or cores, cores))
    finally:
        if not was_there:
            ray.shutdown()


class _Ray(Remote):
    def __init__(self, ray: Any, at_a_time: int, workers: int) -> None:
        super().__init__(at_a_time, workers)
        self.ray = ray
        self._do = ray.remote(num_cpus=1, max_retries=MOST_ATTEMPTS)(together)

    def _send(self, arrays: Arrays) -> Any:
        return [self.ray.put(array) for array in arrays]

    def _begin(self, do: Callable[[Any], Any], light: Any, sent: Any) -> Any:
        return self._do.remote(do, light, *sent)

    def _ended(self, begun: list[Any]) -> list[Any]:
        ended, _ = self.ray.wait(begun, num_returns=1)
        return list(ended)

    def _answer(self, ended: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(ended)
        except (errors.WorkerCrashedError, errors.ObjectLostError, errors.NodeDiedError) as reason:
            raise LostError from reason

    def _forget(self, begun: list[Any]) -> None:
        for one in begun:
            self.ray.cancel(one)
