"""How fast dropout is, beside a plain multiply of the same arrays and beside other libraries.

    python -m benchmarks.dropout_speed [--json FILE] [--page FILE] [--beside FILE] [--repeats 15]
        [--quickest]

Run from the root of the checkout. Prints billions of elements a second: medians over timings in
which all take turns. Whoever takes an output array is given one, the same one; F.dropout and JAX
take none and make theirs. "compiled" is F.dropout in a function under torch.compile; "numpy" is
random, compare, multiply, scale, and has one thread always, like numpy.multiply. JAX runs in
processes of its own, held to as many processors as it may have threads.

The plain multiply reads x and writes y and does nothing else: the limit of what dropout can reach.
It is numpy.multiply or torch.mul, whichever is faster.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import thinned
from benchmarks.measuring import goals
from benchmarks.measuring.goals import MULTIPLY
from benchmarks.measuring.jax_process import JaxProcess
from benchmarks.measuring.page import page
from benchmarks.measuring.peers import DTYPES, Arrays, set_threads, timers
from benchmarks.measuring.timing import (
    Figure,
    Timer,
    command_line,
    interleaved,
    load_average,
    machine,
    of_call,
    table,
    write_json,
    write_text,
)
from thinned import _native, kernel

SIZES = {"4k": 2**12, "256k": 2**18, "1M": 2**20, "16M": 2**24}
RATES = (0.1, 0.5)
THREADS = (1, 2)
# The largest arrays are also measured at rates between and beyond.
MORE_RATES = (0.01, 0.2, 0.25, 0.3, 0.75, 0.9)
# Longer than OpenMP's threads spin after their work; with one thread there are none.
REST = {1: 0.0, 2: 0.008}
FEW = 128

AT = thinned.Address(seed=0, site="fc1", step=7)


def against_peers(repeats: int, figure: Figure) -> list[goals.Row]:
    """A row for each dtype, size, p and number of threads."""
    rows: list[goals.Row] = []
    for threads in THREADS:
        set_threads(threads)
        jax = JaxProcess(threads)
        for dtype in DTYPES:
            for size, n in SIZES.items():
                arrays = Arrays(n, dtype)
                for p in RATES:
                    seconds = interleaved(
                        timers(arrays, p, jax), repeats, settle=REST[threads], figure=figure
                    )
                    rate = {name: n / s / 1e9 for name, s in seconds.items()}
                    rows.append(
                        {"dtype": dtype, "size": size, "p": p, "threads": threads, "rate": rate}
                    )
        jax.close()
    return rows


def at_more_rates(repeats: int, figure: Figure) -> dict[float, float]:
    """thinned's speed as a part of the plain multiply's, for p from near 0 to near 1: 16M float32,
    two threads."""
    set_threads(2)
    arrays = Arrays(SIZES["16M"], "float32")
    calls: dict[float, Callable[[], object]] = {
        p: lambda p=p: thinned.dropout(arrays.x, p, AT, out=arrays.y)  # type: ignore[misc]
        for p in sorted({*MORE_RATES, *RATES})
    }
    timed = {f"{p}": of_call(call) for p, call in calls.items()}
    timed["numpy.multiply"] = of_call(lambda: np.multiply(arrays.x, np.float32(2), out=arrays.y))
    timed["torch.mul"] = of_call(lambda: torch.mul(arrays.torch_x, 2.0, out=arrays.torch_y))
    seconds = interleaved(timed, repeats, settle=REST[2], figure=figure)
    limit = min(seconds[name] for name in MULTIPLY)
    return {p: limit / seconds[f"{p}"] for p in calls}


def each_kernel(repeats: int, figure: Figure) -> dict[str, dict[str, float]]:
    """Billions of elements a second of every kernel that runs here: 256k float32, one thread."""
    set_threads(1)
    arrays = Arrays(SIZES["256k"], "float32")
    usual = thinned.kernel_info().name
    names = [name for name in thinned.kernel_info().runnable if name != kernel.REFERENCE]

    def by(name: str, p: float) -> Timer:
        call = of_call(lambda: thinned.dropout(arrays.x, p, AT, out=arrays.y))

        def seconds(calls: int) -> float:
            kernel.use_kernel(name)
            return call(calls)

        return seconds

    timed = {f"{name} {p}": by(name, p) for name in names for p in RATES}
    try:
        taken = interleaved(timed, repeats, figure=figure)
    finally:
        kernel.use_kernel(usual)
    rate = {name: SIZES["256k"] / s / 1e9 for name, s in taken.items()}
    return {name: {f"{p}": rate[f"{name} {p}"] for p in RATES} for name in names}


def few_elements(repeats: int, figure: Figure) -> dict[str, float]:
    """Microseconds a call on 128 float32 elements, p = 0.1: what a call costs by itself."""
    set_threads(1)
    a = Arrays(FEW, "float32")
    p, t = 0.1, round(0.1 * 2**32)
    law, kind, op = _native.Law.bernoulli, _native.Type.float32, _native.Op.scale
    scale, seed, site, step, call = 1 / (1 - p), AT.seed, AT.site, AT.step, AT.call
    # fmt: off
    calls: dict[str, Callable[[], object]] = {
        "compiled function": lambda: _native.apply(
            a.x, a.y, None, law, kind, op, scale, 0.0, seed, site, step, call,
            t, False, 0, None, 0),
        "thinned.dropout": lambda: thinned.dropout(a.x, p, AT, out=a.y),
        "thinned.dropout, a new Address each time": lambda: thinned.dropout(
            a.x, p, thinned.Address(seed=0, site="fc1", step=7), out=a.y),
        "F.dropout": lambda: functional.dropout(a.torch_x, p, training=True),
        "numpy.multiply": lambda: np.multiply(a.x, np.float32(2), out=a.y),
    }
    # fmt: on
    taken = interleaved({name: of_call(c) for name, c in calls.items()}, 2 * repeats, figure=figure)
    return {name: 1e6 * s for name, s in taken.items()}


def elsewhere(quickest: bool) -> dict[str, float]:
    """How many times as fast as JAX's and PyTorch's own, by the benchmarks of those."""
    told: dict[str, Any] = {}
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("jax_dropout", "torch_attention"):
            file = Path(folder) / f"{name}.json"
            asked = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
            asked += ["--quickest"] if quickest else []
            subprocess.run(asked, cwd=root, check=True, stdout=subprocess.DEVNULL)
            told[name] = json.loads(file.read_text(encoding="utf-8"))
    times = {}
    for row in told["jax_dropout"]["rows"]:
        if row["p"] == 0.1:
            taken = row["milliseconds"]
            times[f"jax, {row['pass']}"] = taken["bernoulli and where"] / taken["thinned, kernel"]
    attention = told["torch_attention"]["measured"]["plain"]["forward and backward"]
    return {**times, "attention": attention["times as fast"]}


def extra_memory() -> dict[str, Any] | None:
    """What extra_memory.py says; None where the system does not count pages in that way."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    asked = [sys.executable, "-m", "benchmarks.measuring.extra_memory"]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def show(result: dict[str, Any]) -> None:
    """The tables."""
    told = result["machine"]
    print(", ".join(f"{name} {told[name]}" for name in told if told[name] is not None))
    names = ["thinned", *MULTIPLY, "F.dropout", "compiled", "jax", "numpy"]
    for dtype in DTYPES:
        lines = []
        for row in result["rows"]:
            if row["dtype"] != dtype:
                continue
            rate = row["rate"]
            ratios = goals.ratios(row)
            lines.append(
                [row["size"], f"{row['p']}", f"{row['threads']}"]
                + [f"{rate[name]:.3f}" for name in names]
                + [f"{ratios['multiply']:.2f}"]
                + [f"{ratios[name]:.0f}" for name in ("F.dropout", "compiled", "jax")]
            )
        columns = ["elements", "p", "threads", *names]
        columns += ["/multiply", "/F.dropout", "/compiled", "/jax"]
        table(f"{dtype}: billions of elements a second; thinned / others", columns, lines)
    table(
        "16M float32, two threads: thinned / plain multiply",
        ["p", *map(str, result["more_rates"])],
        [["", *(f"{r:.2f}" for r in result["more_rates"].values())]],
    )
    table(
        "Each kernel, 256k float32, one thread: billions of elements a second",
        ["kernel", *(f"p = {p}" for p in RATES)],
        [[name, *(f"{r:.2f}" for r in rate.values())] for name, rate in result["kernels"].items()],
    )
    table(
        f"{FEW} float32 elements, p = 0.1",
        ["", "microseconds a call"],
        [[name, f"{us:.2f}"] for name, us in result["few_elements"].items()],
    )
    table(
        "Goals",
        ["goal", "at least / below", "measured", "where", ""],
        [
            [g["goal"], g["bound"], f"{g['measured']:.3g}", g["where"], g["verdict"]]
            for g in result["goals"]
        ],
    )


def main() -> None:
    """Measure, print, and write where --json says."""
    parser = command_line(__doc__, repeats=15)
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the figures as Markdown")
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="put the figures that another run wrote by --json on the page too",
    )
    chosen = parser.parse_args()
    others = [json.loads(file.read_text(encoding="utf-8")) for file in chosen.beside]
    described = machine("thinned", "numpy", "torch", "jax", "ml_dtypes")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    result: dict[str, Any] = {
        "unit": "billions of elements a second",
        "of the timings": "the quickest" if chosen.figure is min else "the median",
        "machine": described,
        "kernel": thinned.kernel_info().name,
        "rows": against_peers(chosen.repeats, chosen.figure),
        "more_rates": at_more_rates(chosen.repeats, chosen.figure),
        "kernels": each_kernel(chosen.repeats, chosen.figure),
        "few_elements": few_elements(chosen.repeats, chosen.figure),
        "extra_memory": extra_memory(),
        "elsewhere": elsewhere(chosen.figure is min),
    }
    described["load at the end"] = load_average()
    result["goals"] = goals.judge(result)
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)
    if chosen.page is not None:
        write_text(chosen.page, page([result, *others]))


if __name__ == "__main__":
    main()
