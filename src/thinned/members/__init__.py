"""After training: sub-networks by number, prediction with uncertainty, calibration."""

from typing import TYPE_CHECKING, Any

from thinned.members import calibration
from thinned.members.prediction import Prediction
from thinned.members.sequences import SequenceMembers, sequence_members
from thinned.members.torch_models import predict
from thinned.methods import foreign

__all__ = ["Prediction", "SequenceMembers", "calibration", "predict", "sequence_members"]

if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        raise AttributeError(foreign.no_name(__name__, name, __all__))
