"""Do the probabilities and intervals mean what they say? Scores, curves and conformal sets.

Classification takes probabilities (N, C) or, for two classes, (N,) of class 1, and integer labels
(N,) in [0, C). Regression takes members' predictions, means with standard deviations, or intervals.
Everything is computed in binary64, and in nats.
"""

from typing import TYPE_CHECKING, Any

from thinned.members.calibration.classification import (
    Reliability,
    RiskCoverage,
    adaptive_calibration_error,
    area_under_risk_coverage,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    risk_coverage,
)
from thinned.members.calibration.conformal import (
    adaptive_conformal_sets,
    conformal_interval,
    conformal_quantile_interval,
    conformal_sets,
)
from thinned.members.calibration.regression import (
    crps,
    gaussian_crps,
    gaussian_pit,
    interval_coverage,
    interval_width,
    pit,
    test_log_likelihood,
)
from thinned.members.calibration.resampling import WithError, with_error
from thinned.members.calibration.scaling import fit_temperature, scale_by_temperature
from thinned.methods import foreign

__all__ = [
    "Reliability",
    "RiskCoverage",
    "WithError",
    "adaptive_calibration_error",
    "adaptive_conformal_sets",
    "area_under_risk_coverage",
    "brier_score",
    "classwise_calibration_error",
    "conformal_interval",
    "conformal_quantile_interval",
    "conformal_sets",
    "crps",
    "expected_calibration_error",
    "fit_temperature",
    "gaussian_crps",
    "gaussian_pit",
    "interval_coverage",
    "interval_width",
    "negative_log_likelihood",
    "pit",
    "reliability",
    "risk_coverage",
    "scale_by_temperature",
    "test_log_likelihood",
    "with_error",
]

if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        raise AttributeError(foreign.no_name(__name__, name, __all__))
