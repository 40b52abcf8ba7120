"""What the saved model's thinned networks say of the test part, and what it is worth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.model import Answers, Model
from thinned.fit.threads import one_blas_thread

if TYPE_CHECKING:
    import pandas as pd

    from thinned.members.calibration import Reliability, RiskCoverage

__all__ = ["MEMBERS", "Uncertainty", "uncertainty_of"]

Array = NDArray[Any]

MEMBERS = 64
LEVEL, DEVIATIONS = 0.9, 1.6448536269514722  # the normal distribution's quantile at .95
LEAST_SURE = 12
_PIXEL = re.compile(r"pixel_(\d{1,2})_(\d{1,2})")


@dataclass(frozen=True)
class Uncertainty:
    """Members' answers on the test part.

    uncertainty : (rows,). Predictive entropy, nats; std between members for a regression.
    wrong : (rows,). 1 for a wrong class; the squared error of a regression.
    kept : how the mean of `wrong` rises as less sure rows are answered too.
    reliability : of the classes' probabilities. low, high : ends of a regression's intervals, which
        hold `covered` of the test part.
    least : the LEAST_SURE rows, by their place in the test part. images : of these, where the
        columns are pixels.
    """

    members: int
    answers: Answers
    uncertainty: Array
    wrong: Array
    kept: RiskCoverage
    least: Array
    reliability: Reliability | None = None
    low: Array | None = None
    high: Array | None = None
    covered: float | None = None
    images: Array | None = None


def uncertainty_of(
    model: Model, frame: pd.DataFrame, target: Array, residual: float
) -> Uncertainty | None:
    """None for a model that was fitted at p = 0, which has no thinned networks.

    residual : the mean squared error on the training rows: for a regression, the part of an
        interval that all members share.
    """
    from thinned.members import calibration

    if not model.training["p"]:
        return None
    with one_blas_thread():
        found = model.members(frame, MEMBERS)
    answers = Answers.of_members(found)
    facts: dict[str, Any] = {}
    if found.probabilities is not None:
        uncertainty = found.predictive_entropy
        wrong = (answers.prediction != target).astype(np.float64)
        facts["reliability"] = calibration.reliability(found.probabilities, target, 10)
    else:
        uncertainty = found.std
        wrong = (answers.prediction - target) ** 2
        half = DEVIATIONS * np.sqrt(found.std**2 + residual)
        low, high = found.mean - half, found.mean + half
        covered = calibration.interval_coverage(low, high, target)
        facts = {"low": low, "high": high, "covered": float(covered)}
    assert uncertainty is not None
    least = np.argsort(-uncertainty, kind="stable")[:LEAST_SURE]
    return Uncertainty(
        MEMBERS, answers, uncertainty, wrong, calibration.risk_coverage(uncertainty, wrong), least,
        images=_images(frame.iloc[least]), **facts,
    )  # fmt: skip


def _images(frame: pd.DataFrame) -> Array | None:
    """(rows, height, width), where every column is a pixel by its name; absent pixels are 0."""
    places = [_PIXEL.fullmatch(str(name)) for name in frame.columns]
    if not places or not all(places):
        return None
    rows, columns = ([int(place[i]) for place in places if place] for i in (1, 2))
    images = np.zeros((len(frame), max(rows) + 1, max(columns) + 1))
    images[:, rows, columns] = frame.to_numpy(np.float64)
    return images
