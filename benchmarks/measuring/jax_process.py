"""Dropout as JAX users write it, timed in a process of its own that may be held to one processor.

JAX takes one thread for each processor that it finds when it starts and cannot be told otherwise
later, so one process measures with one thread and another with two. A line of JSON comes in for
each timing, and a line with the seconds goes out: the process takes turns with its peers like any
function would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from benchmarks.measuring.timing import Timer

__all__ = ["JaxProcess"]


class JaxProcess:
    """JAX with `threads` threads; only on Linux is their number more than a wish."""

    def __init__(self, threads: int) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(threads)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def timer(self, n: int, dtype: str, p: float) -> Timer:
        def seconds(calls: int) -> float:
            pipe = self._process
            assert pipe.stdin is not None
            assert pipe.stdout is not None
            pipe.stdin.write(json.dumps({"n": n, "dtype": dtype, "p": p, "calls": calls}) + "\n")
            pipe.stdin.flush()
            return float(pipe.stdout.readline())

        return seconds

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _serve(threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    import jax
    import jax.numpy as jnp

    def dropout(p: float) -> Callable[[Any, Any], Any]:
        def apply(key: Any, x: Any) -> Any:
            keep = jax.random.bernoulli(key, 1 - p, x.shape)
            return jnp.where(keep, x / (1 - p), 0)

        return cast(Callable[[Any, Any], Any], jax.jit(apply))

    key = jax.random.key(0)
    at_hand: tuple[Any, ...] = ()
    for line in sys.stdin:
        asked = json.loads(line)
        wanted = (asked["n"], asked["dtype"], asked["p"])
        if wanted != at_hand:
            at_hand = wanted
            run = dropout(asked["p"])
            x = jax.random.normal(key, (asked["n"],)).astype(asked["dtype"])
        start = time.perf_counter()
        for _ in range(asked["calls"]):
            run(key, x).block_until_ready()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
