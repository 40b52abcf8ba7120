"""From measurements to statements: means over splits, the epoch of each p, and the comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.epochs import chosen_elsewhere, lowest, smoothed, worth
from thinned.fit.metrics import Metric
from thinned.fit.rate import Rate
from thinned.fit.results import Comparison, Level, Mean, Paired, Verdict

__all__ = ["carried_on", "compare", "judged", "level", "mean", "paired"]

Array = NDArray[Any]

LEVEL_OF_DOUBT = 0.05


def mean(values: Array) -> Mean:
    """The mean of one value for each split, and its standard error."""
    if len(values) < 2:
        return Mean(float(values.mean()), 0.0)
    return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def reached(measured: Array) -> int:
    """The number of looks that some split came to; later ones are NaN where a training ended."""
    there = ~np.isnan(measured[:, 1, :, 0])
    return int(there.sum(axis=1).max())


def carried_on(measured: Array) -> Array:
    """measured[split, part, look, measure] up to the last look that some split came to: a training
    that patience has ended stays as it was then, so that one split does not end the others."""
    found = measured[:, :, : reached(measured)].copy()
    for one in found:
        last = int((~np.isnan(one[1, :, 0])).sum())
        one[:, last:] = one[:, last - 1 : last]
    return found


def judged(measured: Array, names: Sequence[str], metric: Metric, folds: int) -> NDArray[np.intp]:
    """For each split of one p the look at which it is judged, from measured[split, part, look,
    measure]: chosen on the other folds of its repeat."""
    costs = metric.cost(carried_on(measured)[:, 1, :, list(names).index(metric.name)])
    return chosen_elsewhere(costs, folds)


def level(
    p: Rate,
    measured: Array,
    looks: tuple[int, ...],
    names: Sequence[str],
    metric: Metric,
    folds: int,
    constant: float,
) -> Level:
    """One p over all splits, from measured[split, part, look, measure].

    Each split is judged at a look that the other folds of its repeat have chosen. The epochs of the
    level, for which a network is refitted, are those that all splits choose together. Networks
    without dropout overfit sooner, and a comparison after a fixed number of epochs would
    penalise them for it.

    constant : what a constant scores, in the cost of `metric`: by this one measures whether the
        last look still brought something.
    """
    at = judged(measured, names, metric, folds)
    measured = carried_on(measured)
    n = measured.shape[2]
    every = np.arange(len(measured))
    training, validation = measured[every, 0, at], measured[every, 1, at]
    curves = measured[:, :, :n, 0]
    gaps = curves[:, 1] - curves[:, 0]
    costs = metric.cost(measured[:, 1, :n, list(names).index(metric.name)])
    k = lowest(costs)
    return Level(
        p=p,
        epochs=looks[k],
        finished=n < len(looks) or not _still_falling(costs, constant),
        validation={name: mean(validation[:, m]) for m, name in enumerate(names)},
        training={name: mean(training[:, m]) for m, name in enumerate(names)},
        gap=mean(validation[:, 0] - training[:, 0]),
        last_epoch=looks[n - 1],
        last_loss=mean(curves[:, 1, -1]),
        last_gap=mean(gaps[:, -1]),
        validation_curve=tuple(mean(curves[:, 1, i]) for i in range(n)),
        training_curve=tuple(mean(curves[:, 0, i]) for i in range(n)),
    )


def _still_falling(costs: Array, constant: float) -> bool:
    """Whether the last look was the best one, by more than it takes to train on."""
    curve = smoothed(costs.mean(axis=0))
    if len(curve) < 2 or curve.argmin() < len(curve) - 1:
        return False
    return bool(curve[-2] - curve[-1] > worth(float(curve[-1]), constant))


def paired(ours: Array, theirs: Array, folds: int, tries: int = 1) -> Paired:
    """The mean of ours - theirs over splits that both were run on, and how large it must be.

    tries : among how many comparisons the 5 % are shared.
    """
    from scipy.special import stdtrit

    differences = ours - theirs
    n = len(differences)
    overlap = 1 / (folds - 1)  # validation rows / training rows
    error = float(np.sqrt((1 / n + overlap) * differences.var(ddof=1)))
    doubt = LEVEL_OF_DOUBT / tries
    bound = error * float(stdtrit(n - 1, 1 - doubt / 2))
    return Paired(float(differences.mean()), error, bound)


def compare(ps: Sequence[Rate], values: Array, folds: int, metric: Metric) -> Comparison:
    """The best p above 0 against p = 0, from values[p, split] of the metric; ps[0] is 0."""
    rival = 1 + int(metric.cost(values[1:]).mean(axis=1).argmin())
    found = paired(values[rival], values[0], folds, len(ps) - 1)
    verdict: Verdict = "no clear difference"
    if found.clear:
        verdict = "helped" if metric.cost(found.difference) < 0 else "hurt"
    return Comparison(ps[rival], found.difference, found.error, found.bound, verdict, metric.name)
