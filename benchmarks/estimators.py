"""How long DropoutMLPClassifier trains, beside scikit-learn's MLPClassifier: the same network.

    python -m benchmarks.estimators [--json FILE] [--repeats 9] [--epochs 30] [--quickest]

Digits, two hidden layers of 256, Adam, batches of 200, as many epochs for everybody (their n_iter_
is compared). The claim is a ratio of at most 1.3 at p = 0, to MLPClassifier on the data as
load_digits gives it: float64, which it then trains in. It is timed on float32 data too.
Times are medians, and the contestants take turns, so that a slow minute of the machine is shared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.measuring.timing import (
    Figure,
    command_line,
    interleaved,
    machine,
    of_call,
    write_json,
)
from thinned import DropoutMLPClassifier

HIDDEN = (256, 256)
CLAIM = 1.3


def contestants(epochs: int) -> dict[str, Callable[[], Any]]:
    """What is timed: each call trains a network and returns it."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    single = x.astype(np.float32)
    # Nobody may stop before the last epoch.
    same: dict[str, Any] = {
        "hidden_layer_sizes": HIDDEN,
        "batch_size": 200,
        "max_iter": epochs,
        "n_iter_no_change": 10 * epochs,
        "random_state": 0,
    }
    return {
        "MLPClassifier, float64": lambda: MLPClassifier(alpha=0, **same).fit(x, y),
        "MLPClassifier, float32": lambda: MLPClassifier(alpha=0, **same).fit(single, y),
        "DropoutMLPClassifier, p = 0": lambda: DropoutMLPClassifier(p=0, **same).fit(x, y),
        "DropoutMLPClassifier, p = 0.2": lambda: DropoutMLPClassifier(p=0.2, **same).fit(x, y),
    }


def measure(epochs: int, repeats: int, figure: Figure) -> dict[str, float]:
    """Seconds of a training, for each contestant."""

    def all_epochs(name: str, train: Callable[[], Any]) -> Callable[[], object]:
        def run() -> None:
            done = train().n_iter_
            if done != epochs:
                raise RuntimeError(f"{name} ran {done} epochs instead of {epochs}")

        return run

    timed = {name: of_call(all_epochs(name, train)) for name, train in contestants(epochs).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cut short on purpose
        return interleaved(timed, repeats, budget=60.0 * repeats, figure=figure)


def main() -> None:
    """Print the table and the claim, and write them where --json says."""
    parser = command_line(__doc__, repeats=9)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each fit (default 30)")
    chosen = parser.parse_args()

    medians = measure(chosen.epochs, chosen.repeats, chosen.figure)
    peer = medians["MLPClassifier, float64"]
    print(f"digits, hidden {HIDDEN}, batches of 200, {chosen.epochs} epochs; {chosen.repeats} fits")
    print("each; ratio to scikit-learn's time on load_digits' float64\n")
    for name, seconds in medians.items():
        print(f"{name:<30} {seconds:8.3f} s   {seconds / peer:5.2f}")
    ratio = medians["DropoutMLPClassifier, p = 0"] / peer
    verdict = "holds" if ratio <= CLAIM else "DOES NOT HOLD"
    print(f"\nat most {CLAIM} times at p = 0: {ratio:.2f}, {verdict}")
    if chosen.json is not None:
        found = {
            "epochs": chosen.epochs,
            "repeats": chosen.repeats,
            "median_seconds": medians,
            "ratio_at_p_0": ratio,
            "claim": CLAIM,
            "machine": machine("thinned", "numpy", "scikit-learn"),
        }
        write_json(chosen.json, found)


if __name__ == "__main__":
    main()
