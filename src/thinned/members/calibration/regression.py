"""Scores of predicted numbers, their spread and their intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.members.calibration.arguments import Array, floats, same_length

__all__ = [
    "crps",
    "gaussian_crps",
    "gaussian_pit",
    "interval_coverage",
    "interval_width",
    "pit",
    "test_log_likelihood",
]


@answering
def crps(members: ArrayLike, y: ArrayLike, *, fair: bool = False) -> Array:
    """Continuous ranked probability score of an ensemble, a row at a time.

    CRPS = mean_i |m_i - y| - (1/2) mean_ij |m_i - m_j|, in the units of y: 0 is perfect, and one
    member has its absolute error. It is the score of the M members as they stand. As an estimate
    of the score of infinitely many members it is too large by mean_ij |m_i - m_j| / (2 (M - 1)) on
    average, so it falls with M alone. `fair=True` takes the second mean over pairs i != j, which
    removes this bias: with it, ensembles of different sizes can be compared.

    Parameters
    ----------
    members : (M, N). Members' predictions.
    y : (N,). What came true.
    fair : bool. True gives the unbiased estimate, for members that are drawn independently from
        one distribution. It needs M >= 2, and it can be negative.

    Returns
    -------
    (N,) array; >= 0 unless `fair`.

    Raises
    ------
    ValueError for shapes that do not fit, NaN, nothing, or a single member with `fair`. TypeError
    if fair is no bool.

    Examples
    --------
    >>> from thinned.members.calibration import crps
    >>> members, y = [[0.0], [1.0]], [0.5]
    >>> crps(members, y), crps(members, y, fair=True)
    (array([0.25]), array([0.]))

    References
    ----------
    Gneiting and Raftery, 2007, JASA 102, 359-378. Fair: Ferro, 2014, Quarterly Journal of the Royal
    Meteorological Society 140, 1917-1923.
    """
    m, truth = floats("crps", "members", members), floats("crps", "y", y)
    if m.ndim != 2 or truth.shape != m.shape[1:]:
        raise ValueError(message("crps", "members", f"of shape (M, {truth.size})", m.shape))
    m = np.sort(m, axis=0)
    n = len(m)
    if checks.flag("crps", "fair", fair) and n < 2:
        raise ValueError(message("crps", "members", "at least 2 with fair=True", n))
    # sum_ij |m_i - m_j| = 2 sum_i (2 i - n + 1) m_i over sorted members: no (M, M, N) array.
    weights = (2 * np.arange(n) - n + 1)[:, None]
    spread: Array = (weights * m).sum(0) / (n * (n - 1) if fair else n**2)
    score: Array = abs(m - truth).mean(0) - spread
    return score


@answering
def gaussian_crps(mean: ArrayLike, std: ArrayLike, y: ArrayLike) -> Array:
    """Continuous ranked probability score of N(mean, std^2), a row at a time.

    Parameters
    ----------
    mean, y : (N,). Predicted mean, and what came true.
    std : (N,) > 0. Predicted standard deviation.

    Returns
    -------
    (N,) array >= 0, in the units of y.

    Raises
    ------
    ValueError for shapes that differ, NaN, or a std that is not positive.

    References
    ----------
    Gneiting, Raftery, Westveld, Goldman, 2005, Monthly Weather Review 133, equation 5.
    """
    m, s, truth = same_length("gaussian_crps", mean=mean, std=std, y=y)
    if s.min() <= 0.0:
        raise ValueError(message("gaussian_crps", "std", "positive", f"{s.min():g}"))
    z = (truth - m) / s
    erf = np.vectorize(math.erf, otypes=[np.float64])
    density = np.exp(-(z**2) / 2.0) / math.sqrt(2.0 * math.pi)
    score: Array = s * (z * erf(z / math.sqrt(2.0)) + 2.0 * density - 1.0 / math.sqrt(math.pi))
    return score


@answering
def pit(members: ArrayLike, y: ArrayLike) -> Array:
    """Probability integral transform (PIT) of an ensemble: the share of members below y.

    Of calibrated forecasts it is uniform on [0, 1]. A heap at both ends says that the members
    spread too little, a heap in the middle that they spread too much. Members' spread leaves out
    the noise in y: add it to the members first.

    Parameters
    ----------
    members : (M, N). Members' predictions.
    y : (N,). What came true.

    Returns
    -------
    (N,) array in [0, 1]. A member that equals y counts as half below.

    Raises
    ------
    ValueError for shapes that do not fit, NaN, or nothing.

    Examples
    --------
    >>> from thinned.members.calibration import pit
    >>> pit([[0.0], [1.0], [2.0], [3.0]], [2.5])
    array([0.75])

    References
    ----------
    Gneiting, Balabdaoui, Raftery, 2007, Journal of the Royal Statistical Society B 69, 243-268.
    """
    m, truth = floats("pit", "members", members), floats("pit", "y", y)
    if m.ndim != 2 or truth.shape != m.shape[1:]:
        raise ValueError(message("pit", "members", f"of shape (M, {truth.size})", m.shape))
    found: Array = ((m < truth) + 0.5 * (m == truth)).mean(0)
    return found


@answering
def gaussian_pit(mean: ArrayLike, std: ArrayLike, y: ArrayLike) -> Array:
    """Probability integral transform of N(mean, std^2): its distribution function at y.

    Parameters
    ----------
    mean, y : (N,). Predicted mean, and what came true.
    std : (N,) > 0. Predicted standard deviation, the noise in y included.

    Returns
    -------
    (N,) array in [0, 1], uniform for calibrated forecasts.

    Raises
    ------
    ValueError for shapes that differ, NaN, or a std that is not positive.

    References
    ----------
    As `pit`.
    """
    m, s, truth = same_length("gaussian_pit", mean=mean, std=std, y=y)
    if s.min() <= 0.0:
        raise ValueError(message("gaussian_pit", "std", "positive", f"{s.min():g}"))
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    found: Array = 0.5 * erfc((m - truth) / (s * math.sqrt(2.0)))
    return found


@answering
def interval_coverage(lower: ArrayLike, upper: ArrayLike, y: ArrayLike) -> float:
    """Prediction interval coverage probability (PICP): the share of y inside [lower, upper].

    Parameters
    ----------
    lower, upper, y : arrays of one shape, lower <= upper.

    Returns
    -------
    float in [0, 1].

    Raises
    ------
    ValueError for shapes that differ, NaN, or an upper end below its lower one.
    """
    low, high, truth = _interval("interval_coverage", lower, upper, y)
    return float(((low <= truth) & (truth <= high)).mean())


@answering
def interval_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Mean prediction interval width (MPIW), in the units of y: of equal coverage, less is better.

    Parameters
    ----------
    lower, upper : arrays of one shape, lower <= upper.

    Returns
    -------
    float >= 0.

    Raises
    ------
    ValueError as `interval_coverage`.
    """
    low, high, _ = _interval("interval_width", lower, upper, lower)
    return float((high - low).mean())


def _interval(who: str, lower: ArrayLike, upper: ArrayLike, y: ArrayLike) -> list[Array]:
    found = same_length(who, lower=lower, upper=upper, y=y)
    if (found[0] > found[1]).any():
        raise ValueError(message(who, "upper", "no less than lower", "an end below the other"))
    return found


@answering
def test_log_likelihood(members: ArrayLike, y: ArrayLike, tau: float) -> Array:
    """Log-likelihood of y under the mixture of N(m_t, 1 / tau) over members t, a row at a time.

    ln p(y) = logsumexp_t(-tau (y - m_t)^2 / 2) - ln T - ln(2 pi) / 2 + ln(tau) / 2, in nats.

    Parameters
    ----------
    members : (T, N). Members' predictions.
    y : (N,). What came true.
    tau : float > 0. The precision of the noise, in 1 / (units of y)^2.

    Returns
    -------
    (N,) array.

    Raises
    ------
    ValueError for shapes that do not fit, NaN, or a tau that is not positive.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1506.02142, section 4, and its appendix, arXiv:1506.02157.
    """
    who = "test_log_likelihood"
    m, truth = floats(who, "members", members), floats(who, "y", y)
    if m.ndim != 2 or truth.shape != m.shape[1:]:
        raise ValueError(message(who, "members", f"of shape (T, {truth.size})", m.shape))
    tau = checks.real(who, "tau", tau, "a positive number")
    if not 0.0 < tau < math.inf:
        raise ValueError(message(who, "tau", "a positive number", tau))
    exponent = -float(tau) * (truth - m) ** 2 / 2.0
    top = exponent.max(0)
    total: Array = top + np.log(np.exp(exponent - top).sum(0))
    return total - math.log(len(m)) - math.log(2.0 * math.pi) / 2.0 + math.log(tau) / 2.0


# Its name is the paper's; pytest would take it for a test.
test_log_likelihood.__test__ = False  # type: ignore[attr-defined]
