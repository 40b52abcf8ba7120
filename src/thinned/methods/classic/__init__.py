"""The classic shelf: methods that made history, kept for study and for comparisons.

Each follows its paper, inference rule included. They are not among the functions of `thinned`:
`from thinned.methods.classic import standout`. Their modules stand in `thinned.torch`.

Not here, since no second source confirms the formula: jumpout, guided dropout, and
checkerboard dropout. `thinned.methods.LEFT_OUT` names their papers.
"""

from thinned.methods.classic.adaptive import excitation_dropout, standout
from thinned.methods.classic.attention import drop_attention
from thinned.methods.classic.information import information_cost, information_dropout
from thinned.methods.classic.shaking import shake_drop, shake_shake
from thinned.methods.classic.spectrum import spectral_dropout
from thinned.methods.classic.weights import bridgeout, shakeout

__all__ = [
    "bridgeout",
    "drop_attention",
    "excitation_dropout",
    "information_cost",
    "information_dropout",
    "shake_drop",
    "shake_shake",
    "shakeout",
    "spectral_dropout",
    "standout",
]
