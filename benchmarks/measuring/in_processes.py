"""How far a call makes the memory in use rise, each call in a fresh process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.measuring.extra_memory import growth

__all__ = ["peaks"]

# Read by the C library when a process starts: arrays above so many bytes go back to the system when
# they are freed. Left to itself it keeps what the call before freed, and the rise looks too low.
KEPT_BELOW = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def _rise(make: Callable[[str], Callable[[], object]], name: str, what: str) -> int:
    return growth(make(name))[what]


def peaks(
    make: Callable[[str], Callable[[], object]], names: Iterable[str], what: str = "peak"
) -> dict[str, int] | None:
    """Bytes that `make(name)()` adds at most ("peak"), or leaves behind ("left"), by name.

    `make`, a function of a module, prepares the call and may make it once itself. None where the
    system does not say: anywhere but on Linux.
    """
    if sys.platform != "linux":
        return None
    context = multiprocessing.get_context("spawn")
    before = dict(os.environ)
    os.environ.update(KEPT_BELOW)
    try:
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            return {name: pool.submit(_rise, make, name, what).result() for name in names}
    finally:
        os.environ.clear()
        os.environ.update(before)
