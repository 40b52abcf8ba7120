"""Dropout fused with the residual stream around it, beside the same in single steps.

    python -m benchmarks.fused [--json FILE] [--repeats 25] [--quickest]

Run from the root of the checkout. 4,096 rows of 1,024 elements on the CPU, p = .1. Milliseconds,
forward and forward and backward, medians over timings in which all take turns: the fused function,
PyTorch's operations around thinned's dropout, and around PyTorch's own; a copy for scale.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

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
from thinned.torch.functional import dropout
from thinned.torch.fused import bias_dropout_add, dropout_add_norm

ROWS, COLUMNS, P = 4096, 1024, 0.1
FUSED, STEPS, TORCH = "fused", "thinned, in steps", "PyTorch, in steps"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Layer = Callable[..., Tensor]


def _drop(name: str) -> Callable[[Tensor], Tensor]:
    if name == TORCH:
        return lambda x: functional.dropout(x, P, True)
    return lambda x: dropout(x, P, True)


def add_of(name: str) -> Layer:
    """Of x, residual, weight and bias."""
    if name == FUSED:
        return lambda x, r, w, b: bias_dropout_add(x, b, r, P, training=True)
    drop = _drop(name)
    return lambda x, r, w, b: r + drop(x + b)


def norm_of(name: str) -> Layer:
    if name == FUSED:
        return lambda x, r, w, b: dropout_add_norm(x, r, w, P, bias=b, training=True)
    drop = _drop(name)
    return lambda x, r, w, b: functional.layer_norm(r + drop(x), (COLUMNS,), w, b)


LAYERS = {"bias_dropout_add": add_of, "dropout_add_norm": norm_of}


def _inputs(kind: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, COLUMNS), (ROWS, COLUMNS), (COLUMNS,), (COLUMNS,))
    made = [torch.randn(shape, generator=generator).to(kind) for shape in shapes]
    return [x.requires_grad_() for x in made]


def passes(layer: Layer, inputs: list[Tensor]) -> dict[str, Callable[[], object]]:
    upstream = torch.ones_like(inputs[0])

    def forward() -> Tensor:
        with torch.no_grad():
            return layer(*inputs)

    def both() -> object:
        return torch.autograd.grad(layer(*inputs), inputs, upstream, allow_unused=True)

    return {"forward": forward, "forward and backward": both}


def measured(repeats: int, figure: Figure) -> list[dict[str, Any]]:
    """Milliseconds by name, and how many times as fast as PyTorch's steps the fused function is."""
    found = []
    for name, kind in TYPES.items():
        inputs = _inputs(kind)
        room = torch.empty_like(inputs[0])
        copy = of_call(partial(room.copy_, inputs[0].detach()))
        for function, layer_of in LAYERS.items():
            for which in ("forward", "forward and backward"):
                timers = {
                    n: of_call(passes(layer_of(n), inputs)[which]) for n in (FUSED, STEPS, TORCH)
                }
                rounds = in_rounds(timers | {"copy": copy}, repeats, budget=20.0, settle=0.01)
                times = {n: 1e3 * s for n, s in figures(rounds, figure).items()}
                found.append(
                    {
                        "dtype": name,
                        "function": function,
                        "pass": which,
                        "milliseconds": times,
                        "times as fast": ratio(rounds, TORCH, FUSED),
                        "over steps": ratio(rounds, STEPS, FUSED),
                    }
                )
    return found


def show(result: dict[str, Any]) -> None:
    lines = [
        [
            row["function"], row["dtype"], row["pass"],
            *(f"{ms:.2f}" for ms in row["milliseconds"].values()),
            f"{row['over steps']:.2f}", f"{row['times as fast']:.1f}",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    columns = [
        "",
        "",
        "pass, milliseconds",
        FUSED,
        STEPS,
        TORCH,
        "copy",
        "over steps",
        "over PyTorch",
    ]
    table(f"{ROWS} x {COLUMNS}, {result['threads']} threads", columns, lines)


def main() -> None:
    """Measure, print, and write where --json says."""
    chosen = command_line(__doc__, repeats=25).parse_args()
    described = machine("thinned", "torch")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    rows = measured(chosen.repeats, chosen.figure)
    described["load at the end"] = load_average()
    result = {"machine": described, "threads": torch.get_num_threads(), "rows": rows}
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
