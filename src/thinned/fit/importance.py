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

__all__ = ["Importance", "importance_of"]

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


def importance_of(model: Model, frame: Any, target: Array, seed: int) -> tuple[Importance, ...]:
    """Of all columns, the most important first. frame, target : the test part.

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
    network = model.network
    if isinstance(network, OwnNetwork):
        first, weights = x, np.eye(x.shape[1])
        say: Callable[[Array], Array] = network.outputs
    else:  # only the first layer's sums change with a column, and by little
        weights = network.weights[0].astype(np.float64)
        first = x @ weights + network.biases[0]
        say = network.onwards
    whole = _losses(say(first), y)
    places = _places(model.encoder)
    shuffles = min(SHUFFLES, max(1, MOST_SHUFFLES // len(places)))
    found = []
    with one_blas_thread():
        for name, place in places.items():
            weight = weights[place]
            more = np.zeros(len(rows))
            for _ in range(shuffles):
                moved = x[rng.permutation(len(rows)), place] - x[:, place]
                more += (_losses(say(first + moved @ weight), y) - whole) / shuffles
            error = more.std(ddof=1) / np.sqrt(len(more)) if len(more) > 1 else 0.0
            found.append(Importance(name, float(more.mean()), float(error)))
    return tuple(sorted(found, key=lambda one: -one.value))


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
