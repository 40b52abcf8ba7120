"""The network of an estimator: its layers, with dropout before each, for dense or sparse rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from thinned import reference
from thinned.address import Address
from thinned.estimators.settings import Settings
from thinned.estimators.thin import ThinLinear, UnitDropout
from thinned.methods.placing import draw_for
from thinned.numpy import Dropout, Layer, Linear, ReLU, Sequential, Tanh

__all__ = ["SparseDropout", "SparseLinear", "network_of"]


class SparseDropout(Dropout):
    """Dropout that takes a sparse batch too: zeros stay zeros, so only stored elements are drawn.

    An element's draw depends on its index alone, so the mask is the one the dense batch would get.
    """

    def _thin(self, x: Any, at: Any, p: float, training: bool) -> Any:
        return (
            self._thin_csr(x, at, p, training) if issparse(x) else super()._thin(x, at, p, training)
        )

    def _thin_csr(self, x: Any, at: Any, p: float, training: bool) -> Any:
        if p == 0 or not training:
            return x
        draw = draw_for("Dropout", x.shape, p, at)
        first = np.arange(x.shape[0], dtype=np.uint64) * np.uint64(x.shape[1])
        index = np.repeat(first, np.diff(x.indptr)) + x.indices.astype(np.uint64)
        keep = reference.keep_at(at, draw.threshold, index)
        data = reference.apply(x.data, keep, reference.scale_for(p))
        return csr_array((data, x.indices, x.indptr), shape=x.shape)


class SparseLinear(Linear):
    """Linear that takes a sparse batch too, whose products are those of the dense one."""

    def _taken(self, x: Any) -> Any:
        return x if issparse(x) else super()._taken(x)


def network_of(linear: list[Linear], masks: list[Address], settings: Settings) -> Sequential:
    """Dropout at these addresses before each of these layers, and the activation between them.

    Thin, rows of a minibatch share their masks, and the layers compute what is kept.
    """
    thin = settings.execution == "thin"
    units = [
        UnitDropout(p, at, layer.n_in, selects=i == 0)
        for i, (layer, at, p) in enumerate(zip(linear, masks, settings.p, strict=True))
    ]
    layers: list[Layer] = []
    for i, (layer, at, p) in enumerate(zip(linear, masks, settings.p, strict=True)):
        if layers:
            layers.append(ReLU() if settings.activation == "relu" else Tanh())
        if thin:
            above = units[i + 1] if i + 1 < len(units) else None
            layers += [units[i], ThinLinear(layer, units[i], above)]
        else:
            layers += [Dropout(p, at) if layers else SparseDropout(p, at), layer]
    return Sequential(*layers)
