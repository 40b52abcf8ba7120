"""The layers of a network written by hand: a forward pass, and beside it the same pass backwards.

Throughout, a batch x has shape (N, features), one row per example, and `dy` stands for the gradient
of the loss with respect to a layer's output: dy[i, j] = dL / dy_ij. Going backwards, a layer is
handed dy and returns dx, which is the dy of the layer below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw, Located
from thinned.backends.numpy import FLOATING, backend
from thinned.checks import message, written
from thinned.foreign_arguments import answering
from thinned.methods.equation import apply_noise
from thinned.numpy.settings import choice, floats

__all__ = ["Dropout", "Layer", "Linear", "Parameter", "ReLU", "Tanh"]

Array = NDArray[Any]


@dataclass(slots=True)
class Parameter:
    """Numbers that learn, and the gradient of the loss by them.

    Parameters
    ----------
    value : array. Optimizers change it in place.
    gradient : array of value's shape, or None before the first backward pass.
    is_weight : bool. True for weights, shape (n_in, n_out), which decay and have a norm; False for
        biases, which do neither.
    """

    value: Array
    gradient: Array | None
    is_weight: bool


class Layer:
    """What every layer is: a forward pass, a backward pass, and the memory that joins them.

    To write your own, define `forward`, which puts what the backward pass will need into
    `self._kept`, and `backward`, which takes it from `self._recall()`. A layer with numbers that
    learn also lists them in `parameters`.
    """

    # Whether the layer draws, so that a network must give it an address if it has none.
    draws = False
    at: Address | None = None
    _kept: Any = None

    def forward(self, x: Array, training: bool) -> Array:
        """The layer's output for the batch x."""
        raise NotImplementedError(f"{type(self).__name__}.forward is not written.")

    def backward(self, dy: Array) -> Array:
        """dx for the batch of the last forward pass; also sets the gradients of the parameters."""
        raise NotImplementedError(f"{type(self).__name__}.backward is not written.")

    def gradients(self, dy: Array) -> None:
        """The parameters' gradients alone: all that the lowest layer that learns is needed for."""
        self.backward(dy)

    def parameters(self) -> list[Parameter]:
        """What learns in this layer; by default nothing."""
        return []

    def place(self, at: Address) -> None:
        """Take this address."""
        self.at = at

    def tick(self) -> None:
        """An optimizer step has been made. Most layers do not mind."""

    def forget(self) -> None:
        """Let go of the arrays that the last forward pass left for a backward one."""
        self._kept = None

    def _recall(self) -> Any:
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: there is no forward pass to go back through. "
                "Call forward first."
            )
        return self._kept


def _float_type(dtype: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        found = np.dtype(object)
    if found.name not in FLOATING:
        listed = " or ".join(FLOATING)
        raise TypeError(message("Linear", "dtype", listed, written(dtype)))
    return found


def _gaussian(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `reference.gaussian` makes of these uniforms, of each pair at once."""
    radius, angle = np.sqrt(-2.0 * np.log(u[::2])), 2.0 * np.pi * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)


class Linear(Layer):
    """Every output is a weighted sum of all inputs, plus a bias.

    y = x W + b;    dW = x' dy,  db = sum of dy over the batch,  dx = dy W'.

    Parameters
    ----------
    n_in, n_out : int >= 1. Features of x and of y.
    init : "he" or "glorot". "he" draws W from N(0, 2 / n_in), which keeps the variance through
        ReLU; "glorot" from the uniform distribution on (-a, a), a = sqrt(6 / (n_in + n_out)), which
        suits tanh and an output layer. Biases begin at 0.
    at : Address or None. Where the weights are drawn: equal addresses give equal weights. None
        leaves the drawing to the Sequential that the layer is put into.
    dtype : float type of W and b. float32 by default; a gradient check needs float64. Arithmetic
        runs in the wider of this and of x's type.

    Attributes
    ----------
    weight : array, shape (n_in, n_out). bias : array, shape (n_out,).
    d_weight, d_bias : the gradients that the last backward pass left, or None. They are replaced by
        each backward pass, not added to.

    Raises
    ------
    ValueError if x is not of shape (N, n_in). RuntimeError if the layer has no address yet, or on
    backward before forward.

    References
    ----------
    He et al., 2015, arXiv:1502.01852. Glorot and Bengio, 2010, PMLR 9, 249-256.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> layer = Linear(3, 2, at=thinned.Address(seed=0, site="fc1"))
    >>> layer.forward(np.zeros((4, 3), np.float32), training=True).shape
    (4, 2)
    """

    draws = True

    def __init__(
        self,
        n_in: int,
        n_out: int,
        init: str = "he",
        at: Address | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.n_in = checks.integer("Linear", "n_in", n_in, 1, 2**31)
        self.n_out = checks.integer("Linear", "n_out", n_out, 1, 2**31)
        self.init = choice("Linear", "init", init, ("he", "glorot"))
        self.dtype = _float_type(dtype)
        self.weight: Array | None = None
        self.bias: Array | None = None
        self.d_weight: Array | None = None
        self.d_bias: Array | None = None
        if at is not None:
            self.place(at)

    def place(self, at: Address) -> None:
        """Take this address, and draw the weights there."""
        located = Located.checked("Linear", at, None)
        self.at = located.at
        n = self.n_in * self.n_out
        even = (n + n % 2,)  # normal draws come in pairs
        words = backend.words(Draw(located.at, 0, located.place("Linear", even, even, ())))
        u = reference.uniform24(words).astype(np.float64)
        if self.init == "he":
            drawn = _gaussian(u) * np.sqrt(2 / self.n_in)
        else:
            drawn = (2 * u - 1) * np.sqrt(6 / (self.n_in + self.n_out))
        self.weight = drawn[:n].reshape(self.n_in, self.n_out).astype(self.dtype)
        self.bias = np.zeros(self.n_out, self.dtype)

    def _taken(self, x: Any) -> Any:
        return floats("Linear", "x", x)

    def forward(self, x: Array, training: bool) -> Array:
        """y = x W + b, shape (N, n_out). The same in training and in evaluation."""
        weight, bias = self._drawn()
        x = self._taken(x)
        if x.ndim != 2 or x.shape[1] != self.n_in:
            raise ValueError(message("Linear", "x", f"of shape (N, {self.n_in})", x.shape))
        self._kept = x
        y: Array = x @ weight
        y += bias
        return y

    def backward(self, dy: Array) -> Array:
        """dx = dy W', shape (N, n_in); sets d_weight and d_bias."""
        self.gradients(dy)
        weight, _ = self._drawn()
        return dy @ weight.T

    def gradients(self, dy: Array) -> None:
        """Set d_weight = x' dy and d_bias, and leave dx."""
        x = self._recall()
        self.d_weight = x.T @ dy
        self.d_bias = dy.sum(axis=0)

    def parameters(self) -> list[Parameter]:
        """The weight and the bias."""
        weight, bias = self._drawn()
        return [
            Parameter(weight, self.d_weight, is_weight=True),
            Parameter(bias, self.d_bias, is_weight=False),
        ]

    def forget(self) -> None:
        """Let go of the last batch and of the gradients."""
        super().forget()
        self.d_weight = self.d_bias = None

    def _drawn(self) -> tuple[Array, Array]:
        if self.weight is None or self.bias is None:
            raise RuntimeError(
                "Linear: the weights are not drawn yet, for want of an address. Pass "
                "at=thinned.Address(seed=0, site='fc1'), or put the layer into a Sequential."
            )
        return self.weight, self.bias


class ReLU(Layer):
    """Negative values become 0.

    y = max(x, 0);    dx = dy where y > 0, else 0 (at x = 0, where there is no derivative, 0).
    """

    def forward(self, x: Array, training: bool) -> Array:
        """max(x, 0), of x's shape."""
        y: Array = np.maximum(floats("ReLU", "x", x), 0)
        self._kept = y
        return y

    def backward(self, dy: Array) -> Array:
        """dy where the unit was on, 0 where it was off."""
        y = self._recall()
        dx: Array = dy * (y > 0)  # numpy.where takes four times as long
        return dx


class Tanh(Layer):
    """Values are squashed into (-1, 1).

    y = tanh(x);    dx = dy (1 - y^2).
    """

    def forward(self, x: Array, training: bool) -> Array:
        """tanh(x), of x's shape."""
        y: Array = np.tanh(floats("Tanh", "x", x))
        self._kept = y
        return y

    def backward(self, dy: Array) -> Array:
        """dy (1 - y^2)."""
        y = self._recall()
        dx: Array = dy * (1 - y * y)
        return dx


class Dropout(Layer):
    """Each training step runs on a thinned network: units are dropped with probability p.

    rescale="train":  y = x m / (1 - p) in training,  y = x in evaluation.
    rescale="test":   y = x m in training,            y = x (1 - p) in evaluation.
    Either way dx is the same thing done to dy, with the same mask m ~ Bernoulli(1 - p).

    The mask is not stored. It is a function of the address, so the backward pass draws it again.

    Parameters
    ----------
    p : float in [0, 1]. Probability of dropping a unit. p = 0 draws nothing and copies nothing;
        p = 1 gives zeros.
    at : Address or None. Equal addresses give equal masks. None leaves it to the Sequential that
        the layer is put into. `tick` moves it one step on; until then every forward pass has the
        same mask, which is what a gradient check needs.
    rescale : "train" or "test". When the rescaling is done: during training (inverted
        dropout, the default in all current frameworks) or at test time (the original paper's).
    shared_axes : int or tuple of ints. Axes along which one draw is shared; (0,) gives every row of
        the batch the same mask.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or a shared axis does not exist. TypeError if there is
    no address, or x is not floating. RuntimeError on backward before forward.

    References
    ----------
    Hinton et al., 2012, arXiv:1207.0580; Srivastava et al., 2014, JMLR 15, 1929-1958.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> layer = Dropout(0.5, at=thinned.Address(seed=0, site="fc1", step=7))
    >>> layer.forward(np.ones((1, 8), np.float32), training=True)
    array([[2., 0., 2., 0., 0., 0., 2., 0.]], dtype=float32)
    """

    draws = True

    @answering
    def __init__(
        self,
        p: float = 0.5,
        at: Address | None = None,
        rescale: str = "train",
        shared_axes: int | tuple[int, ...] = (),
    ) -> None:
        self.p = checks.probability("Dropout", p)
        self.at = at
        self.rescale = choice("Dropout", "rescale", rescale, ("train", "test"))
        self.shared_axes = shared_axes

    def forward(self, x: Array, training: bool) -> Array:
        """The thinned x in training; x, or x (1 - p) under rescale="test", in evaluation."""
        self._kept = (self.at, self.p, training)  # enough to draw the same mask again
        return self._thin(x, *self._kept)

    def backward(self, dy: Array) -> Array:
        """The same call as forward, on dy: dropout is linear and its own adjoint."""
        return self._thin(dy, *self._recall())

    def tick(self) -> None:
        """Go one step on: the next forward pass has another mask."""
        if self.at is not None:
            self.at = self.at.replace(step=self.at.step + 1)

    def _thin(self, x: Array, at: Any, p: float, training: bool) -> Array:
        if p == 0:
            return x
        # None is "1 / (1 - p)" to apply_noise.
        scale = None if self.rescale == "train" else 1.0
        y: Array = apply_noise(
            "Dropout", x, p, at, scale=scale, training=training, shared_axes=self.shared_axes
        )
        if training or self.rescale == "train":
            return y
        plain: Array = floats("Dropout", "x", x)
        if p == 1:  # infinity times 0 would be NaN
            return np.zeros_like(x, subok=False)
        # Half types compute in float32 and round once.
        wide = np.promote_types(plain.dtype, np.float32)
        return np.multiply(plain, 1 - p, dtype=wide).astype(x.dtype, copy=False)
