"""After training: sub-networks by number, prediction with uncertainty, calibration."""

from thinned.members import calibration
from thinned.members.prediction import Prediction
from thinned.members.sequences import SequenceMembers, sequence_members
from thinned.members.torch_models import predict

__all__ = ["Prediction", "SequenceMembers", "calibration", "predict", "sequence_members"]
