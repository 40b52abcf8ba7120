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
        rows, columns = self._kept_units()
        thin = _taken(weight, rows, columns)
        self._kept = x, thin, rows, columns
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
        x, _, rows, columns = self._recall()
        weight, bias = self.linear._drawn()
        d_weight, d_bias = x.T @ dy, dy.sum(axis=0)
        self.linear.d_weight = _put(d_weight, weight, rows, columns)
        self.linear.d_bias = _put(d_bias, bias, columns)

    def parameters(self) -> list[Parameter]:
        """Those of the whole layer."""
        return self.linear.parameters()

    def forget(self) -> None:
        """Let go of the last batch and of the gradients."""
        super().forget()
        self.linear.forget()

    def _kept_units(self) -> tuple[Any, Any]:
        return self.below.kept, None if self.above is None else self.above.kept


def _taken(weight: Array, rows: Any, columns: Any) -> Array:
    # Rows first, which are copied whole; numpy.take of columns is quicker than numpy.ix_ of both.
    thin = weight if rows is None else weight[rows]
    return thin if columns is None else thin.take(columns, axis=1)


def _put(gradient: Any, like: Array, *kept: Any) -> Array:
    if all(indices is None for indices in kept):
        return np.asarray(gradient)
    whole = np.zeros(like.shape, gradient.dtype)
    indices = [
        np.arange(n) if some is None else some for n, some in zip(like.shape, kept, strict=True)
    ]
    whole[np.ix_(*indices)] = gradient
    return whole
