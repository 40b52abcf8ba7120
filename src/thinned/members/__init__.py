"""After training: sub-networks by number, prediction with uncertainty, calibration."""

from thinned.members import calibration

__all__ = ["calibration"]
