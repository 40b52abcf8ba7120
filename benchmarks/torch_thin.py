"""What thin execution gains: a network that computes only the units it keeps.

    python -m benchmarks.torch_thin [--json FILE] [--repeats 15] [--quickest]

Run from the root of the checkout. A network of three hidden layers of 2048 units, p = 0.5 behind
each, a batch of 1024 rows, float32, on the CPU with two threads: the same network with
nn.Identity, with torch.nn.Dropout, with thinned.torch's adopted dropout, and thin. A training step
is forward, backward and SGD; inference is one member, cut out, beside the whole network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

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

WIDTH, BATCH, CLASSES, P, THREADS = 2048, 1024, 10, 0.5, 2
THIN, IDENTITY, TORCH, ADOPTED = "thin", "Identity", "torch.nn", "adopted"
MEMBER, WHOLE, PASS = "member", "whole", "torch.nn, training mode"
# At least so many times faster.
GOALS = {(THIN, IDENTITY): 2.0, (THIN, TORCH): 2.5, (MEMBER, WHOLE): 2.5}
VERDICT = {True: "reached", False: "NOT REACHED"}


def network(kind: str) -> nn.Module:
    """2048-2048-2048-2048-10 with ReLUs and a dropout of this kind behind each."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        drop = nn.Identity() if kind == IDENTITY else nn.Dropout(P)
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU(), drop]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))
    if kind == ADOPTED:
        thinned.torch.adopt(model, seed=0)
    elif kind == THIN:
        thinned.torch.thin(model, seed=0)
    return model


def step(kind: str) -> Callable[[], object]:
    """One training step of a fresh network, as a function."""
    model, x = network(kind), torch.randn(BATCH, WIDTH)
    labels = torch.randint(0, CLASSES, (BATCH,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    clock: Any = getattr(model, "thinned_clock", None)

    def one() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        if clock is not None:
            clock[2] += 1

    return one


def inference(kind: str) -> Callable[[], object]:
    """One forward without gradients: of a member, of the whole network, of torch.nn's dropout."""
    x = torch.randn(BATCH, WIDTH)
    if kind == MEMBER:
        model = thinned.torch.member(network(THIN), 0)
    else:
        model = network(TORCH).train(kind == PASS)

    def one() -> None:
        with torch.no_grad():
            model(x)

    return one


def milliseconds(repeats: int, figure: Figure) -> dict[str, dict[str, float]]:
    measured = {}
    training, at_rest = (THIN, IDENTITY, TORCH, ADOPTED), (MEMBER, WHOLE, PASS)
    made: list[tuple[str, Any, tuple[str, ...]]]
    made = [("step", step, training), ("inference", inference, at_rest)]
    for what, make, kinds in made:
        timers = {kind: of_call(make(kind)) for kind in kinds}
        seconds = interleaved(timers, repeats, budget=30.0, shortest=0.1, figure=figure)
        measured[what] = {kind: 1e3 * s for kind, s in seconds.items()}
    return measured


def judged(measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Each goal beside what was measured."""
    taken = {kind: ms for kinds in measured.values() for kind, ms in kinds.items()}
    return [
        {
            "goal": f"{fast} over {slow}",
            "bound": bound,
            "measured": taken[slow] / taken[fast],
            "reached": taken[slow] / taken[fast] >= bound,
        }
        for (fast, slow), bound in GOALS.items()
    ]


def show(result: dict[str, Any]) -> None:
    for what, taken in result["milliseconds"].items():
        rows = [[kind, f"{ms:.1f}"] for kind, ms in taken.items()]
        table(f"{what.capitalize()}, 3 x {WIDTH}, batch {BATCH}", ["", "milliseconds"], rows)
    rows = [
        [g["goal"], f">= {g['bound']:g}", f"{g['measured']:.2f}", VERDICT[g["reached"]]]
        for g in result["goals"]
    ]
    table("Times faster", ["", "meant", "measured", ""], rows)


def main() -> None:
    chosen = command_line(__doc__, repeats=15).parse_args()
    torch.set_num_threads(THREADS)
    described = machine("thinned", "torch")
    if (described["load"] or 0) > 0.3:
        print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
    measured = milliseconds(chosen.repeats, chosen.figure)
    described["load at the end"] = load_average()
    result: dict[str, Any] = {
        "machine": described,
        "threads": THREADS,
        "milliseconds": measured,
        "goals": judged(measured),
    }
    show(result)
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
