"""What one call of a module costs, beside torch.nn's, on 1,024 elements; of adopted ones too.

    python -m benchmarks.torch_adopted [--json FILE] [--repeats 25] [--quickest]

Run from the root of the checkout. Microseconds a call in float32 on the CPU, p = .1 and .5,
forward, and forward and backward, in eager mode and under torch.compile: medians over timings in
which all take turns, and of them the ratios round by round, which a busy machine moves least. Times
are those of this process on its processors, and not the clock's on the wall. The functional call
stands in a module of its own, as users write it, and so does torch.nn's beside it.

Beside the times stand thinned's own Python frames in one forward: a count, the same on any machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import thinned.torch
from benchmarks.measuring.timing import (
    Figure,
    Timer,
    command_line,
    figures,
    in_rounds,
    load_average,
    machine,
    ratio,
    table,
    write_json,
)

N = 1024
RATES = (0.1, 0.5)
# Whatever is measured, and what it is compared with.
TORCH, OWN_CODE = "torch.nn", "F.dropout in a module"
TORCH_ALPHA, TORCH_CHANNELS = "torch.nn.AlphaDropout", "torch.nn.Dropout1d"
BASE = {
    "drop-in": TORCH,
    "call with at=": TORCH,
    "AlphaDropout": TORCH_ALPHA,
    "Dropout1d": TORCH_CHANNELS,
    "GaussianDropout": TORCH,
    "adopted module": TORCH,
    "adopted call": OWN_CODE,
    "DropPath": TORCH,
    "adopted DropPath": TORCH,
}
# Of the base's time, at most.
GOALS = {("adopted module", "forward"): 0.5, ("adopted module", "both"): 0.7}
FRAMES = {"adopted module": 20, "adopted call": 20}
OURS = os.path.dirname(thinned.__file__) + os.sep

Row = dict[str, Any]  # mode, what, p, and microseconds and ratios by name


class OwnCode(nn.Module):
    """A user's module, which calls the function of PyTorch."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, self.training)


class AtAddress(OwnCode):
    """A user's module, which calls thinned's function at an address."""

    at = thinned.Address(seed=1, site="here")

    def forward(self, x: Tensor) -> Tensor:
        return thinned.torch.functional.dropout(x, self.p, training=self.training, at=self.at)


def adopted(module: nn.Module) -> nn.Module:
    """The module, in a model that was adopted."""
    model = nn.Sequential(nn.Identity(), module)
    thinned.torch.adopt(model, seed=0)
    return module


def modules(p: float) -> dict[str, nn.Module]:
    return {
        TORCH: nn.Dropout(p),
        "drop-in": thinned.torch.Dropout(p),
        "call with at=": AtAddress(p),
        TORCH_ALPHA: nn.AlphaDropout(p),
        "AlphaDropout": thinned.torch.AlphaDropout(p),
        TORCH_CHANNELS: nn.Dropout1d(p),
        "Dropout1d": thinned.torch.Dropout1d(p),
        "GaussianDropout": thinned.torch.GaussianDropout(p),
        "adopted module": adopted(nn.Dropout(p)),
        OWN_CODE: OwnCode(p),
        "adopted call": adopted(OwnCode(p)),
        "DropPath": thinned.torch.DropPath(p),
        "adopted DropPath": adopted(thinned.torch.DropPath(p)),
    }


def timer(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> Timer:
    """The timer of a function without arguments, which counts only what this process has used."""

    def seconds(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            call()
        return clock() - start

    return seconds


def ticking(module: nn.Module, call: Callable[[], object]) -> Callable[[], object]:
    """The call, with the clock's tick now and then: a site counts 2^16 calls in a step at most."""
    parts: list[Any] = list(module.modules())
    clocks = [m.site.clock for m in parts if getattr(m, "site", None) is not None]
    clocks += [m.forward.__self__.clock for m in parts if "forward" in m.__dict__]
    if not clocks:
        return call
    clock, left = clocks[0], 2**15

    def ticked() -> None:
        nonlocal left
        left -= 1
        if not left:
            left = 2**15
            clock.tick()
        call()

    return ticked


def passes(module: nn.Module, what: str) -> Callable[[], object]:
    shape = (8, 4, N // 32)
    x, grad = torch.randn(shape, requires_grad=what == "both"), torch.ones(shape)

    def forward() -> None:
        module(x)

    def both() -> None:
        x.grad = None
        module(x).backward(grad)

    return forward if what == "forward" else both


def frames(call: Callable[[], object]) -> int:
    """How many Python frames of thinned's own one call runs."""
    found = 0

    def seen(frame: Any, event: str, _: Any) -> None:
        nonlocal found
        found += event == "call" and frame.f_code.co_filename.startswith(OURS)

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


def counted() -> dict[str, int]:
    """The frames of each, by name, once its first call is over."""
    found = {}
    for name, module in modules(0.5).items():
        call = passes(module, "forward")
        call()
        found[name] = frames(call)
    return found


def measure(mode: str, repeats: int, figure: Figure) -> list[Row]:
    """A row for each kind of pass and p."""
    rows: list[Row] = []
    for p in RATES:
        for what in ("forward", "both"):
            torch.compiler.reset()
            timers = {}
            for name, module in modules(p).items():
                run: Any = torch.compile(module) if mode == "compiled" else module
                timers[name] = timer(ticking(module, passes(run, what)))
            taken = in_rounds(timers, repeats)
            ratios = {name: ratio(taken, name, base) for name, base in BASE.items()}
            us = {name: 1e6 * seconds for name, seconds in figures(taken, figure).items()}
            rows.append({"mode": mode, "what": what, "p": p, "us": us, "ratios": ratios})
    return rows


def goal_of(row: Row, name: str) -> float | None:
    return GOALS.get((name, row["what"])) if row["mode"] == "eager" else None


def verdict(goal: float | None, measured: float) -> str:
    if goal is None:
        return ""
    return f"at most {goal:g}: {'reached' if measured <= goal else 'NOT REACHED'}"


def show(result: Mapping[str, Any]) -> None:
    lines = [
        [
            row["mode"], row["what"], f"{row['p']}", name, f"{row['us'][name]:.1f}",
            f"{row['us'][base]:.1f}", f"{row['ratios'][name]:.2f}",
            verdict(goal_of(row, name), row["ratios"][name]),
        ]
        for row in result["rows"]
        for name, base in BASE.items()
    ]  # fmt: skip
    columns = ["", "", "p", "", "us", "PyTorch's", "of PyTorch's", "goal"]
    table(f"Microseconds a call of {N} elements", columns, lines)
    told = [[n, str(k), verdict(FRAMES.get(n), k)] for n, k in result["frames"].items()]
    table("thinned's own Python frames in one forward", ["", "frames", "goal"], told)


def main() -> None:
    """Measure, print, and write where --json says."""
    parser = command_line(__doc__, repeats=25)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    chosen = parser.parse_args()
    described = machine("thinned", "torch")
    rows = [row for mode in chosen.modes for row in measure(mode, chosen.repeats, chosen.figure)]
    described["load at the end"] = load_average()
    result = {"machine": described, "frames": counted(), "rows": rows}
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
