"""Branches of residual networks, shaken: shake-shake, ShakeDrop. Backward takes another draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.checks import message, written
from thinned.methods.arguments import number, one_of
from thinned.methods.draws import NO_P, Draws
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["shake_drop", "shake_shake"]

GASTALDI = Paper("Gastaldi", 2017, "Shake-shake regularization", "arXiv:1705.07485")
YAMADA = Paper(
    "Yamada, Iwamura, Akiba, Kise", 2019,
    "ShakeDrop regularization for deep residual learning", "arXiv:1802.02375",
)  # fmt: skip


def _coefficient(
    draws: Draws, shared: tuple[int, ...], number: int, low: float, high: float
) -> Any:
    xp = draws.xp
    u = draws.uniform(shared, number=number)
    return low + (high - low) * xp.astype(u, draws.wide(draws.x).dtype)


def _with_gradient_of(draws: Draws, value: Any, path: Any) -> Any:
    """value to the bit, and the gradient of `path`. Where path is not finite there is none."""
    xp = draws.xp
    path = xp.where(xp.isfinite(path), path, xp.zeros_like(path))
    return draws.stop_gradient(value) + (path - draws.stop_gradient(path))


# ---------------------------------------------------------------------------------------- two paths


def _even_moments(x: NDArray[np.float64], other: NDArray[np.float64], **_: Any) -> tuple[Any, Any]:
    return (x + other) / 2.0, (x - other) ** 2 / 12.0


def _two_branches(rng: np.random.Generator) -> tuple[Any, ...]:
    x = rng.standard_normal((6, 3, 2))
    return np.sign(x) * (0.5 + abs(x)), np.broadcast_to(rng.random((6, 1, 1)) - 2.0, x.shape).copy()


def _even_check(who: str, level: Any, forward: Any, backward: Any) -> None:
    one_of(who, "level", level, ("image", "batch"))
    one_of(who, "forward", forward, ("shake", "even"))
    one_of(who, "backward", backward, ("shake", "even", "keep"))


@method(
    title="Shake-Shake",
    rank="classic",
    target="branches",
    formula="y = a x + (1 - a) other,  a ~ U(0, 1);  backward: b and 1 - b,  b ~ U(0, 1)",
    shared="all axes but the first, or all: one coefficient per image or per batch",
    scale="1",
    fill="other, the second branch",
    inference="the mean of both branches",
    moments=Moments("(x + other) / 2", "(x - other)^2 / 12", _even_moments),
    papers=(GASTALDI,),
    module="ShakeShake",
    check=_even_check,
    sample=Sample(
        arrays=_two_branches,
        independent=(0,),
        dropped=None,
        own_gradient=True,
        evaluation=lambda x, other, p: (x + other) / 2.0,
    ),
    note="The best result on CIFAR-10 in its year, with two-branch networks built for it.",
)
def shake_shake(
    x: Any,
    other: Any,
    at: Address,
    training: bool = True,
    *,
    level: str = "image",
    forward: str = "shake",
    backward: str = "shake",
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Mix two branches at random, and divide the gradient at random independently.

    y = a x + (1 - a) other,  a ~ U(0, 1);  dx = b dy, dother = (1 - b) dy,  b ~ U(0, 1);
    evaluation: (x + other) / 2.

    Parameters
    ----------
    x, other : arrays, shape (N, ...), floating: the branches' outputs. Never modified.
    at : Address. a is draw 0 and b draw 1 of it.
    training : bool. False gives the mean of both.
    level : "image", one coefficient per row, or "batch", one for all.
    forward : "shake", or "even": a = 1/2.
    backward : "shake", "even": b = 1/2, or "keep": b = a.
    window : Window or None. Where x and other sit in larger logical arrays.
    mirror : bool. The antithetic draws.

    Returns
    -------
    array of x's kind, shape and dtype. With forward="shake" E[y] = (x + other) / 2 and
    Var[y] = (x - other)^2 / 12.

    Raises
    ------
    ValueError if other has another shape, x has no axis, or an option is unknown. TypeError if
    x is not floating.

    References
    ----------
    Gastaldi, 2017, arXiv:1705.07485: Shake-Shake-Image is the default.
    """
    draws = Draws("shake_shake", x, NO_P, at, training, window, mirror)
    _require_rows(draws)
    _even_check(draws.who, level, forward, backward)
    other = draws.beside("other", other, draws.shape)
    xp, wide = draws.xp, draws.wide(x)
    if not draws.training:
        return xp.astype(0.5 * wide + 0.5 * other, x.dtype)
    shared = tuple(range(1 if level == "image" else 0, len(draws.shape)))
    a = _coefficient(draws, shared, 0, 0.0, 1.0) if forward == "shake" else 0.5
    value = a * wide + (1.0 - a) * other
    if backward != "keep" and not (forward == backward == "even"):
        b = _coefficient(draws, shared, 1, 0.0, 1.0) if backward == "shake" else 0.5
        value = _with_gradient_of(draws, value, b * wide + (1.0 - b) * other)
    return xp.astype(value, x.dtype)


def _require_rows(draws: Draws) -> None:
    if not draws.shape:
        raise ValueError(message(draws.who, "x", "of shape (N, ...)", "an array without axes"))


# ----------------------------------------------------------------------------------------- one path

# Leading axes along which coefficients differ.
LEVELS = {"batch": 0, "image": 1, "channel": 2, "pixel": None}


def _mean_factor(p: Any, alpha: tuple[float, float]) -> Any:
    return (1.0 - p) + p * (0.5 * (alpha[0] + alpha[1]))


def _shaken_moments(
    x: NDArray[np.float64], p: float, alpha: tuple[float, float] = (-1.0, 1.0), **_: Any
) -> tuple[Any, Any]:
    low, high = alpha
    mean = 1.0 - p + p * (low + high) / 2.0
    square = (1.0 - p) + p * (low**2 + low * high + high**2) / 3.0
    return mean * x, (square - mean**2) * x**2


def _shaken_check(who: str, level: Any, alpha: Any, beta: Any) -> None:
    one_of(who, "level", level, tuple(LEVELS))
    _range(who, "alpha", alpha)
    _range(who, "beta", beta)


@method(
    title="ShakeDrop",
    rank="classic",
    target="branches",
    formula="y = x (g + a (1 - g)),  g ~ Bernoulli(1 - p),  a ~ U(-1, 1);  backward: "
    "dx = dy (g + b (1 - g)),  b ~ U(0, 1)",
    shared="the gate g: all axes; a and b: by level",
    scale="1 in training",
    inference="times the mean of g + a (1 - g)",
    moments=Moments(
        "(1 - p + p E[a]) x", "x^2 (1 - p + p E[a^2] - (1 - p + p E[a])^2)", _shaken_moments
    ),
    papers=(YAMADA,),
    module="ShakeDrop",
    check=_shaken_check,
    sample=Sample(
        shape=(4, 3, 2),
        p=0.7,  # where the gate is open, x is unchanged, and there is little to see
        dropped=None,
        p_one="finite",
        evaluation=lambda x, p: (1.0 - p) * x,
        own_gradient=True,
    ),
    note="Stochastic depth that shakes a branch instead of dropping it. It was made for "
    "PyramidNets; p grows with depth as in stochastic depth.",
)
def shake_drop(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    level: str = "image",
    alpha: tuple[float, float] = (-1.0, 1.0),
    beta: tuple[float, float] = (0.0, 1.0),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Keep a residual branch, or, with probability p, shake it: forward by a, backward by b.

    y = x (g + a (1 - g)),  g ~ Bernoulli(1 - p) for the whole batch,  a ~ U(alpha);
    dx = dy (g + b (1 - g)),  b ~ U(beta);  evaluation: y = (1 - p + p E[a]) x.

    Parameters
    ----------
    x : array, shape (N, ...), floating: the output of the branch. Never modified.
    p : float in [0, 1]. Probability that the branch is shaken. In the paper it grows linearly with
        depth to 1/2.
    at : Address. g is draw 0, a draw 1 and b draw 2 of it.
    training : bool. False gives the expectation.
    level : "batch", "image", "channel" (axis 1) or "pixel": each of these has a separate a and b.
    alpha, beta : pairs of floats. The ranges of a and b. beta = (0, 0) stops the gradient where the
        branch is shaken.
    window : Window or None. Where x sits in a larger logical array.
    mirror : bool. The antithetic draws.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = (1 - p + p E[a]) x; for the default alpha
    Var[y] = x^2 (1 - p + p / 3 - (1 - p)^2).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has too few axes for the level, level is unknown, or
    a range is not two finite numbers in order. TypeError if x is not floating.

    References
    ----------
    Yamada et al., 2019, arXiv:1802.02375, whose p is the probability to keep.
    """
    draws = Draws("shake_drop", x, p, at, training, window, mirror)
    _require_rows(draws)
    leading = LEVELS[one_of(draws.who, "level", level, tuple(LEVELS))]
    axes = len(draws.shape)
    if leading is not None and leading > axes:
        got = f"an array of shape {draws.shape}"
        raise ValueError(message(draws.who, "x", "of shape (N, C, ...) for channels", got))
    alpha, beta = _range(draws.who, "alpha", alpha), _range(draws.who, "beta", beta)
    if not draws.training:
        return draws.scaled(x, _mean_factor(draws.p, alpha))
    shared = tuple(range(axes if leading is None else leading, axes))
    xp, wide = draws.xp, draws.wide(x)
    gate = draws.keep(shared_axes=tuple(range(axes)))
    value, path = (
        xp.where(gate, wide, _coefficient(draws, shared, number, *ends) * wide)
        for number, ends in ((1, alpha), (2, beta))
    )
    return xp.astype(_with_gradient_of(draws, value, path), x.dtype)


def _range(who: str, name: str, ends: Any) -> tuple[float, float]:
    if not isinstance(ends, (tuple, list)) or len(ends) != 2:
        raise ValueError(message(who, name, "two numbers (low, high)", written(ends)))
    low, high = (number(who, f"an end of {name}", end) for end in ends)
    if low > high:
        raise ValueError(message(who, name, "(low, high) in this order", written(ends)))
    return low, high
