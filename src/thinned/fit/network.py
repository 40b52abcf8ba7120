"""The trained network in evaluation, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.metrics import METRICS
from thinned.fit.ranking import mean_areas
from thinned.fit.tables import Task

__all__ = ["MEASURES", "Network", "log_softmax", "measures", "probabilities"]

Array = NDArray[Any]

# What is measured, by task. The first, the loss, decides where --metric names no other.
MEASURES: dict[Task, tuple[str, ...]] = {task: tuple(those) for task, those in METRICS.items()}


# Rows that go through a network together: what its layers make of them has to be held.
ROWS = 4096


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
        parts = (inputs[i : i + ROWS] for i in range(0, max(len(inputs), 1), ROWS))
        return np.concatenate([self.onwards(x @ self.weights[0] + self.biases[0]) for x in parts])

    def onwards(self, first: Array) -> Array:
        """The outputs, from the sums that the first layer makes: shape (rows, its units)."""
        x = first
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            x = np.maximum(x, 0) @ weight + bias
        if self.scale == 1.0 and self.mean == 0.0:
            return x
        return x.astype(np.float64) * self.scale + self.mean


def log_softmax(logits: Array) -> Array:
    """Logarithms of the classes' probabilities, binary64, shape (rows, classes)."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    out: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out


def probabilities(logits: Array) -> Array:
    """Of each class, shape (rows, classes), binary64; each row sums to 1."""
    out: Array = np.exp(log_softmax(logits))
    return out


def measures(
    task: Task, outputs: Array, target: Array, weights: Array | None = None
) -> Sequence[float]:
    """The `MEASURES` of these outputs.

    classification: mean log loss in nats, never clipped since it comes from the logits; accuracy;
    balanced accuracy, the mean over classes of the share of their rows that is found; the areas of
    `mean_areas`. regression: mean squared error, its root (the target's units), R2 about the mean
    of `target`, mean absolute error. weights : how much each row counts in all of them.
    """
    if weights is not None:
        return _weighted(task, outputs, target, weights)
    if task == "classification":
        logs = log_softmax(outputs)
        loss = -logs[np.arange(len(target)), target].mean()
        right = outputs.argmax(axis=1) == target
        counts = np.bincount(target)
        shares = np.bincount(target, right)[counts > 0] / counts[counts > 0]
        areas = mean_areas(np.exp(logs), target)
        return float(loss), float(right.mean()), float(shares.mean()), *areas
    off = outputs[:, 0] - target
    squared = float(np.mean(off**2))
    spread = float(np.var(target))
    # R2 has no value where all targets are equal; scikit-learn's choice is 0 unless all is right.
    r2 = 1.0 - squared / spread if spread else float(squared == 0.0)
    return squared, float(np.sqrt(squared)), r2, float(np.mean(np.abs(off)))


def _weighted(task: Task, outputs: Array, target: Array, weights: Array) -> Sequence[float]:
    """`measures` with rows that count differently."""
    if task == "classification":
        logs = log_softmax(outputs)
        rows = np.arange(len(target))
        loss = np.average(-logs[rows, target], weights=weights)
        right = outputs.argmax(axis=1) == target
        sums = np.bincount(target, weights)
        shares = np.bincount(target, right * weights)[sums > 0] / sums[sums > 0]
        areas = mean_areas(np.exp(logs), target, weights)
        hits = np.average(right, weights=weights)
        return float(loss), float(hits), float(shares.mean()), *areas
    off = outputs[:, 0] - target
    squared = float(np.average(off**2, weights=weights))
    spread = float(np.average((target - np.average(target, weights=weights)) ** 2, weights=weights))
    r2 = 1.0 - squared / spread if spread else float(squared == 0.0)
    absolute = np.average(np.abs(off), weights=weights)
    return squared, float(np.sqrt(squared)), r2, float(absolute)
