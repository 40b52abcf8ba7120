"""Modules that take the place of torch.nn's: the same classes with another forward.

They are subclasses, so that `isinstance(module, torch.nn.Dropout)`, state_dict, repr, pickling and
whatever else a program does with them stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from thinned import checks
from thinned.foreign_arguments import told
from thinned.torch.compat.fx_leaf import Leaf
from thinned.torch.dropin import functional, noise

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


@told
class _DropIn(Leaf):
    """What the six have in common: p checked where it is given (a NaN, too, which torch.nn lets
    through), and a forward by the function of their kind."""

    p: float
    training: bool
    inplace: bool
    function: ClassVar[Callable[..., Tensor]]
    writes = True  # whether `inplace` does what it says

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        checks.probability(type(self).__name__, p)
        super().__init__(p, inplace)  # type: ignore[call-arg]  # torch.nn's class comes next

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.p, self.training, self.writes and self.inplace)

    def __prepare_scriptable__(self) -> nn.Module:
        """Asked by torch.jit.script."""
        raise RuntimeError(
            f"torch.jit.script cannot compile {type(self).__name__}, whose code is Python. Use "
            "torch.compile or torch.export, or put torch.nn's module in its place before."
        )


class Dropout(_DropIn, nn.Dropout):
    """torch.nn.Dropout with a mask that is not stored. See `functional.dropout`.

    Every call draws a fresh 64-bit seed from PyTorch's default generator.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping an element.
    inplace : bool. Write into the input.
    """

    function = staticmethod(functional.dropout)

    def forward(self, input: Tensor) -> Tensor:
        if self.training is True and not self.inplace:
            y = noise.fresh(input, self.p)
            if y is not None:
                return y
        return super().forward(input)


class Dropout1d(_DropIn, nn.Dropout1d):
    """torch.nn.Dropout1d with a mask that is not stored. See `functional.dropout1d`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping a channel.
    inplace : bool. Write into the input.
    """

    function = staticmethod(functional.dropout1d)


class Dropout2d(_DropIn, nn.Dropout2d):
    """torch.nn.Dropout2d with a mask that is not stored. See `functional.dropout2d`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping a channel.
    inplace : bool. Write into the input.
    """

    function = staticmethod(functional.dropout2d)


class Dropout3d(_DropIn, nn.Dropout3d):
    """torch.nn.Dropout3d with a mask that is not stored. See `functional.dropout3d`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping a channel.
    inplace : bool. Write into the input.
    """

    function = staticmethod(functional.dropout3d)


class AlphaDropout(_DropIn, nn.AlphaDropout):
    """torch.nn.AlphaDropout with a mask that is not stored. See `functional.alpha_dropout`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping an element.
    inplace : bool. Taken and left alone, as torch.nn's does.
    """

    function = staticmethod(functional.alpha_dropout)
    writes = False


class FeatureAlphaDropout(_DropIn, nn.FeatureAlphaDropout):
    """torch.nn.FeatureAlphaDropout with a mask that is not stored.

    See `functional.feature_alpha_dropout`.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping a channel.
    inplace : bool. Taken and left alone, as torch.nn's does.
    """

    function = staticmethod(functional.feature_alpha_dropout)
    writes = False
