"""Where trainings run: processes here, joblib's backend, or a cluster of Dask's or Ray's.

An engine runs jobs of which each is a pure function of what it is given, so that its answers are
the same everywhere, in whatever order they come, and however often a job is begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thinned.errors import InputError, quoted
from thinned.fit.engines.base import Engine, Job
from thinned.fit.engines.local import Local

__all__ = ["ENGINES", "Engine", "Job", "check_engine", "engine_for"]

# What can be asked for, as a person writes it.
ENGINES = "dask, dask://HOST:PORT, ray or ray://HOST:PORT"


def check_engine(name: str) -> str:
    """An engine's name as typed, if it is one.

    Raises
    ------
    InputError.
    """
    kind, colon, place = name.partition("://")
    if kind not in ("dask", "ray") or bool(colon) != bool(place):
        raise InputError(f"--engine: {quoted(name)} is no engine; write {ENGINES}.")
    return name


@contextmanager
def engine_for(name: str | None, processes: int | None = None) -> Iterator[Engine]:
    """An engine, and its cluster's connection while it is open.

    Parameters
    ----------
    name : "dask" or "ray" start a cluster on this machine, or for Ray join the one that runs here;
        with "://host:port" they join that one. None is joblib's current backend, or processes here.
    processes : int >= 1, or None for one to a core. Of a cluster that runs already, it is the most
        jobs at a time.

    Raises
    ------
    InputError if the cluster cannot be reached. ImportError, naming the extra, without the library.
    """
    if name is None:
        yield Local(processes)
        return
    kind, _, place = check_engine(name).partition("://")
    if kind == "dask":
        from thinned.fit.engines.dask import dask_engine

        with dask_engine(place, processes) as engine:
            yield engine
    else:
        from thinned.fit.engines.ray import ray_engine

        with ray_engine(place, processes) as engine:
            yield engine
