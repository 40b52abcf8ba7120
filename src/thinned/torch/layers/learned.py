"""Modules whose noise is learned: Concrete and variational dropout. L0 gates stand in gates.py.

Each has `regularizer()`, a term for the loss without which it would learn to be still; and
`regularizer(model)` adds those of a whole model. What they learn, no schedule and no `p` sets.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinned import checks, methods
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import told
from thinned.methods.arguments import number, positive, require_axes
from thinned.methods.draws import NO_P, Draws
from thinned.methods.variational import log_alpha_of, with_variance
from thinned.torch.adoption.module import Sited
from thinned.torch.layers.drop_connect import affine_parameters

__all__ = [
    "NOWHERE",
    "ConcreteDropout",
    "Learned",
    "SparseVariationalConv2d",
    "SparseVariationalLinear",
    "VariationalLinear",
    "regularizer",
]

NOWHERE = Address()  # what evaluation, which draws nothing, is given
# p of a Concrete dropout stays inside by this much: at the very end nothing could be learned.
EDGE = 1e-6


class Learned(Sited):
    """A module that learns its noise: no p of its own for a site to keep."""

    def __init__(self) -> None:
        super().__init__(None)

    @property
    def p(self) -> Any:
        """A tensor: the probability that the noise stands for, as it is learned now."""
        return self.probability()

    @p.setter
    def p(self, p: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}: p is learned and cannot be set. Give p to a new module, or "
            "set the parameters that it is made of."
        )

    @property
    def own_p(self) -> None:
        return None

    def probability(self) -> Tensor:
        """What `p` says."""
        raise NotImplementedError

    def place(self, x: Tensor) -> tuple[Any, Any]:
        """Address and window for the draws of this call on x; nothing is drawn in evaluation."""
        return self.located(x)[:2] if self.training else (NOWHERE, None)

    def regularizer(self) -> Tensor:
        """The module's term for the loss."""
        raise NotImplementedError


def regularizer(model: nn.Module) -> Tensor:
    """The sum of `regularizer()` over the modules of a model that learn their noise.

    Parameters
    ----------
    model : torch.nn.Module.

    Returns
    -------
    Tensor, 0-d, to be added to the loss.

    Raises
    ------
    ValueError if the model has no such module. TypeError if it is no module itself.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(message("regularizer", "model", "a torch.nn.Module", type(model).__name__))
    terms = [part.regularizer() for part in model.modules() if isinstance(part, Learned)]
    if not terms:
        raise ValueError("regularizer: the model has no module that learns its noise.")
    return torch.stack([term.to(terms[0].device) for term in terms]).sum()


# ---------------------------------------------------------------------------------------- Concrete


@told
class ConcreteDropout(Learned):
    """Dropout that learns its p: of the input of a layer, or alone.

    y = layer(x (1 - z) / (1 - p)), see `thinned.concrete_dropout`. Evaluation: layer(x).

    `regularizer()` is weight_regularizer |w|^2 / (1 - p) + dropout_regularizer K (p ln p +
    (1 - p) ln(1 - p)) over the layer's weights and bias w and its K inputs. Beside a loss that is
    the mean negative log-likelihood over a batch, in nats, of N training examples:
    weight_regularizer = l^2 / (2 N), l the prior's length scale, and dropout_regularizer = 1 / N.
    Beside a squared error with weight 1, which is twice that with noise of variance 1, as in the
    paper's own code: l^2 / N and 2 / N. More data makes both small, and so p.

    Parameters
    ----------
    layer : torch.nn.Module with a weight whose second axis counts inputs (nn.Linear, nn.Conv2d,
        ...), or None: y is the dropped x, and the regulariser has its second term alone.
    p : float in (0, 1). Where learning begins.
    weight_regularizer, dropout_regularizer : floats >= 0. See above; these are per N = 1,000
        examples at l = .01.
    features : int. K; needed without a layer.
    temperature : float > 0.
    shared_axes : int or tuple of ints. (2, 3) with a convolution drops whole channels.

    Attributes
    ----------
    logit : Parameter, 0-d. ln(p / (1 - p)).
    p : Tensor, 0-d. Now.
    """

    def __init__(
        self,
        layer: nn.Module | None = None,
        p: float = 0.1,
        *,
        weight_regularizer: float = 1e-4 / 2e3,
        dropout_regularizer: float = 1e-3,
        features: int | None = None,
        temperature: float = 0.1,
        shared_axes: int | tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        who = "ConcreteDropout"
        if layer is not None and not isinstance(layer, nn.Module):
            got = f"{type(layer).__name__}. p stands second: ConcreteDropout(layer, p=0.1)"
            raise TypeError(message(who, "layer", "a torch.nn.Module or None", got))
        p = checks.probability(who, p)
        if not 0.0 < p < 1.0:
            raise ValueError(message(who, "p", "inside (0, 1) to be learned", p))
        self.layer, self.features = layer, _inputs(who, layer, features)
        self.weight_regularizer = number(who, "weight_regularizer", weight_regularizer, 0.0)
        self.dropout_regularizer = number(who, "dropout_regularizer", dropout_regularizer, 0.0)
        self.temperature = positive(who, "temperature", temperature)
        require_axes(who, shared_axes)
        self.shared_axes = shared_axes
        weight = None if layer is None else next(layer.parameters())
        like = torch.empty(0) if weight is None else weight
        self.logit = nn.Parameter(like.new_full((), math.log(p / (1.0 - p))))

    def probability(self) -> Tensor:
        return torch.sigmoid(self.logit).clamp(EDGE, 1.0 - EDGE)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            at, window = self.place(x)
            x = methods.concrete_dropout(
                x, self.probability(), at,
                temperature=self.temperature, shared_axes=self.shared_axes, window=window,
            )  # fmt: skip
        if self.layer is None:
            return x
        y: Tensor = self.layer(x)
        return y

    def regularizer(self) -> Tensor:
        """Penalty on weights, and minus the entropy of the mask. See the class."""
        p: Tensor = self.probability()
        entropy: Tensor = methods.concrete_entropy(p)
        term = self.dropout_regularizer * self.features * entropy
        if self.layer is None:
            return term
        square = torch.stack([w.square().sum() for w in self.layer.parameters()]).sum()
        return term + self.weight_regularizer * square / (1.0 - p)

    def extra_repr(self) -> str:
        return f"p={float(self.p.detach()):.4g} (learned), temperature={self.temperature:g}"


def _inputs(who: str, layer: nn.Module | None, features: int | None) -> int:
    weight = getattr(layer, "weight", None)
    if features is not None:
        return checks.integer(who, "features", features, 1, 2**47)
    if layer is None or not isinstance(weight, Tensor) or weight.dim() < 2:
        raise ValueError(
            f"{who}: features must be given: the number of inputs that are dropped, which "
            + ("there is no layer to tell." if layer is None else "this layer does not tell.")
        )
    return int(weight.shape[1])


# ------------------------------------------------------------------------------------- variational


@told
class VariationalLinear(Learned):
    """torch.nn.Linear with Gaussian noise on its weights, whose variance is learned.

    See `thinned.variational_dropout`. `regularizer()` is the KL divergence from the prior, in nats,
    added up over weights: for a loss that is a mean over examples, divide it by their number.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype : as in torch.nn.Linear.
    alpha : "layer" or "weights". One alpha for all, or one for each weight.
    p : float in (0, 1). Where learning begins: alpha = p / (1 - p).

    Attributes
    ----------
    log_alpha : Parameter, shape (1, 1) or the weight's.
    p : Tensor of log_alpha's shape. alpha / (1 + alpha), now.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        alpha: str = "layer",
        p: float = 0.5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        checks.one_of("VariationalLinear", "alpha", alpha, ("layer", "weights"))
        p = checks.probability("VariationalLinear", p)
        if not 0.0 < p < 1.0:
            raise ValueError(message("VariationalLinear", "p", "inside (0, 1) to be learned", p))
        self.in_features, self.out_features = in_features, out_features
        affine_parameters(self, (out_features, in_features), bias, device, dtype)
        shape = self.weight.shape if alpha == "weights" else (1, 1)
        self.log_alpha = nn.Parameter(self.weight.new_full(shape, math.log(p / (1.0 - p))))

    def probability(self) -> Tensor:
        return torch.sigmoid(self.log_alpha)

    def forward(self, x: Tensor) -> Tensor:
        at, window = self.place(x)
        y: Tensor = methods.variational_dropout(
            x, self.weight, self.log_alpha, at, self.training, bias=self.bias, window=window
        )
        return y

    def regularizer(self) -> Tensor:
        """KL divergence from the prior, in nats, over all weights."""
        kl: Tensor = methods.variational_kl(self.log_alpha.expand(self.weight.shape))
        return kl

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _Sparse(Learned):
    """What sparse variational layers share: a variance for each weight, and what it prunes."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, shape: tuple[int, ...], bias: bool, threshold: float, device: Any, dtype: Any
    ) -> None:
        super().__init__()
        self.threshold = number(type(self).__name__, "threshold", threshold)
        affine_parameters(self, shape, bias, device, dtype)
        # The authors' start: next to no noise.
        self.log_sigma2 = nn.Parameter(torch.full_like(self.weight, -10.0))

    @property
    def log_alpha(self) -> Tensor:
        """ln alpha of each weight, now."""
        found: Tensor = log_alpha_of(torch, self.weight, self.log_sigma2)
        return found

    def probability(self) -> Tensor:
        return torch.sigmoid(self.log_alpha)

    def regularizer(self) -> Tensor:
        """KL divergence from the prior, in nats, over all weights."""
        kl: Tensor = methods.variational_kl(self.log_alpha)
        return kl

    @torch.no_grad()
    def sparsity(self) -> float:
        """The share of weights that evaluation sets to 0."""
        return float((self.log_alpha > self.threshold).double().mean())


@told
class SparseVariationalLinear(_Sparse):
    """torch.nn.Linear that learns which of its weights to prune.

    See `thinned.sparse_variational_dropout`. `regularizer()` is the KL divergence from the prior,
    in nats, added up over weights: for a loss that is a mean over examples, divide it by their
    number, and let its weight grow from 0 over the first epochs.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype : as in torch.nn.Linear.
    threshold : float, finite. Weights with ln alpha above it are 0 in evaluation.

    Attributes
    ----------
    log_sigma2 : Parameter of the weight's shape. log_alpha, p : Tensors of that shape, now.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        threshold: float = 3.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__((out_features, in_features), bias, threshold, device, dtype)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        at, window = self.place(x)
        y: Tensor = methods.sparse_variational_dropout(
            x, self.weight, self.log_sigma2, at, self.training,
            bias=self.bias, threshold=self.threshold, window=window,
        )  # fmt: skip
        return y

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, threshold={self.threshold:g}"


@told
class SparseVariationalConv2d(_Sparse):
    """torch.nn.Conv2d that learns which of its weights to prune: see SparseVariationalLinear.

    y = conv(x, W) + b + z sqrt(conv(x^2, S)),  z ~ N(0, 1), one draw per element of y.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias, device, dtype : as in
        torch.nn.Conv2d; padding with zeros.
    threshold : float, finite. Weights with ln alpha above it are 0 in evaluation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        *,
        threshold: float = 3.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        super().__init__((out_channels, in_channels, *size), bias, threshold, device, dtype)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        how: Any = {"stride": self.stride, "padding": self.padding}
        if not self.training:
            pruned = self.weight.masked_fill(self.log_alpha > self.threshold, 0.0)
            return functional.conv2d(x, pruned, self.bias, **how)
        at, window = self.place(x)
        draws = Draws("SparseVariationalConv2d", x, NO_P, at, True, window)
        mean = functional.conv2d(x, self.weight, self.bias, **how)
        variance = functional.conv2d(x.square(), self.log_sigma2.exp(), **how)
        y: Tensor = with_variance(draws, draws.wide(mean), draws.wide(variance), mean.dtype)
        return y

    def extra_repr(self) -> str:
        out, into, *size = self.weight.shape
        return f"{into}, {out}, kernel_size={tuple(size)}, threshold={self.threshold:g}"
