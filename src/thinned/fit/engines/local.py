"""Processes on this machine, or whatever backend of joblib is the current one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from thinned.fit.engines.base import MOST_ATTEMPTS, apart, together

__all__ = ["Local"]


class Local:
    """Jobs through joblib: by the backend that `joblib.parallel_config` has set, else by loky, in
    processes of one thread each.

    Parameters
    ----------
    processes : int >= 1, or None for one to a core, or as many as the backend has.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes

    @property
    def workers(self) -> int:
        import joblib
        from joblib.parallel import get_active_backend

        backend, _ = get_active_backend()
        if type(backend).__name__ == "LokyBackend":
            return self.processes or int(joblib.cpu_count())
        return int(backend.effective_n_jobs(self.processes or -1))

    def run(self, do: Callable[[Any], Any], jobs: Iterable[Any], count: int) -> Iterator[Any]:
        """As `Engine.run`. A job whose process was ended from outside is begun again."""
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        waiting: dict[tuple[int, ...], Any] = {}
        left, fruitless = iter(jobs), 0
        while True:
            again = list(waiting.values())
            waiting.clear()
            try:
                for answer in self._attempt(do, _noted(chain(again, left), waiting), count):
                    del waiting[answer.key]
                    fruitless = 0
                    yield answer
                return
            except TerminatedWorkerError:
                fruitless += 1
                if fruitless >= MOST_ATTEMPTS:
                    raise

    def _attempt(self, do: Callable[[Any], Any], jobs: Iterator[Any], count: int) -> Iterator[Any]:
        import joblib
        from joblib.parallel import get_active_backend

        backend, _ = get_active_backend()
        if type(backend).__name__ != "LokyBackend":
            yield from _by(backend, do, jobs, self.processes)
            return
        processes = min(self.processes or joblib.cpu_count(), count)
        with (
            _stopped_quietly(),
            joblib.parallel_config(backend="loky", inner_max_num_threads=1),
            # One job waits: more of them would hold the inputs of more splits.
            joblib.Parallel(
                n_jobs=processes, return_as="generator_unordered", pre_dispatch=processes + 1
            ) as run,
        ):
            with _deaf_children():
                answers = run(joblib.delayed(do)(job) for job in jobs)
            yield from answers


def _by(
    backend: Any, do: Callable[[Any], Any], jobs: Iterator[Any], processes: int | None
) -> Iterator[Any]:
    """By a backend that the user has set; one that gives no answers before all are there gets a
    few jobs at a time."""
    import joblib

    n = processes or -1
    many = backend.effective_n_jobs(n)

    def delayed(some: Iterable[Any]) -> Iterator[Any]:
        for job in some:
            light, arrays = apart(job)
            yield joblib.delayed(together)(do, light, *arrays)

    if getattr(backend, "supports_return_generator", False):
        run = joblib.Parallel(n_jobs=n, return_as="generator_unordered")
        yield from run(delayed(jobs))
        return
    while some := list(islice(jobs, 2 * many)):
        yield from joblib.Parallel(n_jobs=n)(delayed(some))


def _noted(jobs: Iterable[Any], waiting: dict[tuple[int, ...], Any]) -> Iterator[Any]:
    """The jobs, each of which is waiting from now on."""
    for job in jobs:
        waiting[job.key] = job
        yield job


@contextmanager
def _stopped_quietly() -> Iterator[None]:
    """joblib's thread that hands out work may stumble where an interruption takes the work away,
    and would print a traceback beside the sentence that the user gets. Without one it prints it."""
    stumbled: list[threading.ExceptHookArgs] = []
    before = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        ours = raised.thread is not None and raised.thread.name == "ExecutorManagerThread"
        (stumbled.append if ours else before)(raised)

    threading.excepthook = hook
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        stumbled.clear()
        raise
    finally:
        threading.excepthook = before
        for raised in stumbled:
            before(raised)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which a terminal sends to all of them.

    Ending them is this process's business; on their own they would each print a traceback. Here
    Ctrl-C waits until they are started.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Up to Python 3.12 the start of this helper, which the first child needs, lifts any block.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
