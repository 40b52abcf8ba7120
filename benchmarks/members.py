"""What 64 members cost beside 64 passes of torch.nn.Dropout, and what antithetic pairs save.

    python -m benchmarks.members [--json FILE] [--repeats 5] [--quickest] [--antithetic]

Run from the root of the checkout. Three hidden layers of 2048 units with p = .5 (784 inputs, 10
classes), 256 rows, float32, on the CPU; all in one run, taking turns:

- whole: one forward in evaluation, without gradients; everything else is counted in it.
- by hand: 64 passes with torch.nn.Dropout in training mode, and the mean and variance of softmax.
- mc_dropout: torch-uncertainty's, in a loop and as one batch of 64 x 256 rows, where it can be
  imported (its one file is read, without the trainers that its package loads), and the same mean.
- thinned: thinned.members.predict, thin and elementwise, and with masks of each row's own.

That all give the same answer is asked first: means within their common standard error.

--antithetic measures something else, and no time: on scikit-learn's diabetes and digits, how many
times as large the variance of the mean is over members that are not paired.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from torch import Tensor, nn

import thinned
from benchmarks.measuring.timing import (
    command_line,
    interleaved,
    load_average,
    machine,
    of_call,
    table,
    write_json,
)
from thinned.members import predict

MEMBERS, ROWS, INPUTS, UNITS, CLASSES, P = 64, 256, 784, 2048, 10, 0.5
WHOLE, BY_HAND, THIN, ELEMENTWISE, OWN = (
    "whole", "by hand", "thinned, thin", "thinned, elementwise", "thinned, row by row",
)  # fmt: skip
PEER, PEER_BATCH = "mc_dropout, loop", "mc_dropout, one batch"
# Whole forwards that the members may cost at most.
BOUND = 25.0


def network() -> nn.Module:
    """784-2048-2048-2048-10, a ReLU and a dropout behind each hidden layer; scaled to be unsure."""
    layers: list[nn.Module] = []
    for n in (INPUTS, UNITS, UNITS):
        layers += [nn.Linear(n, UNITS), nn.ReLU(), nn.Dropout(P)]
    return nn.Sequential(*layers, nn.Linear(UNITS, CLASSES))


def peer() -> Callable[..., Any] | None:
    """torch-uncertainty's mc_dropout, or None where it is not there."""
    found = importlib.util.find_spec("torch_uncertainty")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / "methods" / "mc_dropout.py"
    spec = importlib.util.spec_from_file_location("mc_dropout", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as missing:
        print(f"mc_dropout is left out: {missing}.")
        return None
    made: Callable[..., Any] = module.mc_dropout
    return made


Answer = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def ways(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Answer]]:
    """Functions that give mean and standard deviation of the probabilities, (rows, classes)."""
    drops = [m for m in model.modules() if isinstance(m, nn.Dropout)]

    def of(logits: Tensor) -> Answer:
        p = logits.softmax(-1)
        return p.mean(0).numpy(), p.std(0).numpy()

    @torch.no_grad()
    def by_hand() -> Answer:
        model.eval()
        for drop in drops:
            drop.train()
        try:
            return of(torch.stack([model(x) for _ in range(MEMBERS)]))
        finally:
            model.eval()

    def ours(**how: Any) -> Callable[[], Answer]:
        def ask() -> Answer:
            answer = predict(model, x, members=MEMBERS, task="classification", **how)
            return answer.mean, answer.std

        return ask

    found = {
        BY_HAND: by_hand,
        THIN: ours(execution="thin"),
        ELEMENTWISE: ours(execution="elementwise"),
        OWN: ours(share="row"),
    }
    mc_dropout = peer()
    if mc_dropout is not None:
        for name, on_batch in ((PEER, False), (PEER_BATCH, True)):
            wrapped = mc_dropout(model, MEMBERS, on_batch=on_batch).eval()

            @torch.no_grad()
            def theirs(wrapped: Any = wrapped) -> Answer:
                wrapped.eval()
                try:
                    return of(wrapped(x).view(MEMBERS, ROWS, CLASSES))
                finally:
                    model.eval()

            found[name] = theirs
    return found


def require_one_answer(answers: dict[str, Answer]) -> float:
    """The largest difference of means from those by hand, in standard errors of the difference."""
    mean, std = answers[BY_HAND]
    worst = 0.0
    for other, spread in answers.values():
        error = np.sqrt((std**2 + spread**2) / MEMBERS)
        worst = max(worst, float(np.sqrt(np.mean(((other - mean) / error) ** 2))))
    if not worst < 2.0:
        raise SystemExit(f"The means differ by {worst:.1f} standard errors: not the same answer.")
    return worst


def measured(repeats: int, figure: Any) -> dict[str, Any]:
    """Seconds of each way."""
    torch.manual_seed(0)
    model, x = network().eval(), torch.randn(ROWS, INPUTS)
    asked = ways(model, x)
    worst = require_one_answer({name: ask() for name, ask in asked.items()})

    @torch.no_grad()
    def whole() -> Tensor:
        y: Tensor = model(x)
        return y

    timers = {name: of_call(ask) for name, ask in asked.items()} | {WHOLE: of_call(whole)}
    seconds = interleaved(timers, repeats, budget=60.0, figure=figure)
    return {"seconds": seconds, "difference in standard errors": worst}


def saved() -> dict[str, dict[str, float]]:
    """Variance of the mean without pairs over that with them, by p and data."""
    found: dict[str, dict[str, float]] = {}
    patients, digits = load_diabetes(return_X_y=True), load_digits(return_X_y=True)
    for p in (0.1, 0.2, 0.5):
        regressor = thinned.DropoutMLPRegressor(
            (50,), p=p, learning_rate_init=0.01, max_iter=60, random_state=0
        )
        classifier = thinned.DropoutMLPClassifier(
            (100,), p=p, learning_rate_init=0.003, max_iter=40, random_state=0
        )
        jobs: dict[str, tuple[Any, Any, Any]] = {
            "diabetes": (regressor, scale(patients[0]), scale(patients[1])),
            "digits": (classifier, digits[0] / 16, digits[1]),
        }
        found[f"{p:g}"] = {}
        for name, (model, x, y) in jobs.items():
            x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # so many epochs, and no more
                model.fit(x_train, y_train)
            plain, pairs = (
                model.predict_members(x_test, 2000, seed=1, antithetic=antithetic)
                for antithetic in (False, True)
            )
            ratio = np.mean(plain.standard_error**2) / np.mean(pairs.standard_error**2)
            found[f"{p:g}"][name] = float(ratio)
    return found


def show(result: dict[str, Any]) -> None:
    seconds = result["seconds"]
    rows = []
    for name, taken in sorted(seconds.items(), key=lambda item: item[1]):
        over = taken / seconds[WHOLE]
        reached = "reached" if over <= BOUND else "NOT REACHED"
        goal = f"at most {BOUND:g}: {reached}" if name == THIN else ""
        rows.append([name, f"{1e3 * taken:.1f}", f"{over:.1f}", goal])
    title = f"{MEMBERS} members of 3 x {UNITS}, {ROWS} rows"
    table(title, ["", "milliseconds", "whole forwards", "goal"], rows)
    if not any(name.startswith("mc_dropout") for name in seconds):
        print("torch-uncertainty is not installed: its loop is the one by hand.")


def main() -> None:
    parser = command_line(__doc__, repeats=5)
    parser.add_argument("--antithetic", action="store_true", help="what pairs save; no time")
    chosen = parser.parse_args()
    described = machine("thinned", "torch")
    result: dict[str, Any] = {"machine": described, "threads": torch.get_num_threads()}
    if chosen.antithetic:
        result["saved"] = found = saved()
        rows = [[p, *(f"{ratio:.2f}" for ratio in row.values())] for p, row in found.items()]
        table("Variance of the mean, unpaired over paired", ["p", "diabetes", "digits"], rows)
    else:
        if (described["load"] or 0) > 0.3:
            print(f"The machine is busy (load {described['load']:.2f}): the figures will be low.")
        result |= measured(chosen.repeats, chosen.figure)
        show(result)
    described["load at the end"] = load_average()
    if chosen.json is not None:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
