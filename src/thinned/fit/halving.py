"""Choosing p on rows that are set aside for it, so that the comparison on the others stays honest.

Successive halving: every p is trained for a few epochs, the worse half is dropped, and the others
are trained for twice as many, until one p above 0 is left. None of the rows is used again, so
the network at that p and the one without dropout are compared as if that p had been given.

References
----------
Jamieson and Talwalkar, 2016, AISTATS, arXiv:1502.07943.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError
from thinned.fit.encoding import fitted
from thinned.fit.engines import Engine
from thinned.fit.heads import validated
from thinned.fit.rate import Rate
from thinned.fit.results import FitSettings
from thinned.fit.tables import FEWEST_ROWS, Problem
from thinned.fit.target import FEWEST_IN_CLASS
from thinned.fit.training import job_of, train

__all__ = ["apart", "best_of", "fewest_rows", "sampled"]

# Of the rows set aside, this many are for measuring, and the others for training.
LOOKED_AT = 0.25


def fewest_rows(problem: Problem) -> int:
    """How many rows a sample must have: 7 of the rarest class."""
    if problem.strata is None:
        return FEWEST_ROWS
    counts = np.bincount(problem.strata)
    share = counts[counts > 0].min() / problem.rows
    return max(FEWEST_ROWS, int(np.ceil((FEWEST_IN_CLASS + 1) / share)))


def sampled(problem: Problem, n: int, seed: int) -> Problem:
    """n of the rows, as many of each class as its share is; all, with a note, if there are fewer.

    Raises
    ------
    InputError if n is too few.
    """
    if n > problem.rows:
        problem.notes.append(
            f"--rows {n} asks for more rows than there are: all {problem.rows:,} are learned from."
        )
    if n >= problem.rows:
        return problem
    _check(problem, "--rows", n, fewest_rows(problem), problem.rows)
    return problem.taken(_drawn(problem, n, seed))


def apart(problem: Problem, n: int, seed: int) -> tuple[Problem, Problem]:
    """Two tables out of one: n rows, and all others. Groups stay together, and in time the earliest
    rows are the n.

    Raises
    ------
    InputError if either would have too few rows.
    """
    fewest = fewest_rows(problem)
    _check(problem, "--aside", n, fewest, problem.rows - fewest)
    if problem.times is not None:
        rows = np.sort(np.argsort(problem.times, kind="stable")[:n])
    elif problem.groups is not None:
        order = np.random.default_rng(seed).permutation(int(problem.groups.max()) + 1)
        sizes = np.cumsum(np.bincount(problem.groups)[order])
        some = order[: 1 + int(np.searchsorted(sizes, n, "left"))]
        rows = np.flatnonzero(np.isin(problem.groups, some))
    else:
        rows = _drawn(problem, n, seed)
    others = np.setdiff1d(np.arange(problem.rows), rows)
    return problem.taken(rows), problem.taken(others)


def best_of(problem: Problem, settings: FitSettings, engine: Engine) -> Rate:
    """The p above 0 that is left of the settings' by successive halving on all rows of `problem`.

    A p that is above all others in loss when half of them go is not looked at again. The last two
    are trained for the settings' epochs.
    """
    left = [i for i, p in enumerate(settings.p) if p]
    rows = np.arange(problem.rows)
    looked_at = _drawn(problem, max(round(LOOKED_AT * problem.rows), 1), settings.seed)
    trained_on = np.setdiff1d(rows, looked_at)
    if problem.times is not None:  # what is looked at is later
        order = np.argsort(problem.times, kind="stable")
        trained_on, looked_at = order[: len(trained_on)], order[len(trained_on) :]
    encoder = fitted(problem.features, problem.columns, trained_on)
    frame = problem.features
    inputs = encoder.encode(frame, trained_on), encoder.encode(frame, looked_at)
    rounds = max(int(np.ceil(np.log2(len(left)))), 1)
    for turn in range(rounds):
        if len(left) == 1:
            break
        epochs = max(settings.epochs >> (rounds - 1 - turn), 1)
        jobs = [
            job_of(
                problem, settings, (trained_on, looked_at), inputs, key=(i,), p=settings.p[i],
                random_state=settings.seed, looks=(epochs,),
            )
            for i in left
        ]  # fmt: skip
        of_key = {job.key: job for job in jobs}
        found = engine.run(train, jobs, len(jobs))
        losses = {one.key[0]: validated(of_key[one.key], one)[-1] for one in found}
        left = sorted(left, key=lambda i: (losses[i], i))[: len(left) // 2]
    return settings.p[left[0]]


def _check(problem: Problem, option: str, n: int, low: int, high: int) -> None:
    if not low <= n <= high:
        raise InputError(
            f"{option}: with the {problem.rows:,} rows of {problem.data} it must be between "
            f"{low:,} and {max(high, 0):,}, got {n:,}."
        )


def _drawn(problem: Problem, n: int, seed: int) -> NDArray[np.intp]:
    from sklearn.model_selection import train_test_split

    rows, _ = train_test_split(
        np.arange(problem.rows), train_size=n, random_state=seed, stratify=problem.strata
    )
    return np.sort(rows)
