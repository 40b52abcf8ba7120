"""After training: sub-networks by number, prediction with uncertainty, calibration."""

from thinned.members import calibration
from thinned.members.predicting import predict
from thinned.members.prediction import Prediction

__all__ = ["Prediction", "calibration", "predict"]
