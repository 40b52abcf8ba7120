"""How far the saved model's answers can be trusted, on the test part."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.conformal import limit, sets
from thinned.fit.model import Answers, Model
from thinned.fit.rate import Rate, as_rate
from thinned.fit.threads import one_blas_thread

if TYPE_CHECKING:
    import pandas as pd

    from thinned.members.calibration import Reliability, RiskCoverage

__all__ = ["LEVEL", "MEMBERS", "Bounds", "Members", "Uncertainty", "uncertainty_of"]

Array = NDArray[Any]

MEMBERS = 64
LEVEL = 0.9
LEAST_SURE = 12
_PIXEL = re.compile(r"pixel_(\d{1,2})_(\d{1,2})")


@dataclass(frozen=True)
class Bounds:
    """Conformal intervals, or sets of classes, at `level`.

    limit : how strange the truth may be, or half the width of an interval; infinite where the test
        part is too small. sizes : of each test row's set; None in regression.
    """

    level: float
    limit: float
    sizes: Array | None = None

    @property
    def known(self) -> bool:
        return math.isfinite(self.limit)


@dataclass(frozen=True)
class Members:
    """Answers of thinned networks on the test part.

    p : at which they drop. own : whether they are the saved model's, or those of the refit beside.
    uncertainty : (rows,). Predictive entropy, nats; std between members for a regression.
    wrong : (rows,). 1 for a wrong class; the squared error of a regression.
    kept : how the mean of `wrong` rises as less sure rows are answered too.
    least : the LEAST_SURE rows, by their place in the test part. images : of these, where the
        columns are pixels.
    """

    p: Rate
    own: bool
    count: int
    answers: Answers
    uncertainty: Array
    wrong: Array
    kept: RiskCoverage
    least: Array
    images: Array | None = None


@dataclass(frozen=True)
class Uncertainty:
    """What is known of it.

    reliability : of the classes' probabilities, as the saved model says them.
    members : None where all of them say the same; `why` then says so.
    """

    bounds: Bounds
    reliability: Reliability | None
    members: Members | None
    why: str = ""


def uncertainty_of(model: Model, frame: pd.DataFrame, target: Array) -> Uncertainty:
    """On the test part: frame, and the target, class numbers or values."""
    from thinned.members import calibration

    answers = model.answers(frame)
    most, sizes, reliability = limit(model, LEVEL), None, None
    if answers.probabilities is not None:
        sizes = sets(answers.probabilities, most).sum(axis=1)
        reliability = calibration.reliability(answers.probabilities, target, 10)
    bounds = Bounds(LEVEL, most, sizes)
    try:
        members = _members(model, frame, target)
    except ValueError as same:  # all members say the same: nothing that matters is dropped
        return Uncertainty(bounds, reliability, None, str(same))
    return Uncertainty(bounds, reliability, members)


def _members(model: Model, frame: pd.DataFrame, target: Array) -> Members:
    from thinned.members import calibration

    asked = model.thinned
    assert asked is not None
    with one_blas_thread():
        found = model.members(frame, MEMBERS)
    answers = Answers.of_members(found)
    if found.probabilities is not None:
        uncertainty = found.predictive_entropy
        wrong = (answers.prediction != target).astype(np.float64)
    else:
        uncertainty = found.std
        wrong = (answers.prediction - target) ** 2
    assert uncertainty is not None
    least = np.argsort(-uncertainty, kind="stable")[:LEAST_SURE]
    return Members(
        p=as_rate(asked.training["p"]),
        own=asked.training == model.training,
        count=MEMBERS,
        answers=answers,
        uncertainty=uncertainty,
        wrong=wrong,
        kept=calibration.risk_coverage(uncertainty, wrong),
        least=least,
        images=_images(frame.iloc[least]),
    )


def _images(frame: pd.DataFrame) -> Array | None:
    """(rows, height, width), where every column is a pixel by its name; absent pixels are 0."""
    places = [_PIXEL.fullmatch(str(name)) for name in frame.columns]
    if not places or not all(places):
        return None
    rows, columns = ([int(place[i]) for place in places if place] for i in (1, 2))
    images = np.zeros((len(frame), max(rows) + 1, max(columns) + 1))
    images[:, rows, columns] = frame.to_numpy(np.float64)
    return images
