"""How much memory a call takes beside its arrays, measured in a process of its own.

Prints JSON: bytes that a dropout of 64M float32 elements adds to the resident memory, in place and
with `out`, and for how many threads. Linux only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

import thinned

ELEMENTS = 64 * 1024 * 1024
SELF = Path("/proc/self")


def _resident() -> int:
    """Bytes in memory, counted page by page; the running total in status lags behind by some."""
    told = (SELF / "smaps_rollup").read_text(encoding="ascii")
    return 1024 * int(re.findall(r"^Rss:\s+(\d+) kB", told, re.M)[0])


def _peak() -> int:
    told = (SELF / "status").read_text(encoding="ascii")
    return 1024 * int(re.findall(r"^VmHWM:\s+(\d+) kB", told, re.M)[0])


def growth(call: Callable[[], object]) -> dict[str, int]:
    """What `call` leaves in memory (the stacks of threads that it started, for one), and by how
    much the peak rose while it ran, which the system counts to within some 100 KB."""
    (SELF / "clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    peak, resident = _peak(), _resident()
    call()
    return {"left": _resident() - resident, "peak": _peak() - peak}


def main() -> None:
    at = thinned.Address(seed=0, site="fc1", step=7)
    x = np.ones(ELEMENTS, np.float32)
    y = np.ones(ELEMENTS, np.float32)
    threads = thinned.kernel_info().threads
    # Not counted: what Python itself needs for the call and for looking, and the pages of the
    # kernel's code, which come into memory as they are first run. One thread runs it all, and
    # starts no other.
    thinned.set_num_threads(1)
    for _ in range(3):
        growth(lambda: thinned.dropout(x, 0.1, at, out=y))
    thinned.set_num_threads(threads)
    told = {
        "out": growth(lambda: thinned.dropout(x, 0.1, at, out=y)),
        "in_place": growth(lambda: thinned.dropout(x, 0.1, at, out=x)),
    }
    print(json.dumps({"elements": ELEMENTS, "threads": threads, "bytes": told}))


if __name__ == "__main__":
    main()
