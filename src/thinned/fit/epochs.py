"""How long to train: when a training ends, and after which epochs a network is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.metrics import METRICS, Metric
from thinned.fit.target import Task

__all__ = [
    "PATIENCE",
    "Patience",
    "chosen_elsewhere",
    "constant_cost",
    "is_over",
    "looks_for",
    "lowest",
    "smoothed",
    "worth",
]

Array = NDArray[Any]

# A network is measured after about these numbers of epochs, each a fixed factor above the last.
LOOKS = 20
# The first look comes after this share of the most epochs, which makes the factor 1.21.
FIRST_LOOK = 1 / 40
# Looks in a row that may bring nothing before a training ends: about as many epochs again.
PATIENCE = 4
# Gradient steps before which none ends: the curves of few rows are noise at first.
LEAST_STEPS = 1000
# What is worth training on for: this share of the lowest loss, and of what a constant scores.
SHARE_OF_LOWEST, SHARE_OF_CONSTANT = 0.01, 0.001


def looks_for(epochs: int) -> tuple[int, ...]:
    """About 20 epochs from early to late, each the same factor after the last one, with the last
    among them: a network learns in its second epoch as much as in its last twenty."""
    spaced = np.geomspace(max(1.0, epochs * FIRST_LOOK), epochs, LOOKS)
    return tuple(int(epoch) for epoch in np.unique(np.rint(spaced)))


def smoothed(curves: Array) -> Array:
    """Curves over looks, each value averaged with its neighbours (weights 1, 2, 1).

    curves : (..., looks). The ends count for the neighbours that they lack.
    """
    wide = np.concatenate((curves[..., :1], curves, curves[..., -1:]), axis=-1)
    out: Array = (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 4
    return out


def worth(lowest_cost: float, constant: float) -> float:
    """How much lower a cost must become for an improvement. constant : a constant's, positive."""
    return SHARE_OF_LOWEST * abs(lowest_cost) + SHARE_OF_CONSTANT * constant


def is_over(costs: Sequence[float] | Array, constant: float) -> bool:
    """Whether the last looks of a training brought nothing: it ends here.

    costs : the validation costs at the looks so far. constant : what a constant scores.
    """
    curve = smoothed(np.asarray(costs, np.float64))
    if len(curve) <= PATIENCE:
        return False
    before, after = float(curve[:-PATIENCE].min()), float(curve[-PATIENCE:].min())
    return before - after < worth(before, constant)


def constant_cost(metric: Metric, task: Task, target: Array) -> float:
    """About what a constant scores, as a measure of what an improvement is: the entropy of the
    classes' shares, the target's spread; 1 for measures that go from 0 to 1."""
    if metric.higher:
        return 1.0
    if task == "classification":
        shares = np.unique(target, return_counts=True)[1] / len(target)
        return float(-(shares * np.log(shares)).sum())
    return float(np.var(target) if metric.name == "loss" else np.std(target))


class Patience:
    """Ends a training when neither the loss nor the measure that decides gets better.

    target : of the rows that are looked at. steps : of the gradient, in an epoch.
    """

    def __init__(self, task: Task, metric: str, target: Array, steps: int) -> None:
        self.least = LEAST_STEPS / steps
        those = METRICS[task]
        self.watched = [
            (list(those).index(name), those[name], constant_cost(those[name], task, target))
            for name in dict.fromkeys(("loss", metric))
        ]

    def ends(self, measured: Array, epoch: int) -> bool:
        """measured : (looks so far, measures), the last of them after this epoch."""
        return epoch >= self.least and all(
            is_over(metric.cost(measured[:, m]), constant) for m, metric, constant in self.watched
        )


def lowest(costs: Array) -> int:
    """The look at which the smoothed mean of curves is lowest. costs : (curves, looks)."""
    return int(smoothed(costs.mean(axis=0)).argmin())


def chosen_elsewhere(costs: Array, folds: int) -> NDArray[np.intp]:
    """For each split the look at which to judge it, chosen on rows that it is not judged on.

    It is the `lowest` of the other folds of the same repeat: their validation rows are all rows but
    those of the split. A look chosen on the split's own rows would be chosen for its luck too.

    costs : (splits, looks), the folds of a repeat one after another.
    """
    found = np.empty(len(costs), np.intp)
    for s in range(len(costs)):
        first = s - s % folds
        others = [i for i in range(first, min(first + folds, len(costs))) if i != s]
        found[s] = lowest(costs[others or [s]])
    return found
