"""How long Thinned takes to start: `import thinned`, a first mask, `thinned audit` of one file.

    python -m benchmarks.starting [--json FILE] [--repeats 21] [--quickest]

Run from the root of the checkout. Each start is a process of its own, and they take turns. All find
their modules compiled to bytecode, as an installer leaves them: a first round that is not counted
compiles, into a folder that goes with the run. What counts is the time beyond that of Python itself
(`python -c pass`), for a start's share of it is no import's; --quickest wants some more repeats.

- import numpy: what every first mask needs, and the measure of `import thinned`.
- first mask: `import thinned` and one call of `thinned.dropout`: what a lazy import leaves to do.
- audit: what the installed command `thinned` runs, on a file of a few lines that has a finding.
- audit, refused: the same with an option that does not exist, which the whole command line reads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measuring.timing import (
    Timer,
    command_line,
    figures,
    in_rounds,
    machine,
    table,
    write_json,
)

PYTHON, NUMPY, THINNED, MASK, AUDIT, REFUSED = (
    "python -c pass", "import numpy", "import thinned", "first mask", "thinned audit",
    "thinned audit, refused",
)  # fmt: skip
# `import thinned` over `import numpy`, and the seconds of an audit, both beyond Python's own.
TIMES, SECONDS = 1.5, 0.15

FILE = """\
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.2)
"""
DRAWN = "import numpy, thinned; thinned.dropout(numpy.ones(8), 0.5, thinned.Address(seed=0))"
# What an installer writes into the file `thinned` of an environment.
SCRIPT = "import sys; from thinned.cli.main import main; sys.exit(main())"


def started(arguments: list[str], code: int, environment: Mapping[str, str]) -> Timer:
    """The timer of a fresh Python with these arguments, which has to end with this exit code."""
    command = [sys.executable, *arguments]

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode != code:
                raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
        return time.perf_counter() - start

    return seconds


def timers(folder: Path) -> dict[str, Timer]:
    """Every start by name; what they compile and read lies in `folder`."""
    file = folder / "net.py"
    file.write_text(FILE, encoding="utf-8")
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(folder / "compiled"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    starts = {
        PYTHON: (["-c", "pass"], 0),
        NUMPY: (["-c", "import numpy"], 0),
        THINNED: (["-c", "import thinned"], 0),
        MASK: (["-c", DRAWN], 0),
        AUDIT: (["-c", SCRIPT, "audit", str(file)], 1),
        REFUSED: (["-c", SCRIPT, "audit", str(file), "--no-such-option"], 2),
    }
    return {name: started(*start, environment) for name, start in starts.items()}


def beyond_python(seconds: Mapping[str, float]) -> dict[str, float]:
    """What each takes on top of a Python that does nothing."""
    return {name: taken - seconds[PYTHON] for name, taken in seconds.items()}


def judged(beyond: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Each goal: what is meant, the bound, and what was measured."""
    return [
        ("import thinned over import numpy", TIMES, beyond[THINNED] / beyond[NUMPY]),
        ("seconds of thinned audit beyond Python", SECONDS, beyond[AUDIT]),
    ]


def main() -> None:
    """Print the tables, and write them where --json says."""
    chosen = command_line(__doc__, repeats=21).parse_args()
    told = machine("thinned", "numpy", "typer")
    with tempfile.TemporaryDirectory(prefix="thinned-bench-") as folder:
        rounds = in_rounds(timers(Path(folder)), chosen.repeats, budget=600.0)
    seconds = figures(rounds, chosen.figure)
    beyond = beyond_python(seconds)
    goals = judged(beyond)
    table(
        "Starting: milliseconds of a fresh process",
        ["", "whole", "beyond Python", "over NumPy"],
        [
            [name, f"{1e3 * seconds[name]:.0f}", f"{1e3 * b:.0f}", f"{b / beyond[NUMPY]:.2f}"]
            for name, b in beyond.items()
        ],
    )
    table(
        "What was meant, and what is",
        ["", "at most", "measured", ""],
        [
            [what, f"{most:g}", f"{is_:.3f}", "reached" if is_ <= most else "NOT REACHED"]
            for what, most, is_ in goals
        ],
    )
    if chosen.json is not None:
        found = {
            "repeats": chosen.repeats,
            "seconds": seconds,
            "seconds_beyond_python": beyond,
            "goals": [
                {"goal": what, "at_most": most, "measured": is_, "reached": is_ <= most}
                for what, most, is_ in goals
            ],
            "machine": told,
        }
        write_json(chosen.json, found)


if __name__ == "__main__":
    main()
