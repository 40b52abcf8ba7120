"""How long `thinned audit` takes: to start, for a million lines, and for the same lines again.

    python -m benchmarks.audit_speed [PATH...] [--json FILE] [--repeats 3]

Run from the root of the checkout. Read are packages that are installed beside Thinned, code of many
hands, or what lies at the PATHs, until the lines reach --lines. Once as the command does it, which
parses only files that name a framework and a word of dropout's; once with every file parsed and
every rule asked, the most that code can cost; once by several processes; once with a cache that
knows nothing and once with one that knows all. Seconds are those of the processors, to which other
programs matter little; the clock's stand beside them. The start is one small file, as the command
reads it, less Python's own, in seconds of the processors too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measuring.timing import write_text
from thinned.audit import one, running
from thinned.audit.settings import Settings
from thinned.audit.walking import files_under

# The ones that use dropout first, then large ones that do not.
PACKAGES = ("torch", "flax", "equinox", "jax", "optax", "torchmetrics", "sklearn", "scipy", "sympy")
# Seconds for a million lines, and for the start over Python's own.
BOUND = 10.0
START_BOUND = 0.15

SMALL = "import torch.nn.functional as F\n\n\ndef f(x):\n    return F.dropout(x, 0.5)\n"
COMMAND = "import sys; from thinned.cli.main import main; sys.exit(main(sys.argv[1:]))"


def folders() -> list[str]:
    """The installed packages' folders."""
    found = []
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parent))
    return found


def some(files: list[str], least: int) -> list[str]:
    """The first files that have `least` lines together."""
    chosen, lines = [], 0
    for path in files:
        chosen.append(path)
        lines += Path(path).read_bytes().count(b"\n")
        if lines >= least:
            break
    return chosen


def of_the_processors() -> float:
    """Seconds that this process and those that it started have used."""
    return sum(os.times()[:4])


def measure(files: list[str], repeats: int, **options: Any) -> dict[str, Any]:
    """The quickest of some audits of the files."""
    best = wall = float("inf")
    for _ in range(repeats):
        start, before = of_the_processors(), time.perf_counter()
        report = running.audit(files, **options)
        best = min(best, of_the_processors() - start)
        wall = min(wall, time.perf_counter() - before)
    return {
        "files": report.files,
        "lines": report.lines,
        "findings": len(report.findings),
        "seconds": best,
        "wall_seconds": wall,
        "lines_per_second": report.lines / best,
        "seconds_per_million": 1e6 * best / report.lines,
    }


def started(repeats: int) -> dict[str, float]:
    """Seconds of a command on one small file, of Python alone, and their difference."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.py")
        file.write_text(SMALL)
        python = quickest([sys.executable, "-c", "pass"], repeats)
        command = quickest([sys.executable, "-c", COMMAND, "audit", str(file)], repeats)
    return {"python": python, "command": command, "start": command - python}


def quickest(command: list[str], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        before = of_the_processors()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        best = min(best, of_the_processors() - before)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="files and folders to read instead")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines to read")
    parser.add_argument("--repeats", type=int, default=1, help="passes, of which the best counts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    files = files_under(given.paths or folders(), Settings())
    chosen = some(files, given.lines)
    start = started(10 * given.repeats)
    result: dict[str, Any] = {"as the command does it": measure(chosen, given.repeats)}
    with patch.object(one, "may_matter", return_value=True):
        result["every file parsed"] = measure(chosen, given.repeats)
    result[f"{given.jobs} processes"] = measure(chosen, given.repeats, jobs=given.jobs)
    with tempfile.TemporaryDirectory() as folder:
        result["into a cache"] = measure(chosen, 1, cache=folder)
        result["from a cache"] = measure(chosen, given.repeats, cache=folder)
    print("s/million: seconds of one core for a million lines; clock: by the clock.")
    print(f"{'':24} {'files':>6} {'lines':>10} {'lines/s':>9} {'s/million':>9} {'clock':>6}")
    for name, row in result.items():
        print(
            f"{name:24} {row['files']:6,} {row['lines']:10,} {row['lines_per_second']:9,.0f}",
            f"{row['seconds_per_million']:9.1f} {row['wall_seconds']:6.1f}",
        )
    seconds = result["as the command does it"]["seconds_per_million"]
    print(f"a million lines: {seconds:.1f} s, under {BOUND:.0f}: {verdict(seconds < BOUND)}")
    over = start["start"]
    print(f"the start: {over:.3f} s over Python's own, under {START_BOUND}:", end=" ")
    print(verdict(over < START_BOUND))
    if given.json:
        write_text(given.json, json.dumps(result | {"start": start}, indent=2) + "\n")


def verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "NOT REACHED"


if __name__ == "__main__":
    main()
