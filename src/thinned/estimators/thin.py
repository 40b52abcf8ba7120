"""A perceptron's layers for minibatches that share one mask: only what is kept is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import reference
from thinned.address import Address
from thinned.methods.bernoulli import keep_mask
from thinned.numpy import Dropout, Layer, Linear, Parameter

__all__ = ["ThinLinear", "UnitDropout"]

Array = NDArray[Any]


class UnitDropout(Dropout):
    """Dropout of units for all rows of a batch at once, next to layers that leave them out.

    y = x[:, kept] / (1 - p) for the network's input; behind a ThinLinear, which has left out what
    is not kept, y = x / (1 - p).

    Parameters
    ----------
    p, at : as in `thinned.numpy.Dropout`.
    units : int. The units of the whole layer.
    selects : bool. Whether x still has all of them.
    """

    at: Address

    def __init__(self, p: float, at: Address, units: int, selects: bool) -> None:
        super().__init__(p, at, shared_axes=(0,))
        self.units, self.selects = units, selects
        self._drawn: tuple[Address, Any] | None = None

    @property
    def kept(self) -> Any:
        """The indices of the units that this step keeps, or None for all."""
        if self.p == 0:
            return None
        if self._drawn is None or self._drawn[0] != self.at:
            self._drawn = self.at, np.flatnonzero(keep_mask(self.units, self.p, self.at))
        return self._drawn[1]

    def forward(self, x: Any, training: bool) -> Any:
        """The kept units of x, scaled. A sparse batch stays sparse."""
        if self.p == 0:
            return x
        thin = x[:, self.kept] if self.selects else x
        # Nothing is left of x at p = 1, and nothing to scale.
        return thin if self.p == 1 else thin * self._scale(thin.dtype)

    def backward(self, dy: Array) -> Array:
        """dx, with zeros for what was dropped where x had it."""
        if self.p in (0, 1) and not self.selects:
            return dy
        scaled: Array = dy if self.p in (0, 1) else dy * self._scale(dy.dtype)
        if not self.selects or self.p == 0:
            return scaled
        whole = np.zeros((len(dy), self.units), dy.dtype)
        whole[:, self.kept] = scaled
        return whole

    def _scale(self, dtype: Any) -> Any:
        return np.dtype(dtype).type(reference.scale_for(self.p))


class ThinLinear(Layer):
    """A Linear layer that runs with the kept rows and columns of its weight.

    Its parameters, and their gradients, stay whole: what is not kept gets a gradient of zero.

    Parameters
    ----------
    linear : Linear, whose weights these are.
    below, above : UnitDropout; above is None for the output layer.
    """

    def __init__(self, linear: Linear, below: UnitDropout, above: UnitDropout | None) -> None:
        self.linear, self.below, self.above = linear, below, above

    def forward(self, x: Any, training: bool) -> Array:
        """y = x W[rows][:, columns] + b[columns]."""
        weight, bias = self.linear._drawn()
        columns = None if self.above is None else self.above.kept
        place = _place(weight.shape, self.below.kept, columns)
        thin = weight if place is None else _taken(weight, place)
        self._kept = x, thin, place, columns
        y: Array = x @ thin
        y += bias if columns is None else bias[columns]
        return y

    def backward(self, dy: Array) -> Array:
        """dx of the kept inputs; sets the gradients."""
        self.gradients(dy)
        dx: Array = dy @ self._recall()[1].T
        return dx

    def gradients(self, dy: Array) -> None:
        """Set the whole gradients, zero where nothing was kept."""
        x, _, place, columns = self._recall()
        d_weight, d_bias = np.asarray(x.T @ dy), dy.sum(axis=0)
        self.linear.d_weight = d_weight if place is None else self._whole(d_weight, place)
        if columns is not None:
            d_bias, part = np.zeros(self.linear.n_out, dy.dtype), d_bias
            d_bias[columns] = part
        self.linear.d_bias = d_bias

    def _whole(self, part: Array, place: Array) -> Array:
        # One array for all steps: a new one of many numbers takes the system longer to hand out
        # than it takes to fill.
        whole = self.linear.d_weight
        if whole is None or whole.dtype != part.dtype:
            whole = np.empty((self.linear.n_in, self.linear.n_out), part.dtype)
        whole.fill(0)
        _put(part, whole, place)
        return whole

    def parameters(self) -> list[Parameter]:
        """Those of the whole layer."""
        return self.linear.parameters()

    def forget(self) -> None:
        """Let go of the last batch and of the gradients."""
        super().forget()
        self.linear.forget()


def _place(shape: tuple[int, ...], rows: Any, columns: Any) -> Any:
    """Where a weight is kept: the numbers of rows, or of elements; None for everywhere."""
    if columns is None:
        return rows
    if rows is None:
        rows = np.arange(shape[0])
    # Numbers of elements are quicker than numpy.ix_, and serve the weight and its gradient.
    return rows[:, None] * shape[1] + columns


def _taken(weight: Array, place: Array) -> Array:
    return weight[place] if place.ndim == 1 else weight.reshape(-1)[place]


def _put(part: Array, whole: Array, place: Array) -> None:
    """Write `part` where `_taken` would take it from."""
    if place.ndim == 1:
        whole[place] = part
    else:
        whole.reshape(-1)[place] = part
