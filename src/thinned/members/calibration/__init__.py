"""Do the probabilities and intervals mean what they say? Scores, curves and conformal sets.

Classification takes probabilities (N, C) or, for two classes, (N,) of class 1, and integer labels
(N,) in [0, C). Regression takes members' predictions, means with standard deviations, or intervals.
Everything is computed in binary64, and in nats.
"""

from thinned.members.calibration.classification import (
    Reliability,
    RiskCoverage,
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    risk_coverage,
)
from thinned.members.calibration.conformal import conformal_interval, conformal_sets
from thinned.members.calibration.regression import (
    crps,
    gaussian_crps,
    interval_coverage,
    interval_width,
    test_log_likelihood,
)

__all__ = [
    "Reliability",
    "RiskCoverage",
    "adaptive_calibration_error",
    "brier_score",
    "conformal_interval",
    "conformal_sets",
    "crps",
    "expected_calibration_error",
    "gaussian_crps",
    "interval_coverage",
    "interval_width",
    "negative_log_likelihood",
    "reliability",
    "risk_coverage",
    "test_log_likelihood",
]
