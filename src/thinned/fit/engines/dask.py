"""Jobs on a cluster of Dask's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import Queue
from typing import Any

from thinned.errors import InputError
from thinned.fit.engines.base import MOST_ATTEMPTS, Arrays, together
from thinned.fit.engines.remote import LostError, Remote

__all__ = ["dask_engine"]

# Seconds in which a scheduler that is there answers.
PATIENCE = 30


@contextmanager
def dask_engine(place: str, processes: int | None) -> Iterator[Remote]:
    """The engine of the scheduler at host:port, or of workers started here if `place` is empty."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as missing:
        raise ImportError(
            'dask is not installed; --engine dask needs: pip install "thinned[dask]"',
            name="distributed",
        ) from missing
    with ExitStack() as open_things:
        if place:
            address: Any = f"tcp://{place}"
        else:
            import joblib

            # Dask gives neither of these two types.
            address = open_things.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=processes or joblib.cpu_count(),
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # any free port
                )
            )
        try:
            client = open_things.enter_context(
                Client(  # type: ignore[no-untyped-call]
                    address, timeout=PATIENCE, set_as_default=False
                )
            )
        except (OSError, TimeoutError, ValueError) as reason:
            said = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
            raise InputError(f"--engine: no scheduler of Dask's at {place}: {said}.") from None
        if not client.nthreads() and not place:
            client.wait_for_workers(1, PATIENCE)
        if not sum(client.nthreads().values()):
            raise InputError(f"--engine: the scheduler at {place} has no workers.")
        yield _Dask(client, processes)


class _Dask(Remote):
    def __init__(self, client: Any, processes: int | None) -> None:
        threads = sum(client.nthreads().values())
        super().__init__(processes or 2 * threads, min(processes or threads, threads))
        self.client = client
        self._done: Queue[Any] = Queue()

    def _send(self, arrays: Arrays) -> Any:
        # Not under a name made of their content: what is lost must not be taken for there.
        return [self.client.scatter(array, hash=False) for array in arrays]

    def _begin(self, do: Callable[[Any], Any], light: Any, sent: Any) -> Any:
        begun = self.client.submit(together, do, light, *sent, pure=False, retries=MOST_ATTEMPTS)
        begun.add_done_callback(self._done.put)
        return begun

    def _ended(self, begun: list[Any]) -> list[Any]:
        return [self._done.get()]

    def _answer(self, ended: Any) -> Any:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            return ended.result()
        except (KilledWorker, CancelledError, FutureCancelledError) as reason:
            raise LostError from reason

    def _forget(self, begun: list[Any]) -> None:
        if begun:
            self.client.cancel(begun)
