"""From measurements to statements: means over splits, the epoch of each p, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.results import Comparison, Level, Mean, Verdict

__all__ = ["compare", "level", "looks_for", "mean"]

Array = NDArray[Any]

LOOKS = 20
LEVEL_OF_DOUBT = 0.05


def looks_for(epochs: int) -> tuple[int, ...]:
    """About 20 epochs, evenly spaced, the last one among them."""
    spaced = np.linspace(epochs / LOOKS, epochs, LOOKS)
    return tuple(int(epoch) for epoch in np.unique(np.maximum(np.rint(spaced), 1)))


def mean(values: Array) -> Mean:
    """The mean of one value for each split, and its standard error."""
    return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def level(p: float, measured: Array, looks: tuple[int, ...], names: Sequence[str]) -> Level:
    """One p over all splits, from measured[split, part, look, measure].

    The epochs are those with the lowest mean validation loss: networks without dropout overfit
    sooner, and a comparison after a fixed number of epochs would hold that against them.
    """
    training, validation = measured[:, 0], measured[:, 1]
    k = int(validation[:, :, 0].mean(axis=0).argmin())
    gaps = validation[:, :, 0] - training[:, :, 0]
    return Level(
        p=p,
        epochs=looks[k],
        validation={name: mean(validation[:, k, m]) for m, name in enumerate(names)},
        training={name: mean(training[:, k, m]) for m, name in enumerate(names)},
        gap=mean(gaps[:, k]),
        last_loss=mean(validation[:, -1, 0]),
        last_gap=mean(gaps[:, -1]),
        validation_curve=tuple(mean(validation[:, i, 0]) for i in range(len(looks))),
        training_curve=tuple(mean(training[:, i, 0]) for i in range(len(looks))),
    )


def compare(ps: Sequence[float], losses: Array, folds: int) -> Comparison:
    """The best p above 0 against p = 0, from losses[p, split]; ps[0] is 0."""
    from scipy.special import stdtrit

    rival = 1 + int(losses[1:].mean(axis=1).argmin())
    differences = losses[rival] - losses[0]
    n = len(differences)
    overlap = 1 / (folds - 1)  # validation rows / training rows
    error = float(np.sqrt((1 / n + overlap) * differences.var(ddof=1)))
    doubt = LEVEL_OF_DOUBT / (len(ps) - 1)
    bound = error * float(stdtrit(n - 1, 1 - doubt / 2))
    difference = float(differences.mean())
    verdict: Verdict = "no clear difference"
    if difference < -bound:
        verdict = "helped"
    elif difference > bound:
        verdict = "hurt"
    return Comparison(float(ps[rival]), difference, error, bound, verdict)
