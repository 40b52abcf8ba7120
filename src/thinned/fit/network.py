"""The trained network in evaluation, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.tables import Task

__all__ = ["MEASURES", "Network", "measures", "probabilities"]

Array = NDArray[Any]

# What is measured, by task. The first decides between the levels of p: lower is better.
MEASURES: dict[Task, tuple[str, ...]] = {
    "classification": ("loss", "accuracy"),
    "regression": ("loss", "rmse", "r2"),
}


@dataclass(frozen=True)
class Network:
    """Layers of weights, ReLU between them, and nothing dropped.

    Arithmetic runs in the wider type of the inputs and the weights. `mean` and `scale` bring a
    regression's output to the target's units.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    mean: float = 0.0
    scale: float = 1.0

    def outputs(self, inputs: Array) -> Array:
        """Logits, shape (rows, classes), or values in the target's units, shape (rows, 1)."""
        x = inputs
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            if i < last:
                x = np.maximum(x, 0)
        if self.scale == 1.0 and self.mean == 0.0:
            return x
        return x.astype(np.float64) * self.scale + self.mean


def _log_softmax(logits: Array) -> Array:
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    out: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out


def probabilities(logits: Array) -> Array:
    """Of each class, shape (rows, classes), binary64; each row sums to 1."""
    out: Array = np.exp(_log_softmax(logits))
    return out


def measures(task: Task, outputs: Array, target: Array) -> Sequence[float]:
    """The `MEASURES` of these outputs.

    classification: mean log loss in nats, never clipped since it comes from the logits; accuracy.
    regression: mean squared error, its root (the target's units), R2 about the mean of `target`.
    """
    if task == "classification":
        loss = -_log_softmax(outputs)[np.arange(len(target)), target].mean()
        return float(loss), float((outputs.argmax(axis=1) == target).mean())
    squared = float(np.mean((outputs[:, 0] - target) ** 2))
    spread = float(np.var(target))
    # R2 has no value where all targets are equal; scikit-learn's choice is 0 unless all is right.
    r2 = 1.0 - squared / spread if spread else float(squared == 0.0)
    return squared, float(np.sqrt(squared)), r2
