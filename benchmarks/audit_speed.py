"""How long `thinned audit` takes for a million lines, on one core.

    python -m benchmarks.audit_speed [--json FILE] [--repeats 3]

Run from the root of the checkout. Read are packages that are installed beside Thinned, code of many
hands, until the lines reach --lines. Once as the command does it, which parses only files
that name a framework and a word of dropout's; and once with every file parsed and every rule asked,
the most that code can cost. Seconds are those of the processor, to which other programs matter
little; the clock's stand beside them.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measuring.timing import write_text
from thinned.audit import running
from thinned.audit.settings import Settings
from thinned.audit.walking import files_under

# The ones that use dropout first, then large ones that do not.
PACKAGES = ("torch", "flax", "equinox", "jax", "optax", "torchmetrics", "sklearn", "scipy", "sympy")
# Seconds for a million lines.
BOUND = 60.0


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


def measure(files: list[str], repeats: int) -> dict[str, Any]:
    """The quickest of some audits of the files, in this process."""
    best = wall = float("inf")
    for _ in range(repeats):
        start, before = time.process_time(), time.perf_counter()
        report = running.audit(files)
        best = min(best, time.process_time() - start)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines to read")
    parser.add_argument("--repeats", type=int, default=1, help="passes, of which the best counts")
    given = parser.parse_args()
    files = files_under(folders(), Settings())
    chosen = some(files, given.lines)
    result = {"as the command does it": measure(chosen, given.repeats)}
    with patch.object(running, "may_matter", return_value=True):
        result["every file parsed"] = measure(chosen, given.repeats)
    print("One process; s/million: seconds of one core for a million lines; clock: by the clock.")
    print(f"{'':24} {'files':>6} {'lines':>10} {'lines/s':>9} {'s/million':>9} {'clock':>6}")
    for name, row in result.items():
        verdict = "reached" if row["seconds_per_million"] < BOUND else "NOT REACHED"
        print(
            f"{name:24} {row['files']:6,} {row['lines']:10,} {row['lines_per_second']:9,.0f}",
            f"{row['seconds_per_million']:9.1f} {row['wall_seconds']:6.1f}",
            f" under {BOUND:.0f}: {verdict}",
        )
    if given.json:
        write_text(given.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
