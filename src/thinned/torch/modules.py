"""Modules that take the place of torch.nn's: the same classes with another forward.

They are subclasses, so that `isinstance(module, torch.nn.Dropout)`, state_dict, repr, pickling and
whatever else a program does with them stay as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

from thinned import checks
from thinned.torch import functional

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class _Checked:
    """p is checked where it is given: a NaN, too, which torch.nn lets through."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        checks.probability(type(self).__name__, p)
        super().__init__(p, inplace)  # type: ignore[call-arg]


class Dropout(_Checked, nn.Dropout):
    """torch.nn.Dropout with a mask that is not stored. See `functional.dropout`.

    Every call draws a fresh 64-bit seed from PyTorch's default generator.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping an element.
    inplace : bool. Write into the input.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training is True and not self.inplace:
            y = functional.fresh(input, self.p)
            if y is not None:
                return y
        return functional.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Checked, nn.Dropout1d):
    """torch.nn.Dropout1d with a mask that is not stored. See `functional.dropout1d`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Checked, nn.Dropout2d):
    """torch.nn.Dropout2d with a mask that is not stored. See `functional.dropout2d`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Checked, nn.Dropout3d):
    """torch.nn.Dropout3d with a mask that is not stored. See `functional.dropout3d`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Checked, nn.AlphaDropout):
    """torch.nn.AlphaDropout with a mask that is not stored. See `functional.alpha_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Checked, nn.FeatureAlphaDropout):
    """torch.nn.FeatureAlphaDropout with a mask that is not stored.

    See `functional.feature_alpha_dropout`.
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.feature_alpha_dropout(input, self.p, self.training, self.inplace)
