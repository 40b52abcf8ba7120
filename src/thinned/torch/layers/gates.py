"""Hard concrete gates as modules: what learns whether it is there at all (L0 regularisation)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinned import checks, methods
from thinned.checks import message
from thinned.foreign_arguments import told
from thinned.methods.arguments import MOST_AXES, positive
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.layers.drop_connect import affine_parameters
from thinned.torch.layers.learned import NOWHERE, Learned

__all__ = ["HardConcrete", "L0Linear"]


class _Gated(Learned):
    """Hard concrete gates. `regularizer()` is what they are expected to leave: times a small
    number, a term for a loss that is a mean over examples."""

    def __init__(self, gates: int, p: float, temperature: float, device: Any, dtype: Any) -> None:
        super().__init__()
        who = type(self).__name__
        p = checks.probability(who, p)
        if not 0.0 < p < 1.0:
            raise ValueError(message(who, "p", "inside (0, 1) to be learned", p))
        checks.integer(who, "the number of gates", gates, 1, 2**47)
        self.temperature = positive(who, "temperature", temperature)
        start = math.log((1.0 - p) / p)
        self.log_alpha = nn.Parameter(torch.full((gates,), start, device=device, dtype=dtype))

    def probability(self) -> Tensor:
        """The probability that each gate is shut, now."""
        shift = self.temperature * math.log(0.1 / 1.1)
        return torch.sigmoid(shift - self.log_alpha)

    @property
    def gates(self) -> Tensor:
        """The gates of evaluation, each in [0, 1]."""
        ones = torch.ones_like(self.log_alpha)
        z: Tensor = methods.hard_concrete(ones, self.log_alpha, NOWHERE, False)
        return z

    @torch.no_grad()
    def sparsity(self) -> float:
        """The share of gates that are shut in evaluation."""
        return float((self.gates == 0).double().mean())


@told
class HardConcrete(_Gated):
    """Gates on the features of what passes: y = x z, one gate for each entry along an axis.

    See `thinned.hard_concrete`; a batch shares its draws. `regularizer()` is the expected number of
    gates that are not shut.

    Parameters
    ----------
    features : int. The number of gates: the length of the axis.
    axis : int. 1 for the channels of (N, C, ...); -1 for the last.
    p : float in (0, 1). Where learning begins: ln alpha = ln((1 - p) / p), as in the paper's code.
    temperature : float > 0.
    """

    def __init__(
        self,
        features: int,
        axis: int = 1,
        *,
        p: float = 0.5,
        temperature: float = 2 / 3,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(features, p, temperature, device, dtype)
        self.axis = checks.integer("HardConcrete", "axis", axis, -MOST_AXES, MOST_AXES)

    def forward(self, x: Tensor) -> Tensor:
        (axis,) = checks.axes("HardConcrete", self.axis, x.dim(), "axis")
        if x.shape[axis] != len(self.log_alpha):
            needed = f"of length {len(self.log_alpha)} along axis {axis}"
            raise ValueError(message("HardConcrete", "x", needed, f"shape {tuple(x.shape)}"))
        others = tuple(i for i in range(x.dim()) if i != axis)
        log_alpha = self.log_alpha.reshape([-1, *(1 for _ in range(axis + 1, x.dim()))])
        at, window = self.place(x)
        y: Tensor = methods.hard_concrete(
            x, log_alpha, at, self.training,
            temperature=self.temperature, shared_axes=others, window=window,
        )  # fmt: skip
        return y

    def regularizer(self) -> Tensor:
        """The expected number of gates that are not shut."""
        l0: Tensor = methods.expected_l0(self.log_alpha, self.temperature)
        return l0

    def extra_repr(self) -> str:
        return f"{len(self.log_alpha)}, axis={self.axis}"


@told
class L0Linear(_Gated):
    """torch.nn.Linear with a gate on each input, which shuts the inputs that it does not need.

    y = (W z) x + b, see `thinned.hard_concrete`; a batch shares its draws, so that the gates are
    those of weights. `regularizer()` is the expected number of weights that are not 0.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype : as in torch.nn.Linear.
    p : float in (0, 1). Where learning begins: ln alpha = ln((1 - p) / p), as in the paper's code.
    temperature : float > 0.

    Attributes
    ----------
    log_alpha : Parameter, shape (in_features,).
    p, gates : Tensors of that shape, now: the probability of being shut; evaluation's gates.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        p: float = 0.5,
        temperature: float = 2 / 3,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, p, temperature, device, dtype)
        self.in_features, self.out_features = in_features, out_features
        affine_parameters(self, (out_features, in_features), bias, device, dtype)

    @property
    def batch_axis(self) -> int:
        return NO_ROWS

    def forward(self, x: Tensor) -> Tensor:
        at, window = self.place(self.weight)
        weight = methods.hard_concrete(
            self.weight, self.log_alpha, at, self.training,
            temperature=self.temperature, shared_axes=(0,), window=window,
        )  # fmt: skip
        return functional.linear(x, weight, self.bias)

    def regularizer(self) -> Tensor:
        """The expected number of weights that are not 0."""
        l0: Tensor = methods.expected_l0(self.log_alpha, self.temperature)
        return l0 * self.out_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
