"""What every benchmark shares: interleaved timings, the machine's description, tables and JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinned.fit.folder import whole_file

__all__ = [
    "Figure",
    "Timer",
    "command_line",
    "figures",
    "in_rounds",
    "interleaved",
    "machine",
    "of_call",
    "ratio",
    "table",
    "write_json",
    "write_text",
]

# Seconds that so many calls take. A timer may run elsewhere: in a process of its own, say.
Timer = Callable[[int], float]
Figure = Callable[[Sequence[float]], float]

# A timing shorter than this is mostly the clock's own noise; a longer one gains nothing.
SECONDS_PER_TIMING = 0.004
# A call as long as this has no use for another one before it that goes untimed.
LONG_CALL = 0.02


def of_call(call: Callable[[], object]) -> Timer:
    """The timer of a function without arguments."""

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start

    return seconds


def _calls_per_timing(timer: Timer, shortest: float) -> tuple[int, float]:
    """How many calls make one timing, and how long one call takes. The first call is not counted:
    it may compile, and touches its memory for the first time."""
    timer(1)
    calls = 1
    while (taken := timer(calls)) < shortest / 4 and calls < 10**6:
        calls *= 4
    one = taken / calls
    return max(1, round(shortest / one)), one


# Seconds a call of each timer in each round, None where it did not take part.
Rounds = Mapping[str, Sequence[float | None]]


def in_rounds(
    timers: Mapping[str, Timer],
    rounds: int = 15,
    budget: float = 0.5,
    settle: float = 0.0,
    shortest: float = SECONDS_PER_TIMING,
) -> dict[str, list[float | None]]:
    """Seconds of a call of each timer, round by round, all taken in the same stretch of time.

    The timers take turns, so that whatever slows the machine for a while slows them all, and each
    round begins with another of them. A slow one takes part in fewer rounds, spread over all.

    Parameters
    ----------
    timers : what to measure, by name.
    rounds : timings of each, at most. Never fewer than 3.
    budget : seconds, about, that one timer may take in all.
    settle : seconds of rest before each timing. OpenMP's threads go on spinning for some
        milliseconds after their work is done, on the processors that the next one needs.
    shortest : seconds, about, that one timing of a fast call shall take.
    """
    calls: dict[str, int] = {}
    turns: dict[str, int] = {}
    long: dict[str, bool] = {}
    for name, timer in timers.items():
        time.sleep(settle)
        calls[name], one = _calls_per_timing(timer, shortest)
        long[name] = one > LONG_CALL
        turns[name] = min(rounds, max(3, int(budget / (one * calls[name]))))
    names = list(timers)
    taken: dict[str, list[float | None]] = {name: [None] * rounds for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if turn * turns[name] % rounds >= turns[name]:
                continue
            time.sleep(settle)
            if not long[name]:
                timers[name](1)  # wakes the threads, and brings the arrays into the cache
            taken[name][turn] = timers[name](calls[name]) / calls[name]
    return taken


def figures(rounds: Rounds, figure: Figure = statistics.median) -> dict[str, float]:
    """One number for the timings of each; `figure` is `min` where others use the machine too."""
    return {
        name: figure([one for one in seconds if one is not None])
        for name, seconds in rounds.items()
    }


def ratio(rounds: Rounds, name: str, base: str) -> float:
    """The median of how many times as long as `base` it took in the same round: what slows the
    machine for longer than a round falls out."""
    pairs = zip(rounds[name], rounds[base], strict=True)
    return statistics.median([a / b for a, b in pairs if a is not None and b is not None])


def interleaved(
    timers: Mapping[str, Timer],
    rounds: int = 15,
    budget: float = 0.5,
    settle: float = 0.0,
    shortest: float = SECONDS_PER_TIMING,
    figure: Figure = statistics.median,
) -> dict[str, float]:
    """The `figures` of timings `in_rounds`."""
    return figures(in_rounds(timers, rounds, budget, settle, shortest), figure)


def _processor() -> str:
    """The processor by its maker's name for it, with what tells models of one name apart."""
    try:
        if sys.platform == "linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
            told = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            name = told.get("model name", platform.machine())
            if "cpu family" in told and "model" in told:
                name += f" (family {told['cpu family']}, model {told['model']})"
            return name
        if sys.platform == "darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """Processes that wanted a processor over the last minute; None where nobody counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine(*packages: str) -> dict[str, Any]:
    """The machine and the versions that figures belong to."""
    told: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": load_average(),
        "python": platform.python_version(),
    }
    for package in packages:
        told[package] = importlib.metadata.version(package)
    return told


def command_line(description: str | None, repeats: int = 15) -> argparse.ArgumentParser:
    """The command line of a benchmark: --json FILE, --repeats N and --quickest."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    parser.add_argument("--repeats", type=int, default=repeats, help="timings to take medians over")
    parser.add_argument(
        "--quickest",
        dest="figure",
        action="store_const",
        const=min,
        default=statistics.median,
        help="the quickest timing instead of the median: for a machine that others use too",
    )
    return parser


def write_json(file: Path, result: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(result, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """The whole text, or what was there before: figures are compared by their files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole_file(file, lambda made: made.write_text(text, encoding="utf-8"))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, by rich where it is installed."""
    rows = [list(row) for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        print(f"\n{title}")
        for row in [list(columns), *rows]:
            cells = zip(row, widths, strict=True)
            print("  ".join(cell.rjust(width) for cell, width in cells))
        return
    shown = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    # A pipe has no width of its own, and rich would fold the columns into 80 characters.
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
