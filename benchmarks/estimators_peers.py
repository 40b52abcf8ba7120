"""How long DropoutMLPClassifier trains, beside scikit-learn and a plain PyTorch loop.

    python -m benchmarks.estimators_peers [--json FILE] [--repeats 5] [--rows 20000] [--quickest]

20,000 rows of 100 features, ten classes, two hidden layers of 256, Adam, batches of 200, one epoch
for everybody. p = 0.5 on the input and both hidden layers, in our networks and in PyTorch's;
scikit-learn's MLPClassifier drops nothing. It is timed on float64, as most data comes, in which it
then trains, and on float32, in which the others do. Then two hidden layers of 1024 with a mask for
each row and with one for a minibatch, and everything that has threads with two of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import thinned
from benchmarks.measuring.timing import (
    Figure,
    Rounds,
    command_line,
    figures,
    in_rounds,
    machine,
    ratio,
    table,
    write_json,
)
from thinned import DropoutMLPClassifier

P, CLASSES, FEATURES, BATCH = 0.5, 10, 100, 200
# What is divided by what, with how many threads, and the most that the quotient is to be.
GOALS = (
    ("ours", "scikit-learn, float64", 1, 0.7),
    ("ours", "scikit-learn, float32", 1, 0.7),
    ("ours", "PyTorch", 1, 0.5),
    ("ours, thin, 2 x 1024", "ours, 2 x 1024", 1, 0.5),
    ("ours", "PyTorch", 2, 1.0),
)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """So many threads for BLAS, for PyTorch and for masks."""
    before = torch.get_num_threads(), thinned.kernel_info().threads
    torch.set_num_threads(n)
    thinned.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before[0])
        thinned.set_num_threads(before[1])


def plain_loop(x: torch.Tensor, y: torch.Tensor, hidden: tuple[int, ...]) -> None:
    """An epoch as PyTorch's tutorials write it, without a loader."""
    nn = torch.nn
    layers: list[torch.nn.Module] = []
    width = x.shape[1]
    for units in hidden:
        layers += [nn.Dropout(P), nn.Linear(width, units), nn.ReLU()]
        width = units
    model = nn.Sequential(*layers, nn.Dropout(P), nn.Linear(width, CLASSES))
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()


def contestants(rows: int) -> dict[str, Callable[[], Any]]:
    """What is timed: each call trains a network for an epoch."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, FEATURES)), rng.integers(0, CLASSES, rows)
    single = x.astype(np.float32)
    tensors = torch.from_numpy(single), torch.from_numpy(y)
    same: dict[str, Any] = {"batch_size": BATCH, "max_iter": 1, "random_state": 0}

    def ours(width: int, execution: str = "elementwise") -> Callable[[], Any]:
        how = {"p": P, "execution": execution, **same}
        return lambda: DropoutMLPClassifier((width, width), **how).fit(x, y)

    def peer(data: Any) -> Callable[[], Any]:
        return lambda: MLPClassifier((256, 256), alpha=0, **same).fit(data, y)

    return {
        "ours": ours(256),
        "scikit-learn, float64": peer(x),
        "scikit-learn, float32": peer(single),
        "PyTorch": lambda: plain_loop(*tensors, (256, 256)),
        "ours, 2 x 1024": ours(1024),
        "ours, thin, 2 x 1024": ours(1024, "thin"),
    }


def measure(rows: int, repeats: int) -> Rounds:
    """Seconds of an epoch, round by round, for each contestant and number of threads."""

    def timer(n: int, train: Callable[[], Any]) -> Callable[[int], float]:
        def seconds(calls: int) -> float:
            # Of one thread the processor's seconds count, to which other programs matter little.
            clock = process_time if n == 1 else perf_counter
            with threads(n):
                start = clock()
                for _ in range(calls):
                    train()
                return clock() - start

        return seconds

    those = contestants(rows)
    timers = {named(name, 1): timer(1, train) for name, train in those.items()}
    two = ("ours", "scikit-learn, float64", "PyTorch")
    timers |= {named(name, 2): timer(2, those[name]) for name in two}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an epoch, on purpose
        return in_rounds(timers, repeats, budget=60.0 * repeats, settle=0.05)


def named(name: str, n: int) -> str:
    return f"{name}; {n} thread{'s' * (n > 1)}"


def judged(taken: Rounds) -> list[dict[str, Any]]:
    """Each goal, what was measured, and whether it is reached."""
    found = []
    for name, base, n, most in GOALS:
        measured = ratio(taken, named(name, n), named(base, n))
        what = f"{named(name, n)} / {base}"
        found.append({"what": what, "most": most, "ratio": measured, "reached": measured <= most})
    return found


def report(taken: Rounds, figure: Figure, rows: int) -> list[dict[str, Any]]:
    """Print the times and the goals."""
    base = figures(taken, figure)
    print(f"{rows:,} rows x {FEATURES}, two layers of 256, batches of {BATCH}, p = {P}, one epoch")
    times = [(name, f"{1000 * seconds:.0f}") for name, seconds in base.items()]
    table("times", ("what", "milliseconds"), times)
    goals = judged(taken)
    verdicts = {True: "reached", False: "NOT REACHED"}
    lines = [
        (goal["what"], f"{goal['most']:.2f}", f"{goal['ratio']:.2f}", verdicts[goal["reached"]])
        for goal in goals
    ]
    table("goals: the median of the ratios in each round", ("what", "most", "is", ""), lines)
    return goals


def main() -> None:
    """Print the tables, and write the figures where --json says."""
    parser = command_line(__doc__, repeats=5)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the data")
    chosen = parser.parse_args()
    taken = measure(chosen.rows, chosen.repeats)
    goals = report(taken, chosen.figure, chosen.rows)
    if chosen.json is not None:
        found = {
            "rows": chosen.rows,
            "seconds": figures(taken, chosen.figure),
            "goals": goals,
            "machine": machine("thinned", "numpy", "scikit-learn", "torch"),
        }
        write_json(chosen.json, found)


if __name__ == "__main__":
    main()
