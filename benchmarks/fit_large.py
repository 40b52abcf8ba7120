"""What a whole `thinned fit` of a large table takes: time beside its limit, and memory.

    python -m benchmarks.fit_large [--rows 1000000] [--columns 50] [--limit 5m] [--json FILE]

Run from the root of the checkout, on Linux. Memory is that of all processes of the run together
(what they share counts once), looked at four times a second, less what a run on 100 rows of the
same columns holds: interpreters and libraries. It is given in sizes of the table as float64.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fit_reading import MEMORY_BOUND, write
from benchmarks.measuring.timing import write_text
from thinned.fit.plan import read_duration

LOOK = 0.25  # seconds between two looks at the memory


def held(root: int) -> int:
    """Bytes that a process and all that it started hold, shared pages divided among sharers."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, left = 0, [root]
    while left:
        one = left.pop()
        left += children.get(one, [])
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def is_stopped(process: int) -> bool:
    """Whether another program has stopped this one, which no limit can foresee."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def fitted(path: Path, limit: str, out: Path) -> tuple[float, int, str]:
    """Seconds of a run, without those in which it was stopped from outside, the most bytes that it
    held, and what it printed."""
    command = [sys.executable, "-m", "thinned", "fit", str(path), "--target", "y"]
    command += ["--time-limit", limit, "--out", str(out)]
    start, most, stopped = time.monotonic(), 0, 0.0
    said = out.with_suffix(".txt")
    with said.open("w", encoding="utf-8") as lines:
        run = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT)
        while run.poll() is None:
            looked = time.monotonic()
            most = max(most, held(run.pid))
            time.sleep(LOOK)
            stopped += (time.monotonic() - looked) * is_stopped(run.pid)
    seconds = time.monotonic() - start - stopped
    text = said.read_text(encoding="utf-8")
    if run.returncode:
        raise SystemExit(text)
    return seconds, most, text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--limit", default="5m")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder, "table.csv"), Path(folder, "small.csv")
        write(small, 100, asked.columns)
        _, libraries, _ = fitted(small, "10s", Path(folder, "small"))
        write(path, asked.rows, asked.columns)
        seconds, most, text = fitted(path, asked.limit, Path(folder, "out"))
    table, limit = 8.0 * asked.rows * asked.columns, read_duration(asked.limit)
    tables = (most - libraries) / table
    print(text)
    print(
        f"{asked.rows:,} rows x {asked.columns} columns: {seconds:.0f} s of {limit:.0f}, "
        f"{tables:.2f} times the table of {table / 1e6:,.0f} MB (at most {MEMORY_BOUND:g}), beside "
        f"{libraries / 1e6:,.0f} MB that a run on 100 rows holds"
    )
    if asked.json is not None:
        found = {"seconds": seconds, "limit": limit, "bytes": most, "libraries": libraries}
        write_text(asked.json, json.dumps({**found, "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
