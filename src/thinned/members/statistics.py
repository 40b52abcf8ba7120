"""Statistics of members as they come, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks

__all__ = ["Quantiles", "RunningMoments", "entropy", "probabilities_to_ask"]

Array = NDArray[np.float64]


class RunningMoments:
    """Mean and sum of squared deviations of arrays that come one by one, each element by itself.

    mean_n = mean_(n-1) + (y - mean_(n-1)) / n;  M2_n = M2_(n-1) + (y - mean_(n-1)) (y - mean_n).

    E[y^2] - E[y]^2 would cancel where the spread is small beside the mean.

    References
    ----------
    Welford, 1962, Technometrics 4, 419-420; joined by Chan, Golub and LeVeque, 1983, The American
    Statistician 37, 242-247.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.m2: Any = 0.0

    def add(self, y: Array) -> None:
        """One more."""
        self.count += 1
        away = y - self.mean
        self.mean = self.mean + away / self.count
        self.m2 = self.m2 + away * (y - self.mean)

    def join(self, other: RunningMoments) -> None:
        """All that another has seen."""
        n = self.count + other.count
        if n == 0:
            return
        away = other.mean - self.mean
        self.mean = self.mean + away * (other.count / n)
        self.m2 = self.m2 + other.m2 + away**2 * (self.count * other.count / n)
        self.count = n

    @property
    def variance(self) -> Array:
        """Unbiased: ddof = 1. Needs two."""
        found: Array = self.m2 / (self.count - 1)
        return found


class Quantiles:
    """Estimates of quantiles of arrays that come one by one, in five numbers for each of them.

    The P2 algorithm: five markers, at the least value, the greatest, the quantile and halfway
    between, are moved along a parabola as values come. Of up to five values it is exact.

    probabilities : which quantiles, each in [0, 1].

    References
    ----------
    Jain and Chlamtac, 1985, Communications of the ACM 28, 1076-1085.
    """

    def __init__(self, probabilities: Sequence[float]) -> None:
        self.probabilities = tuple(probabilities)
        self.count = 0
        self._first: list[Array] = []
        self._heights = self._places = self._wanted = np.empty(0)

    def add(self, y: Array) -> None:
        """One more."""
        self.count += 1
        if self.count <= 5:
            self._first.append(y)
            if self.count == 5:
                self._start()
            return
        h, n = self._heights, self._places  # (5, quantiles, *shape)
        cell = (y >= h[1:4]).sum(axis=0)
        h[0], h[4] = np.minimum(h[0], y), np.maximum(h[4], y)
        for i in range(1, 5):
            n[i] += cell < i
        self._wanted += self._steps
        for i in range(1, 4):
            self._move(i)

    def _start(self) -> None:
        stack = np.sort(np.stack(self._first), axis=0)
        p = np.array(self.probabilities)
        count, shape = len(p), stack.shape[1:]
        self._heights = np.repeat(stack[:, None], count, axis=1)
        self._places = np.broadcast_to(
            np.arange(5.0).reshape(5, 1, *(1,) * len(shape)), (5, count, *shape)
        ).copy()
        steps = np.stack([0 * p, p / 2, p, (1 + p) / 2, 0 * p + 1])
        self._steps = steps.reshape(5, count, *(1,) * len(shape))
        self._wanted = 4.0 * self._steps
        self._first = []

    def _move(self, i: int) -> None:
        h, n = self._heights, self._places
        behind = self._wanted[i] - n[i]
        step = np.where(
            (behind >= 1) & (n[i + 1] - n[i] > 1),
            1.0,
            np.where((behind <= -1) & (n[i - 1] - n[i] < -1), -1.0, 0.0),
        )
        up, down = n[i + 1] - n[i], n[i] - n[i - 1]
        rise, fall = (h[i + 1] - h[i]) / up, (h[i] - h[i - 1]) / down
        curved = h[i] + step / (up + down) * ((down + step) * rise + (up - step) * fall)
        straight = h[i] + step * np.where(step > 0, rise, fall)
        fits = (h[i - 1] < curved) & (curved < h[i + 1])
        h[i] = np.where(step == 0, h[i], np.where(fits, curved, straight))
        n[i] += step

    def values(self) -> Array:
        """(quantiles, *shape)."""
        if self.count < 5:
            found: Array = np.quantile(np.stack(self._first), self.probabilities, axis=0)
            return found
        p = np.array(self.probabilities).reshape(-1, *(1,) * (self._heights.ndim - 2))
        middle: Array = np.where(
            p == 0.0, self._heights[0], np.where(p == 1.0, self._heights[4], self._heights[2])
        )
        return middle


def probabilities_to_ask(who: str, quantiles: Any) -> tuple[float, ...]:
    """Which quantiles, checked; none where None."""
    if quantiles is None:
        return ()
    if isinstance(quantiles, Real) or checks.is_one_number(quantiles):
        quantiles = (quantiles,)
    asked = checks.items(who, "quantiles", quantiles, "numbers in [0, 1]")
    return tuple(checks.probability(who, q, "a quantile") for q in asked)


def entropy(p: Array) -> Array:
    """-sum p ln p over the last axis, in nats; 0 ln 0 is 0."""
    found: Array = -(p * np.log(np.where(p > 0.0, p, 1.0))).sum(axis=-1)
    return found
