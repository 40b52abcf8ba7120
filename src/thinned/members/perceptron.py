"""The thinned networks of a perceptron in NumPy: run at their true, smaller size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import methods
from thinned.address import Address, Mirrored
from thinned.members.prediction import Gathered, Prediction, joined
from thinned.members.request import Asked, Members, in_blocks
from thinned.window import Window

__all__ = ["Perceptron", "predict_perceptron"]

Array = NDArray[Any]

# Rows that go through together: see thinned.estimators.perceptron.
ROWS = 4096


class Perceptron:
    """Layers of weights (inputs, outputs) with dropout on the input of each.

    sites, p : of each layer's input. activation : "relu" or "tanh", between layers.
    scale, mean : what the output is multiplied with, and what is added.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Array, Array]],
        sites: Sequence[str],
        p: Sequence[float],
        activation: str = "relu",
        scale: float = 1.0,
        mean: float = 0.0,
    ) -> None:
        self.layers, self.sites, self.p = list(layers), list(sites), list(p)
        self.activation, self.scale, self.mean = activation, scale, mean

    def member(self, x: Any, seed: int, mirrored: bool, share: str, first: int) -> Array:
        """What one thinned network says of rows first, first + 1, ... of a pool."""
        kind = Mirrored if mirrored else Address
        places = [kind(seed, site) for site in self.sites]
        thin = share == "member"
        y = self._thin(x, places) if thin else self._elementwise(x, places, first)
        if self.scale == 1.0 and self.mean == 0.0:
            return y
        return np.asarray(y.astype(np.float64) * self.scale + self.mean)

    def _thin(self, x: Any, places: Sequence[Address]) -> Array:
        """All rows share the draws of units: the dropped ones are not computed."""
        kept: list[Any] = [
            np.flatnonzero(methods.keep_mask(len(weight), p, at))
            for (weight, _), p, at in zip(self.layers, self.p, places, strict=True)
        ]
        kept.append(slice(None))
        y = x[:, kept[0]]
        for i, (now, then) in enumerate(pairwise(kept)):
            weight, bias = self.layers[i]
            scale = 1.0 / (1.0 - self.p[i]) if self.p[i] < 1.0 else 1.0
            y = np.asarray(y @ (weight[now][:, then] * weight.dtype.type(scale)))
            y += bias[then]
            y = self._activated(y, i)
        return np.asarray(y)

    def _elementwise(self, x: Any, places: Sequence[Address], first: int) -> Array:
        """Each row has draws of its own, by its number."""
        y = x.toarray() if hasattr(x, "toarray") else x
        for i, (weight, bias) in enumerate(self.layers):
            y = methods.dropout(y, self.p[i], places[i], window=Window(first)) @ weight
            y += bias
            y = self._activated(y, i)
        return np.asarray(y)

    def _activated(self, y: Array, layer: int) -> Array:
        if layer == len(self.layers) - 1:
            return y
        return np.maximum(y, 0, out=y) if self.activation == "relu" else np.tanh(y, out=y)


def predict_perceptron(
    who: str, network: Perceptron, x: Any, asked: Asked, single: bool = False
) -> Prediction:
    """The prediction by many thinned networks. single : the one output is a number for each row.

    Raises
    ------
    ValueError if all of them say the same.
    """
    starts = range(0, x.shape[0], ROWS)
    batches = [
        Gathered(who, asked.task, asked.antithetic, asked.keep, asked.quantiles) for _ in starts
    ]

    def block(several: Members) -> None:
        for first, gathered in zip(starts, batches, strict=True):
            rows = x[first : first + ROWS]
            for seed, mirrored in several:
                y = network.member(rows, seed, mirrored, asked.share, first)
                gathered.add(y[:, 0] if single else y)

    reached = in_blocks(asked, batches, block)
    if all(batch.equal for batch in batches):
        raise ValueError(
            f"{who}: all {batches[0].all.count} members gave the same answers to the bit: nothing "
            f"that matters was dropped. p is {', '.join(f'{p:g}' for p in network.p)}, for the "
            "input and each hidden layer. Fit with p > 0."
        )
    return joined(
        batches,
        seed=asked.seed,
        share=asked.share,
        until=asked.until,
        reached=reached,
        execution="thin" if asked.share == "member" else "elementwise",
    )
