"""Which columns the saved model leans on: what shuffling one costs it on the test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.encoding import Encoder
from thinned.fit.model import Model
from thinned.fit.network import log_softmax
from thinned.fit.own_network import OwnNetwork
from thinned.fit.threads import one_blas_thread

__all__ = ["Importance", "importance_of", "weighted_mean"]

Array = NDArray[Any]

# Rows that are asked about, and shuffles of a column; fewer where the columns are many.
MOST_ROWS, SHUFFLES, MOST_SHUFFLES = 2000, 5, 1000


@dataclass(frozen=True)
class Importance:
    """How much higher the loss is when a column's cells are shuffled among the test rows.

    `error` is the standard error over these rows.
    """

    column: str
    value: float
    error: float


def importance_of(
    model: Model, frame: Any, target: Array, seed: int, weights: Array | None = None
) -> tuple[Importance, ...]:
    """Of all columns, the most important first.

    frame, target : the test part. weights : how much each of its rows counts; None is alike.

    References
    ----------
    Breiman, 2001, Machine Learning 45, 5-32.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(frame))
    if len(rows) > MOST_ROWS:
        rows = np.sort(rng.permutation(len(frame))[:MOST_ROWS])
    x = model.encoder.encode(frame.iloc[rows]).astype(np.float64)
    y = target[rows]
    counts = np.ones(len(rows)) if weights is None else weights[rows]
    network = model.network
    if isinstance(network, OwnNetwork):
        first, layer = x, np.eye(x.shape[1])
        say: Callable[[Array], Array] = network.outputs
    else:  # only the first layer's sums change with a column, and by little
        layer = network.weights[0].astype(np.float64)
        first = x @ layer + network.biases[0]
        say = network.onwards
    whole = _losses(say(first), y)
    places = _places(model.encoder)
    shuffles = min(SHUFFLES, max(1, MOST_SHUFFLES // len(places)))
    found = []
    with one_blas_thread():
        for name, place in places.items():
            weight = layer[place]
            more = np.zeros(len(rows))
            for _ in range(shuffles):
                moved = x[rng.permutation(len(rows)), place] - x[:, place]
                more += (_losses(say(first + moved @ weight), y) - whole) / shuffles
            found.append(Importance(name, *weighted_mean(more, counts)))
    return tuple(sorted(found, key=lambda one: -one.value))


def weighted_mean(values: Array, weights: Array) -> tuple[float, float]:
    """The weighted mean of rows, and its standard error over them."""
    share = weights / weights.sum()
    mean, n = float(share @ values), len(values)
    error = np.sqrt(n / (n - 1) * np.sum((share * (values - mean)) ** 2)) if n > 1 else 0.0
    return mean, float(error)


def _places(encoder: Encoder) -> dict[str, slice]:
    """The inputs that each column is."""
    found = {one.name: slice(i, i + 1) for i, one in enumerate(encoder.numeric)}
    at = len(found)
    for one in encoder.texts:
        found[one.name] = slice(at, at + one.inputs)
        at += one.inputs
    return found


def _losses(outputs: Array, target: Array) -> Array:
    """The loss of each row."""
    if outputs.shape[1] == 1:
        return np.asarray((outputs[:, 0] - target) ** 2)
    return np.asarray(-log_softmax(outputs)[np.arange(len(target)), target])
