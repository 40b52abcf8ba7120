"""DropConnect as a layer: a mask of connections for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thinned import checks, methods
from thinned.address import Address
from thinned.foreign_arguments import told
from thinned.methods.weights import connect_options
from thinned.torch.adoption.module import Sited

__all__ = ["DropConnectLinear", "affine_parameters"]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


def affine_parameters(
    module: nn.Module, shape: tuple[int, ...], bias: bool, device: Any, dtype: Any
) -> None:
    """Give a module a weight of `shape` and a bias, initialised as torch.nn's layers are."""
    module.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
    nn.init.kaiming_uniform_(module.weight, a=5**0.5)
    if not bias:
        module.register_parameter("bias", None)
        return
    bound = max(1, module.weight[0].numel()) ** -0.5
    module.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype))
    nn.init.uniform_(module.bias, -bound, bound)


@told
class DropConnectLinear(Sited):
    """torch.nn.Linear of which every example drops connections of its own. state_dict-compatible.

    y = a((M W) x + m b),  M, m ~ Bernoulli(1 - p); evaluation takes the mean of a. See
    `thinned.drop_connect`.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype : as in torch.nn.Linear.
    p : float in [0, 1]. Probability of dropping a connection.
    activation : "relu", a callable of a tensor, or None. a, which evaluation needs to know.
    inference : "gaussian" or "mean".

    Raises
    ------
    ValueError if p is outside [0, 1], or activation or inference is none of these.
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
        activation: str | Callable[[Tensor], Tensor] | None = None,
        inference: str = "gaussian",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(checks.probability("DropConnectLinear", p))
        connect_options("DropConnectLinear", activation, inference)
        self.in_features, self.out_features = in_features, out_features
        self.activation, self.inference = activation, inference
        affine_parameters(self, (out_features, in_features), bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        at, window, p = self.located(x) if self.training else (_NOWHERE, None, self.quiet_p)
        y: Tensor = methods.drop_connect(
            x, self.weight, self.bias, p, at, self.training,
            activation=self.activation, inference=self.inference, window=window,
        )  # fmt: skip
        return y

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        told = "" if self.activation is None else f", activation={self.activation!r}"
        return f"{sizes}, bias={self.bias is not None}, p={self.p}{told}"
