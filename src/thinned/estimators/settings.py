"""An estimator's parameters, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from thinned import checks
from thinned.checks import message, shown
from thinned.numpy.settings import choice, number

__all__ = ["Settings", "seed_of", "settings_of"]


class Settings(NamedTuple):
    """An estimator's parameters, checked."""

    hidden: tuple[int, ...]
    p: tuple[float, ...]
    activation: str
    execution: str
    batch_size: int | None  # None stands for "auto"
    max_iter: int
    tol: float
    patience: int
    validation_fraction: float


def settings_of(estimator: Any) -> Settings:
    """The parameters of this estimator.

    Raises
    ------
    TypeError, ValueError in its class's name if one of them cannot be used.
    """
    who = type(estimator).__name__
    for name in ("early_stopping", "shuffle", "warm_start"):
        checks.flag(who, name, getattr(estimator, name))
    if not isinstance(estimator.verbose, (bool, np.bool_)):
        checks.integer(who, "verbose", estimator.verbose, 0, 2**31)
    choice(who, "solver", estimator.solver, ("adam", "sgd"))
    number(who, "learning_rate_init", estimator.learning_rate_init, 0, open_low=True)
    number(who, "weight_decay", estimator.weight_decay, 0)
    number(who, "momentum", estimator.momentum, 0, 1)
    if estimator.max_norm is not None:
        number(who, "max_norm", estimator.max_norm, 0, open_low=True)
    batch_size = None
    if not isinstance(estimator.batch_size, str) or estimator.batch_size != "auto":
        batch_size = checks.integer(
            who, "batch_size", estimator.batch_size, 1, 2**63, "'auto' takes min(200, n_samples)."
        )
    hidden = _hidden(estimator)
    return Settings(
        hidden=hidden,
        p=_probabilities(estimator, 1 + len(hidden)),
        activation=choice(who, "activation", estimator.activation, ("relu", "tanh")),
        execution=choice(who, "execution", estimator.execution, ("elementwise", "thin")),
        batch_size=batch_size,
        max_iter=checks.integer(who, "max_iter", estimator.max_iter, 1, 2**31),
        tol=number(who, "tol", estimator.tol, 0),
        patience=checks.integer(who, "n_iter_no_change", estimator.n_iter_no_change, 1, 2**31),
        validation_fraction=number(
            who, "validation_fraction", estimator.validation_fraction, 0, 1, open_low=True
        ),
    )


def _hidden(estimator: Any) -> tuple[int, ...]:
    who, sizes = type(estimator).__name__, estimator.hidden_layer_sizes
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        return (checks.integer(who, "hidden_layer_sizes", sizes, 1, 2**31),)
    requirement = "an integer or a tuple of integers"
    return tuple(
        checks.integer(who, f"hidden_layer_sizes[{i}]", size, 1, 2**31)
        for i, size in enumerate(checks.items(who, "hidden_layer_sizes", sizes, requirement))
    )


def _probabilities(estimator: Any, n: int) -> tuple[float, ...]:
    who, p = type(estimator).__name__, estimator.p
    if isinstance(p, str) or not hasattr(p, "__len__") or checks.is_one_number(p):
        return (checks.probability(who, p),) * n
    requirement = f"one number, or {n}: for the input and for each hidden layer"
    p = checks.items(who, "p", p, requirement)
    if len(p) != n:
        raise ValueError(message(who, "p", requirement, f"{len(p)} numbers"))
    return tuple(checks.probability(who, value, f"p[{i}]") for i, value in enumerate(p))


def seed_of(estimator: Any) -> int:
    """The seed of every draw: random_state itself where it is an integer."""
    if isinstance(estimator.random_state, (int, np.integer)):
        who = type(estimator).__name__
        return checks.integer(who, "random_state", estimator.random_state, 0, 2**64)
    try:
        source = check_random_state(estimator.random_state)
    except (TypeError, ValueError, RuntimeError) as error:
        wanted = "None, an integer or a numpy.random.RandomState"
        got = shown(estimator.random_state)
        raise ValueError(message(type(estimator).__name__, "random_state", wanted, got)) from error
    low, high = source.randint(2**32, size=2, dtype=np.uint64)
    return int(low) | int(high) << 32
