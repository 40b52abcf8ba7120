"""Units with a drop probability of their own: standout, excitation dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.checks import message
from thinned.methods.arguments import number
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["excitation_dropout", "standout"]

BA = Paper(
    "Ba, Frey", 2013, "Adaptive dropout for training deep neural networks", "NIPS 26, 3084-3092",
)  # fmt: skip
ZUNINO = Paper(
    "Zunino, Bargal, Morerio, Zhang, Sclaroff, Murino", 2021,
    "Excitation dropout: encouraging plasticity in deep neural networks", "arXiv:1805.09092",
)  # fmt: skip

# exp(80) is finite in binary32, and so is a hundredth of exp(-80).
STEEPEST = 80.0


def _standout_dropped(xp: Any, s: Any, p: Any, alpha: float) -> Any:
    """1 - sigmoid(alpha s + ln((1 - p) / p)), without the logarithm: p may be 0 or 1."""
    z = xp.clip(alpha * s, -STEEPEST, STEEPEST)
    dropped, kept = p / (1.0 + xp.exp(z)), (1.0 - p) / (1.0 + xp.exp(-z))
    return dropped / (dropped + kept)


def _standout_moments(
    x: NDArray[np.float64], s: NDArray[np.float64], p: float, alpha: float = 1.0, **_: Any
) -> tuple[Any, Any]:
    k = 1.0 / (1.0 + np.exp(-alpha * s) * p / (1.0 - p))
    return k * x, k * (1.0 - k) * x**2


def _two_normals(rng: np.random.Generator) -> tuple[Any, ...]:
    x, s = rng.standard_normal((2, 6, 5))
    return np.sign(x) * (0.5 + abs(x)), s


@method(
    title="Standout",
    rank="classic",
    target="units",
    formula="y = x m,  m ~ Bernoulli(sigmoid(alpha s + beta)),  beta = ln((1 - p) / p)",
    scale="1 in training",
    inference="times the keep probability",
    moments=Moments("k x,  k = sigmoid(alpha s + beta)", "x^2 k (1 - k)", _standout_moments),
    papers=(BA,),
    module="Standout",
    check=lambda who, alpha: number(who, "alpha", alpha),
    sample=Sample(
        arrays=_two_normals,
        independent=(0, 1),
        splits=(0, 1),
        dropped=None,
        evaluation=lambda x, s, p, alpha=1.0: _standout_moments(x, s, p, alpha)[0],
    ),
    takes=("complex", "rates"),
    note="The first dropout that depends on its input: strong units are kept more often. Of "
    "historical interest; attention and gates have replaced it.",
)
def standout(
    x: Any,
    s: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    alpha: float = 1.0,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop each unit with a probability computed by a belief network overlaid on the layer.

    y = x m,  m ~ Bernoulli(k),  k = sigmoid(alpha s + beta),  beta = ln((1 - p) / p);
    evaluation: y = k x.

    Parameters
    ----------
    x : array, any shape, floating: the activations. Never modified.
    s : array, x's shape: the overlaid network's input to each unit. The paper ties its weights to
        the layer's own, so that s is the pre-activation. It receives no gradient in training.
    p : float in [0, 1]. Probability of dropping a unit with s = 0, in place of the paper's beta;
        p = 1 gives zeros, p = 0 gives x.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives the expectation, k x.
    alpha : float. The influence of s; 0 is dropout without a scale. The paper's scale of weights.
    window : Window or None. Where x and s sit in larger logical arrays.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = k x; Var[y] = x^2 k (1 - k).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, s has another shape, or alpha is not finite. TypeError
    if x is not floating.

    References
    ----------
    Ba and Frey, 2013, NIPS 26, 3084-3092.
    """
    draws = Draws("standout", x, p, at, training, window, mirror)
    alpha = number(draws.who, "alpha", alpha)
    s = draws.beside("s", s, draws.shape)
    dropped = _standout_dropped(draws.xp, s, draws.p, alpha)
    if not draws.training:
        return draws.scaled(x, 1.0 - dropped)
    return draws.select(x, draws.uniform() >= dropped)


def _excitation_dropped(xp: Any, evidence: Any, p: Any) -> Any:
    """The paper's probability, in the form a / (a + b) whose parts are never negative."""
    axes = tuple(range(1, evidence.ndim))
    n = math.prod(evidence.shape[1:])
    strength = xp.where(evidence > 0.0, evidence, xp.zeros_like(evidence))
    total = xp.sum(strength, axis=axes, keepdims=True)
    known = total > 0.0
    share = strength / xp.where(known, total, xp.ones_like(total))
    share = xp.where(known, share, xp.full_like(share, 1.0 / max(n, 1)))
    a, b = p * (n - 1) * share, (1.0 - p) * (1.0 - share)
    settled = a + b > 0.0
    return xp.where(settled, a / xp.where(settled, a + b, xp.ones_like(b)), p + xp.zeros_like(b))


def _excitation_moments(
    x: NDArray[np.float64], evidence: NDArray[np.float64], p: float, **_: Any
) -> tuple[Any, Any]:
    axes = tuple(range(1, x.ndim))
    n, e = math.prod(x.shape[1:]), evidence / evidence.sum(axes, keepdims=True)
    d = p * (n - 1) * e / ((p * n - 1) * e + 1.0 - p)
    return x * (1.0 - d) / (1.0 - p), x**2 * d * (1.0 - d) / (1.0 - p) ** 2


def _units_and_evidence(rng: np.random.Generator) -> tuple[Any, ...]:
    x, _ = _two_normals(rng)
    return x, rng.random((6, 5))


@method(
    title="Excitation Dropout",
    rank="classic",
    target="units",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - d),  d = p (N - 1) e / ((p N - 1) e + 1 - p)",
    moments=Moments("x (1 - d) / (1 - p)", "x^2 d (1 - d) / (1 - p)^2", _excitation_moments),
    papers=(ZUNINO,),
    module="ExcitationDropout",
    sample=Sample(arrays=_units_and_evidence, independent=(0, 1), dropped=None),
    takes=("complex",),
    note="Drops the units that the prediction relies on most, so that other paths learn. The "
    "evidence costs another backward pass. Of historical interest.",
)
def excitation_dropout(
    x: Any,
    evidence: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop units with more evidence for the prediction with a higher probability.

    y = x m / (1 - p),  m ~ Bernoulli(1 - d),  d = p (N - 1) e / ((p N - 1) e + 1 - p), where e is
    the unit's share of the evidence in its sample and N the number of units. d is 0 for a unit
    without evidence, 1 for one that has it all, and p where all have the same share.

    Parameters
    ----------
    x : array, shape (N, ...), floating: the activations. Never modified.
    evidence : array, x's shape: how much each unit supports the prediction. The paper takes it
        from excitation backprop; it is normalised here over each sample, and numbers that are not
        above zero count as zero. Where a sample has none, its units are dropped with probability p.
    p : float in [0, 1]. Probability of dropping a unit whose share is 1 / N; p = 1 gives zeros.
    at, training, mirror : as in `thinned.dropout`.
    window : Window or None. Where x and the evidence sit in larger logical arrays; it may split
        only the first axis.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x (1 - d) / (1 - p), which is x where shares are
    equal; Var[y] = x^2 d (1 - d) / (1 - p)^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than two axes, evidence has another shape,
    or the window splits another axis. TypeError if x is not floating.

    References
    ----------
    Zunino et al., 2021, arXiv:1805.09092, whose P is 1 - p. The paper gives d; the scale is that of
    dropout, so equal shares give exactly dropout.
    """
    draws = Draws("excitation_dropout", x, p, at, training, window, mirror)
    if len(draws.shape) < 2:
        got = f"an array of shape {draws.shape}"
        raise ValueError(message(draws.who, "x", "of shape (N, units, ...)", got))
    draws.require_whole(*range(1, len(draws.shape)))
    evidence = draws.beside("evidence", evidence, draws.shape)
    if not draws.training:
        return x
    keep = draws.uniform() >= _excitation_dropped(draws.xp, evidence, draws.p)
    return draws.select(x, keep, draws.rate()[1])
