"""After training: sub-networks by number, prediction with uncertainty, calibration."""

from thinned.members import calibration
from thinned.members.prediction import Prediction
from thinned.members.torch_models import predict

__all__ = ["Prediction", "calibration", "predict"]
