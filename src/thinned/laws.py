"""What is drawn: the laws of the noise m in y = f + s m (x - f). Each knows its moments.

A law is stated for the multiplier s m as a method's training applies it, at the nominal scale, so
that its mean says whether a method keeps the expectation and its variance what noise it adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["BERNOULLI", "GAUSSIAN", "GEOMETRIC", "K_OF_N", "PLAIN_BERNOULLI", "UNIFORM", "Law"]


@dataclass(frozen=True)
class Law:
    """A law of multipliers.

    Attributes
    ----------
    name : str.
    formula : str. The multiplier in one line.
    mean, variance : callables p -> float. Of the multiplier of one element; None where they are not
        functions of p alone, and a method's row says them.
    has_one : bool. Whether the law has a member at p = 1.
    """

    name: str
    formula: str
    mean: Callable[[float], float] | None = None
    variance: Callable[[float], float] | None = None
    has_one: bool = True


def _ratio(p: float) -> float:
    return p / (1.0 - p) if p < 1.0 else 0.0  # at p = 1 nothing is kept, and nothing varies


def _kept(p: float) -> float:
    return 1.0 if p < 1.0 else 0.0


BERNOULLI = Law("Bernoulli, inverted", "m / (1 - p),  m ~ Bernoulli(1 - p)", _kept, _ratio)
PLAIN_BERNOULLI = Law(
    "Bernoulli, plain", "m ~ Bernoulli(1 - p)", lambda p: 1.0 - p, lambda p: p * (1.0 - p)
)
GAUSSIAN = Law("Gaussian", "m ~ N(1, p / (1 - p))", lambda p: 1.0, _ratio, has_one=False)
UNIFORM = Law(
    "uniform",
    "m ~ U(1 - s, 1 + s),  s = sqrt(3 p / (1 - p))",
    lambda p: 1.0,
    _ratio,
    has_one=False,
)
K_OF_N = Law("exactly k of n", "m n / k,  k = n - round(p n) ones among n elements")
GEOMETRIC = Law("geometric", "units 1..b kept,  P(b) = q^(b-1) (1 - q)")
