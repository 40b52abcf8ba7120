"""Attention with dropout on its weights: thinned's and PyTorch's, in time and in memory.

    python -m benchmarks.torch_attention [--json FILE] [--repeats 25] [--quickest]

Run from the root of the checkout. 8 samples of 8 heads of 512 tokens, head width 64, float32, on
the CPU. Prints medians over timings in which all take turns, how many times as fast thinned is (the
median over rounds of their ratio), and how far the memory in use rose
during one forward and backward pass, each in a process of its own (Linux).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import thinned.torch.attention.functional
from benchmarks.measuring.in_processes import peaks
from benchmarks.measuring.timing import (
    Figure,
    command_line,
    figures,
    in_rounds,
    load_average,
    machine,
    of_call,
    ratio,
    table,
    write_json,
)

SAMPLES, HEADS, TOKENS, WIDTH = 8, 8, 512, 64
P = 0.1
# At least so many times as fast as PyTorch's with dropout, forward and backward.
BOUND = 3.0
OURS, THEIRS, NONE = "thinned, p = .1", "PyTorch, p = .1", "PyTorch, no dropout"

# What is timed beside the plain case, by name: arguments of both functions.
CASES: dict[str, dict[str, Any]] = {"plain": {}, "causal": {"is_causal": True}}


def _inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (SAMPLES, HEADS, TOKENS, WIDTH)
    return [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]


def attention(name: str, case: str) -> Callable[..., Tensor]:
    """One of the three, as a function of query, key and value."""
    more = CASES[case]
    if name == OURS:
        ours = thinned.torch.attention.functional.scaled_dot_product_attention
        return lambda q, k, v: ours(q, k, v, p=P, training=True, **more)
    p = P if name == THEIRS else 0.0
    theirs = functional.scaled_dot_product_attention
    return lambda q, k, v: theirs(q, k, v, dropout_p=p, **more)


def passes(name: str, case: str, inputs: list[Tensor]) -> dict[str, Callable[[], object]]:
    """The forward pass alone, and with its backward pass."""
    attend = attention(name, case)
    upstream = torch.ones(inputs[0].shape)

    def forward() -> Tensor:
        with torch.no_grad():
            return attend(*inputs)

    def both() -> object:
        return torch.autograd.grad(attend(*inputs), inputs, upstream)

    return {"forward": forward, "forward and backward": both}


def measured(repeats: int, figure: Figure) -> dict[str, dict[str, dict[str, Any]]]:
    """By case and pass: milliseconds by name, and how many times as fast as PyTorch's."""
    inputs = _inputs()
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for case in CASES:
        calls = {name: passes(name, case, inputs) for name in (OURS, THEIRS, NONE)}
        told[case] = {}
        for which in ("forward", "forward and backward"):
            timers = {name: of_call(calls[name][which]) for name in calls}
            rounds = in_rounds(timers, repeats, budget=20.0, settle=0.01)
            told[case][which] = {
                "milliseconds": {name: 1e3 * s for name, s in figures(rounds, figure).items()},
                "times as fast": ratio(rounds, THEIRS, OURS),
            }
    return told


def a_pass(name: str) -> Callable[[], object]:
    """Forward and backward, with threads and libraries there already."""
    both = passes(name, "plain", _inputs())["forward and backward"]
    both()
    return both


def show(result: dict[str, Any]) -> None:
    rows = []
    for case, by_pass in result["measured"].items():
        for which, told in by_pass.items():
            taken, times = told["milliseconds"], told["times as fast"]
            verdict = "reached" if times >= BOUND else "NOT REACHED"
            goal = f"at least {BOUND:.0f}: {verdict}" if "backward" in which else ""
            row = [case, which, *(f"{taken[n]:.1f}" for n in taken), f"{times:.2f}", goal]
            rows.append(row)
    columns = ["case", "pass, milliseconds", OURS, THEIRS, NONE, "times as fast", "goal"]
    table("Attention: 8 x 8 heads of 512 tokens, float32", columns, rows)
    memory = result["peak_bytes"]
    if memory is not None:
        shown = [[name, f"{size / 2**20:.0f}"] for name, size in memory.items()]
        table("Memory beside the inputs, forward and backward", ["", "MiB at most"], shown)


def main() -> None:
    chosen = command_line(__doc__, repeats=25).parse_args()
    described = machine("thinned", "torch")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    result: dict[str, Any] = {
        "machine": described,
        "threads": torch.get_num_threads(),
        "shape": [SAMPLES, HEADS, TOKENS, WIDTH],
        "measured": measured(chosen.repeats, chosen.figure),
        "peak_bytes": peaks(a_pass, (OURS, THEIRS, NONE)),
    }
    described["load at the end"] = load_average()
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
