"""Structured masks beside the same methods as other libraries have them: forward, and both ways.

    python -m benchmarks.structured [--json FILE] [--repeats 25] [--quickest]

Run from the root of the checkout. Microseconds a call in float32 on the CPU, medians over timings
in which all take turns. The others are written down here as plain PyTorch, as their libraries need
not be there: DropBlock as torchvision computes it, drop_path as timm does, stochastic depth as
torchvision does for a batch. "backward" is the whole of it: forward, then backward from a gradient
that is there. Ours take another address at each call, as theirs take another state of the
generator; as modules, both are called through torch.nn.Module. NumPy stands beside, forward alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import thinned
import thinned.torch
from benchmarks.measuring.timing import (
    Figure,
    command_line,
    interleaved,
    load_average,
    machine,
    of_call,
    table,
    write_json,
)

P, BLOCK = 0.1, 7
MAPS = ((32, 64, 56, 56), (32, 256, 14, 14))
BRANCHES = ((32, 197, 768), (128, 64))
OURS, PEER, NUMPY = "thinned", "peer", "thinned, NumPy"
# Addresses that calls take in turn: as many as make every share of dropped rows its part.
ADDRESSES = 64

Row = dict[str, Any]  # method, form, what, shape, and microseconds by name
Call = Callable[[Tensor], Tensor]


def block_of_torchvision(x: Tensor) -> Tensor:
    """Seeds where a block fits, spread by a maximum over the block, one scale for the batch."""
    *_, h, w = x.shape
    places = h - BLOCK + 1, w - BLOCK + 1
    gamma = P * h * w / (BLOCK**2 * places[0] * places[1])
    seeds = torch.empty(*x.shape[:2], *places, dtype=x.dtype).bernoulli_(gamma)
    padded = functional.pad(seeds, [BLOCK // 2] * 4)
    keep = 1 - functional.max_pool2d(padded, BLOCK, 1, BLOCK // 2)
    return x * keep * (keep.numel() / (1e-6 + keep.sum()))


def path_of_timm(x: Tensor) -> Tensor:
    """A gate for each sample, made to scale, times x."""
    gates = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1 - P)
    return x * gates.div_(1 - P)


def depth_of_torchvision(x: Tensor) -> Tensor:
    """One gate for the batch, made to scale, times x."""
    gate = torch.empty([1] * x.dim(), dtype=x.dtype, device=x.device).bernoulli_(1 - P)
    return x * gate.div_(1 - P)


class AsModule(nn.Module):
    """A function in training, as those libraries wrap it."""

    def __init__(self, function: Call) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.training else x


def at_addresses(function: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    addresses = itertools.cycle([thinned.Address(seed=i, site="s") for i in range(ADDRESSES)])
    return lambda x: function(x, P, next(addresses), **options)


# Method, shapes, ours, the peer's.
CASES: tuple[tuple[str, Any, Callable[..., Any], dict[str, Any], str, Call], ...] = (
    ("drop_block", MAPS, thinned.drop_block, {"block_size": BLOCK}, "DropBlock",
     block_of_torchvision),
    ("drop_path", BRANCHES, thinned.drop_path, {}, "DropPath", path_of_timm),
    ("stochastic_depth", BRANCHES, thinned.stochastic_depth, {}, "StochasticDepth",
     depth_of_torchvision),
)  # fmt: skip


def forward(call: Call, shape: tuple[int, ...]) -> Callable[[], object]:
    x = torch.randn(shape)
    return lambda: call(x)


def backward(call: Call, shape: tuple[int, ...]) -> Callable[[], object]:
    x, grad = torch.randn(shape, requires_grad=True), torch.ones(shape)

    def both() -> None:
        x.grad = None
        call(x).backward(grad)

    return both


def measure(repeats: int, figure: Figure) -> list[Row]:
    """A row for each method, form, kind of pass and shape."""
    rows: list[Row] = []
    for method, shapes, function, options, module, peer in CASES:
        ours = at_addresses(function, **options)
        made = getattr(thinned.torch, module)(P, **options)
        for shape in shapes:
            array = np.random.default_rng(0).standard_normal(shape, np.float32)
            for form, pair in (("function", (ours, peer)), ("module", (made, AsModule(peer)))):
                for what, passes in (("forward", forward), ("backward", backward)):
                    timers = {
                        OURS: of_call(passes(pair[0], shape)),
                        PEER: of_call(passes(pair[1], shape)),
                    }
                    if (form, what) == ("function", "forward"):
                        numpys = at_addresses(function, **options)
                        timers[NUMPY] = of_call(partial(numpys, array))
                    taken = interleaved(timers, repeats, figure=figure)
                    times = {name: 1e6 * s for name, s in taken.items()}
                    rows.append(
                        {"method": method, "form": form, "what": what, "shape": shape, "us": times}
                    )
    return rows


def verdict(row: Row) -> str:
    return "not slower" if row["us"][OURS] <= row["us"][PEER] else "SLOWER"


def show(result: dict[str, Any]) -> None:
    lines = []
    for row in result["rows"]:
        us = row["us"]
        times = [f"{us[name]:.1f}" if name in us else "" for name in (OURS, PEER, NUMPY)]
        shape = " x ".join(map(str, row["shape"]))
        ratio = f"{us[PEER] / us[OURS]:.2f}"
        lines.append([row["method"], row["form"], row["what"], shape, *times, ratio, verdict(row)])
    columns = ["", "", "", "shape", OURS, PEER, NUMPY, "times as fast", "goal"]
    table(f"microseconds a call, p = {P}, {result['threads']} threads", columns, lines)


def main() -> None:
    """Measure, print, and write where --json says."""
    chosen = command_line(__doc__, repeats=25).parse_args()
    described = machine("thinned", "torch", "numpy")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    rows = measure(chosen.repeats, chosen.figure)
    described["load at the end"] = load_average()
    result = {"machine": described, "threads": torch.get_num_threads(), "rows": rows}
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
