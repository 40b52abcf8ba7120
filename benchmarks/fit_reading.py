"""How long `thinned fit` takes to read a CSV, beside pandas, and how much memory.

    python -m benchmarks.fit_reading [--rows 200000] [--columns 50] [--letter α] [--json FILE]

Run from the root of the checkout. Each way of reading runs in a process of its own, the one after
the other, `--repeats` times; the least of the seconds counts, of the processor, to which other
programs matter little. "load" is all that `thinned fit` does with a file before it trains: reading,
finding out how columns are written, and choosing those to learn from. Memory is the most that a
process held (Linux says it), less what it held with the libraries loaded, over that of the table
as float64. With --letter the column before the last holds texts, each with that letter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measuring.timing import write_text

WAYS = {
    "pandas": "pd.read_csv(path)",
    "read": "read(Path(path))",
    "load": "load(path, 'y')",
}
PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np, pandas as pd, pyarrow, pyarrow.compute, sklearn.model_selection
from thinned.fit.files import read
from thinned.fit.tables import load
path = sys.argv[1]
load(sys.argv[2], "y")
# The most that this program held; what getrusage says counts the one that started it too.
held = lambda: next(
    int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")
)
before, start = held(), time.process_time()
kept = {way}
print(time.process_time() - start, (held() - before) * 1024)
"""
BOUND, MEMORY_BOUND = 3.0, 2.5


def write(path: Path, rows: int, columns: int, letter: str = "") -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{i}": rng.normal(size=rows).round(6) for i in range(columns - 1)})
    if letter:
        words = np.array([f"{letter}{i:07d}" for i in range(50)])
        frame[frame.columns[-1]] = words[rng.integers(0, len(words), rows)]
    frame.assign(y=rng.integers(0, 2, rows)).to_csv(path, index=False)


def measured(way: str, path: Path, small: Path) -> tuple[float, float]:
    """Seconds of the processor, and bytes."""
    program = PROGRAM.replace("{way}", WAYS[way])
    command = [sys.executable, "-c", program, str(path), str(small)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, held = map(float, out.split())
    return seconds, held


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--letter", default="")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder, "table.csv"), Path(folder, "small.csv")
        write(path, asked.rows, asked.columns, asked.letter)
        write(small, 100, asked.columns, asked.letter)
        table = 8.0 * asked.rows * asked.columns
        found = {}
        for way in WAYS:
            runs = [measured(way, path, small) for _ in range(asked.repeats)]
            found[way] = {
                "seconds": min(seconds for seconds, _ in runs),
                "tables": min(held for _, held in runs) / table,
            }
        lines = [f"{asked.rows:,} rows x {asked.columns} columns, {path.stat().st_size:,} bytes"]
    for way, one in found.items():
        ratio = one["seconds"] / found["pandas"]["seconds"]
        lines.append(
            f"{way:>8}: {one['seconds']:6.2f} s ({ratio:.2f} of pandas), "
            f"{one['tables']:.2f} times the table"
        )
    print("\n".join(lines))
    print(f"bounds: {BOUND:g} of pandas, {MEMORY_BOUND:g} times the table")
    if asked.json is not None:
        write_text(asked.json, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
