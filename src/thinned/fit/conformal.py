"""Intervals and sets that hold the truth at a stated level, whatever the model is worth.

Split conformal prediction: how unlike the truth the model's answers were for the rows of the test
part, which no choice was made on, says how far answers for other rows of the kind can be off. Where
rows have weights, the kind is what they say: rows that are met as often as they weigh.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError
from thinned.fit.model import Answers, Model
from thinned.members.calibration.conformal import conformal_quantile

__all__ = ["bounded", "fewest_rows", "limit", "sets", "strangeness", "with_scores"]

Array = NDArray[Any]


def strangeness(model: Model, answers: Answers, target: Array) -> NDArray[np.float64]:
    """How unlike the truth each answer is.

    For a class 1 - its probability, in [0, 1]; for a value the absolute error, in units of the
    model's scale of the target. Each is rounded up to a float32, as a model is saved: an interval
    never gets narrower by that.
    """
    if answers.probabilities is None:
        off = np.abs(answers.prediction - target) / model.network.scale
    else:
        off = 1.0 - answers.probabilities[np.arange(len(target)), target]
    short = off.astype(np.float32)
    up = np.where(short < off, np.nextafter(short, np.float32(np.inf)), short)
    found: NDArray[np.float64] = up.astype(np.float64)
    return found


def with_scores(model: Model, answers: Answers, target: Array, weights: Array | None) -> Model:
    """The model with what its answers for the test part, and the weights of these rows, say of
    others."""
    scores = strangeness(model, answers, target)
    order = np.argsort(scores, kind="stable")
    if weights is not None:  # as they are saved
        weights = (weights / weights.max()).astype(np.float32).astype(np.float64)
        weights = np.maximum(weights, np.finfo(np.float32).tiny)[order]
    return replace(model, strangeness=scores[order], score_weights=weights)


def limit(model: Model, level: float) -> float:
    """How strange the truth may be: 1 - the probability of a class, or half of an interval in the
    target's unit. Infinite where the rows are too few to say."""
    assert model.strangeness is not None
    found = conformal_quantile(model.strangeness, 1.0 - level, model.score_weights)
    return found * model.network.scale


def fewest_rows(level: float) -> int:
    """How many rows it takes to say anything at this level."""
    return math.ceil(level / (1.0 - level) - 1e-9)


def sets(shares: Array, most: float) -> NDArray[np.bool_]:
    """Which classes are in each row's set: those that are not too strange, and the likeliest."""
    held: NDArray[np.bool_] = 1.0 - shares <= most
    held[np.arange(len(shares)), shares.argmax(axis=1)] = True
    return held


def bounded(model: Model, answers: Answers, level: float) -> Answers:
    """The answers with `low` and `high` beside each value, or with each row's `set` of classes.

    Raises
    ------
    InputError if the model keeps no scores, or too few for this level.
    """
    if model.strangeness is None:
        raise InputError(
            "--level: this model was saved by a version of thinned that kept nothing to tell "
            "intervals by. Fit it again."
        )
    most, weights = limit(model, level), model.score_weights
    if math.isinf(most):
        rows = len(model.strangeness) if weights is None else weights.sum() / weights.max()
        few = "" if weights is None else " that weigh as much as the heaviest one"
        raise InputError(
            f"--level {level:g}: this takes {fewest_rows(level)} rows{few} in the test part, and "
            f"the model was fitted with {rows:.4g}, which allow {_highest(rows):g} at the most."
        )
    if answers.probabilities is None:
        low, high = answers.prediction - most, answers.prediction + most
        return replace(answers, more=answers.more | {"low": low, "high": high})
    return replace(answers, sets=sets(answers.probabilities, most))


def _highest(rows: float) -> float:
    """The highest level that this number of rows allows, rounded down to three digits."""
    return math.floor(1000 * rows / (rows + 1)) / 1000
