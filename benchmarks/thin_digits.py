"""Whether networks that are trained thin are as good: handwritten digits, many seeds.

    python -m benchmarks.thin_digits [--json FILE] [--seeds 20] [--width 512]

Run from the root of the checkout. scikit-learn's digits: 400 rows to train on, all others to test.
A network of two hidden layers is trained without dropout, with a mask for each element (adopt), and
with one mask for each minibatch, run thin; p = 0.5, the same seeds for all. The rows that train,
the weights at the start and the order of the rows go by the seed, so that the differences between
the kinds are those of pairs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

import thinned.torch
from benchmarks.measuring.timing import machine, table, write_json

KINDS = ("none", "elementwise", "thin")
P, ROWS, BATCH, EPOCHS, RATE = 0.5, 400, 50, 100, 0.02


def network(kind: str, width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n in (64, width):
        layers += [nn.Linear(n, width), nn.ReLU(), nn.Dropout(0.0 if kind == "none" else P)]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def trained(kind: str, width: int, seed: int, x: Tensor, y: Tensor) -> nn.Module:
    """A network after EPOCHS epochs of SGD with momentum, its rate falling to 0, in evaluation."""
    model = network(kind, width, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    adopted = {"elementwise": thinned.torch.adopt, "thin": thinned.torch.thin}
    if kind in adopted:
        adopted[kind](model, seed=seed, optimizer=optimizer)
    steps = EPOCHS * -(-len(x) // BATCH)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=order).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            decay.step()
    return model.eval()


def results(seeds: int, width: int) -> dict[str, dict[str, list[float]]]:
    """Test accuracy, log loss in nats and seconds of training, by kind, one for each seed."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    found: dict[str, dict[str, list[float]]]
    found = {kind: {"accuracy": [], "log loss": [], "seconds": []} for kind in KINDS}
    for seed in range(seeds):
        train, test = train_test_split(
            np.arange(len(x)), train_size=ROWS, stratify=labels, random_state=seed
        )
        for kind in KINDS:
            start = time.perf_counter()
            model = trained(kind, width, seed, x[train], y[train])
            seconds = time.perf_counter() - start
            with torch.no_grad():
                scores = model(x[test])
            right = (scores.argmax(1) == y[test]).float().mean()
            found[kind]["accuracy"].append(float(right))
            found[kind]["log loss"].append(float(functional.cross_entropy(scores, y[test])))
            found[kind]["seconds"].append(seconds)
    return found


def mean_and_error(values: Any) -> tuple[float, float]:
    array = np.asarray(values)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def differences(found: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """thin less elementwise, seed by seed; worse only if by more than the standard error."""
    judged = []
    for what, sign in (("accuracy", 1), ("log loss", -1)):
        pairs = np.subtract(found["thin"][what], found["elementwise"][what])
        mean, error = mean_and_error(pairs)
        judged.append(
            {"what": what, "mean": mean, "error": error, "no worse": bool(sign * mean >= -error)}
        )
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    parser.add_argument("--seeds", type=int, default=20, help="at least 2")
    parser.add_argument("--width", type=int, default=512, help="units of each hidden layer")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # so small a network has threads wait more than work
    found = results(chosen.seeds, chosen.width)
    rows = []
    for kind in KINDS:
        told = [mean_and_error(found[kind][what]) for what in ("accuracy", "log loss")]
        cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in told]
        rows.append([kind, *cells, f"{np.median(found[kind]['seconds']):.2f}"])
    title = f"Digits, {ROWS} rows, 2 x {chosen.width} units, {chosen.seeds} seeds"
    table(title, ["dropout", "test accuracy", "log loss (nats)", "seconds"], rows)
    judged = differences(found)
    rows = [
        [d["what"], f"{d['mean']:+.4f} ± {d['error']:.4f}", "yes" if d["no worse"] else "NO"]
        for d in judged
    ]
    table("thin less elementwise, by pairs", ["", "mean and its error", "no worse"], rows)
    if chosen.json is not None:
        result = {"machine": machine("thinned", "torch"), "results": found, "thin": judged}
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
