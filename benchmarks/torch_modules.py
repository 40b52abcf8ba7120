"""One dropout module alone, thinned's beside torch.nn's: forward, and forward and backward.

    python -m benchmarks.torch_modules [--json FILE] [--repeats 25] [--quickest] [--device cpu]

Run from the root of the checkout. Microseconds a call in float32, from 1,024 elements to 1M, on a
GPU (--device cuda) to 16M, in eager mode and under torch.compile: medians over timings in which all
take turns. "backward" is the whole of it: forward, then backward from a gradient that is there.
Beside them stands relu's, which says what autograd itself costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import thinned.torch
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
)

THINNED, TORCH, RELU = "thinned", "torch.nn", "relu"
SIZES = {"1k": 2**10, "16k": 2**14, "256k": 2**18, "1M": 2**20}
FURTHER = {"16M": 2**24}
RATES = (0.1, 0.5)
LARGE = ("256k", "1M")
# How many times as fast as torch.nn's, forward and backward together.
BOUND = {"1k": 1.0, "16k": 1.0, "256k": 12.0, "1M": 12.0}
# Longer than OpenMP's threads spin after their work.
REST = 0.008

Row = dict[str, Any]  # device, mode, what, size, p, and microseconds by name


def modules(p: float) -> dict[str, Callable[[Tensor], Tensor]]:
    return {THINNED: thinned.torch.Dropout(p), TORCH: nn.Dropout(p), RELU: nn.ReLU()}


def forward(module: Callable[[Tensor], Tensor], n: int, device: str) -> Callable[[], object]:
    x = torch.randn(n, device=device)
    return lambda: module(x)


def backward(module: Callable[[Tensor], Tensor], n: int, device: str) -> Callable[[], object]:
    x, grad = torch.randn(n, device=device, requires_grad=True), torch.ones(n, device=device)

    def both() -> None:
        x.grad = None
        module(x).backward(grad)

    return both


def timer(call: Callable[[], object], device: str) -> Timer:
    """Of a call whose work may go on after it returned."""
    seconds = of_call(call)
    if device == "cpu":
        return seconds

    def to_the_end(calls: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        seconds(calls)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    return to_the_end


def measure(mode: str, repeats: int, figure: Figure, device: str) -> list[Row]:
    """A row for each kind of pass, size and p."""
    rows: list[Row] = []
    for size, n in (SIZES if device == "cpu" else SIZES | FURTHER).items():
        for p in RATES:
            for what, passes in (("forward", forward), ("backward", backward)):
                torch.compiler.reset()
                found = modules(p)
                if mode == "compiled":
                    found = {k: torch.compile(m, fullgraph=True) for k, m in found.items()}
                timers = {k: timer(passes(m, n, device), device) for k, m in found.items()}
                spins = device == "cpu" and size in LARGE and torch.get_num_threads() > 1
                rest = REST if spins else 0.0
                taken = interleaved(timers, repeats, settle=rest, figure=figure)
                times = {name: 1e6 * s for name, s in taken.items()}
                at = {"device": device, "mode": mode, "what": what, "size": size, "p": p}
                rows.append({**at, "us": times})
    return rows


def verdict(row: Row) -> str:
    """Of the goals, what this row says."""
    ratio = row["us"][TORCH] / row["us"][THINNED]
    if row["device"] != "cpu":
        return ""
    if row["mode"] == "compiled":
        bound = 1.0
    elif row["what"] == "backward":
        bound = BOUND[row["size"]]
    else:
        return ""
    return f"at least {bound:g}: {'reached' if ratio >= bound else 'NOT REACHED'}"


def show(result: dict[str, Any]) -> None:
    for mode in ("eager", "compiled"):
        lines = []
        for row in result["rows"]:
            if row["mode"] == mode:
                us = row["us"]
                times = [f"{us[name]:.1f}" for name in (THINNED, TORCH, RELU)]
                ratio = f"{us[TORCH] / us[THINNED]:.2f}"
                lines.append([row["what"], row["size"], f"{row['p']}", *times, ratio, verdict(row)])
        columns = ["", "elements", "p", THINNED, TORCH, RELU, "times as fast", "goal"]
        table(f"{mode}: microseconds a call, {result['where']}", columns, lines)


def main() -> None:
    """Measure, print, and write where --json says."""
    parser = command_line(__doc__, repeats=25)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    chosen = parser.parse_args()
    described = machine("thinned", "torch")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    rows = [
        row
        for mode in ("eager", "compiled")
        for row in measure(mode, chosen.repeats, chosen.figure, chosen.device)
    ]
    described["load at the end"] = load_average()
    threads = torch.get_num_threads()
    where = f"{threads} threads" if chosen.device == "cpu" else torch.cuda.get_device_name()
    result = {"machine": described, "threads": threads, "where": where, "rows": rows}
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
