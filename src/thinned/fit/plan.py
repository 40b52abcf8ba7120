"""What of a search fits into a time: fewer repeats, p chosen beforehand, fewer epochs, fewer rows.

A plan is made before the start, from the time that one small training takes. It ends in settings
that can be given by hand, so that its result can be had again without a clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit import baselines
from thinned.fit.encoding import fitted
from thinned.fit.engines import Engine
from thinned.fit.halving import apart, best_of, fewest_rows, sampled
from thinned.fit.rate import spelled
from thinned.fit.results import FitSettings
from thinned.fit.tables import Problem
from thinned.fit.training import job_of, train
from thinned.fit.tune import Tuning, tuned

__all__ = ["prepared", "read_duration", "within"]

# The share of the remaining time that a plan uses: other programs slow this one down.
SHARE = 0.5
PROBED_ROWS = 2048
# How often what is measured is done: until so many seconds are spent, or so many times.
TIMED, FEWEST_TIMES, MOST_TIMES = 0.5, 2, 7
# The fewest gradient steps that a plan leaves when it takes epochs away.
FEWEST_STEPS = 500
# Rows on which p is chosen, and from how many rows on there are enough of them for that.
ASIDE_SHARE, MOST_ASIDE, FEWEST_ROWS = 0.05, 20_000, 4000
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(s|m|min|h|d|)\s*")


def read_duration(text: str) -> float:
    """Seconds of "90", "90s", "10m", "1.5h" or "1d".

    Raises
    ------
    InputError.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < 1e8:
        raise InputError(f"--time-limit: {quoted(text)} is no time; write 90s, 10m or 2h.")
    return seconds


@dataclass(frozen=True)
class _Rates:
    """Seconds that a row takes: of an epoch, and to be encoded for a split; and in the simple
    models that the networks are compared with, in each of the first five splits and in others."""

    epoch: float
    encoding: float
    first: float = 0.0
    others: float = 0.0


def prepared(
    problem: Problem, settings: FitSettings, engine: Engine, tuning: Tuning | None = None
) -> tuple[Problem, FitSettings]:
    """What is searched: a sample where the settings ask for one, and without the rows set aside,
    on which settings, or one p above 0, are chosen."""
    if settings.rows:
        problem = sampled(problem, settings.rows, settings.seed)
    if tuning is not None:
        settings = replace(settings, aside=tuning.rows(problem, settings))
    if not settings.aside:
        return problem, settings
    chosen_on, problem = apart(problem, settings.aside, settings.seed)
    once = " It holds for all targets: the sum of their losses decided." if problem.together else ""
    if tuning is not None:
        settings, said = tuned(chosen_on, settings, tuning, engine)
        problem.notes.append(said + once)
    if len(settings.p) > 2:
        best = best_of(chosen_on, settings, engine)
        problem.notes.append(
            f"p = {spelled(best)} was chosen among "
            f"{', '.join(spelled(p) for p in settings.p if p)} by "
            f"successive halving on {chosen_on.rows:,} rows, which were set aside for this.{once}"
        )
        settings = replace(settings, p=(0.0, best))
    return problem, settings


def within(
    seconds: float, problem: Problem, settings: FitSettings, workers: int
) -> tuple[FitSettings, list[str]]:
    """Settings whose search takes about half of the time that is left, and what was changed.

    Parameters
    ----------
    seconds : that are left.
    workers : trainings at a time.
    """
    rates, budget = _rates(problem, settings), SHARE * seconds
    said, asked, rows = [], settings, problem.rows
    while settings.repeats > 1 and _cost(rates, settings, rows, workers) > budget:
        settings = replace(settings, repeats=settings.repeats - 1)
    fewest_aside = fewest_rows(problem)
    enough = max(FEWEST_ROWS, int(2 * fewest_aside / ASIDE_SHARE))
    late = _cost(rates, settings, rows, workers) > budget
    if late and len(settings.p) > 2 and rows >= enough and not settings.aside:
        settings = replace(settings, aside=min(round(ASIDE_SHARE * rows), MOST_ASIDE))
    steps = max(round(0.64 * rows / settings.batch_size), 1)
    fewest = max(-(-FEWEST_STEPS // steps), 1)
    while settings.epochs > fewest and _cost(rates, settings, rows, workers) > budget:
        settings = replace(settings, epochs=max(settings.epochs // 2, fewest))
    n = _affordable(budget, rates, settings, rows, workers)
    if n < rows:
        if n < enough and not asked.aside:
            settings = replace(settings, aside=0)
            n = _affordable(budget, rates, settings, rows, workers)
        n = min(max(n, fewest_aside), rows)
        aside = max(round(settings.aside * n / rows), fewest_aside) if settings.aside else 0
        settings = replace(settings, rows=n, aside=aside)
    if settings.repeats < asked.repeats:
        said.append(f"{settings.repeats} repeat{'s' * (settings.repeats > 1)}")
    if settings.aside:
        said.append(f"one p above 0, chosen on {settings.aside:,} rows set aside")
    if settings.epochs < asked.epochs:
        said.append(f"at most {settings.epochs} epochs")
    if settings.rows:
        said.append(f"a sample of {settings.rows:,} of {rows:,} rows")
    estimate = _cost(rates, settings, settings.rows or rows, workers)
    changed = [f"To end within --time-limit: {', '.join(said)}."] if said else []
    took = f"about {_duration(estimate)}, {workers} network{'s' * (workers > 1)} at a time"
    return settings, [*changed, f"Training is expected to take {took}."]


def _affordable(
    budget: float, rates: _Rates, settings: FitSettings, rows: int, workers: int
) -> int:
    return int(rows * min(budget / _cost(rates, settings, rows, workers), 1.0))


def _cost(rates: _Rates, settings: FitSettings, rows: int, workers: int) -> float:
    """Seconds of a search, about: trainings side by side, encoding one after the other."""
    share = settings.folds / (settings.folds - 1)
    searched = (rows - settings.aside) * (1 - settings.test_share)
    ps = 2 if settings.aside else len(settings.p)
    epochs = ps * settings.splits * searched / share + 2 * searched
    if settings.aside:
        epochs += 2 * (len(settings.p) - 1) * settings.aside
    at_a_time = min(workers, ps * settings.splits)
    trees = min(settings.folds, settings.splits)
    simple = rates.first * (trees / share + 1) + rates.others * (settings.splits - trees) / share
    # Splits are encoded once for the networks, and once for the simple models.
    encoding = rates.encoding * 2 * (settings.splits + 1)
    networks = rates.epoch * settings.epochs * epochs / at_a_time
    return networks + searched * (simple / at_a_time + encoding)


def _rates(problem: Problem, settings: FitSettings) -> _Rates:
    """Measured on a few rows, at the largest p."""
    n = min(problem.rows, PROBED_ROWS)
    rows = _spread(problem, n)
    inputs = _encoded(problem, rows)
    job = job_of(
        problem, settings, (rows, rows[: n // 4 + 1]), (inputs, inputs[: n // 4 + 1]), key=(0,),
        p=settings.p[-1], random_state=settings.seed, looks=(1,),
    )  # fmt: skip
    return _Rates(
        _taken(lambda: train(job)) / n, _encoding(problem), *_of_baselines(problem, settings)
    )


def _taken(do: Callable[[], object]) -> float:
    """Seconds: the least of some times. What is loaded at first use is no part of it, and neither
    is what other programs do meanwhile, as far as it comes and goes.
    """
    found: list[float] = []
    while len(found) < FEWEST_TIMES or (len(found) < MOST_TIMES and sum(found) < TIMED):
        start = time.perf_counter()
        do()
        found.append(time.perf_counter() - start)
    return min(found)


def _spread(problem: Problem, n: int) -> NDArray[np.intp]:
    """n rows from the first to the last."""
    return np.linspace(0, problem.rows - 1, n).astype(np.intp)


def _encoded(problem: Problem, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    return fitted(problem.features, problem.columns, rows).encode(problem.features, rows)


def _encoding(problem: Problem) -> float:
    """Seconds for each further row of an encoder that is fitted and used."""
    n = min(problem.rows, 4 * PROBED_ROWS)
    few, many = (_spread(problem, rows) for rows in (n // 4, n))
    more = _taken(lambda: _encoded(problem, many)) - _taken(lambda: _encoded(problem, few))
    return max(more, 0.0) / (len(many) - len(few))


def _of_baselines(problem: Problem, settings: FitSettings) -> tuple[float, float]:
    """Seconds for each further row of all simple models, and of those without trees. What they take
    for few rows is no part of it: it is over soon."""
    n = min(problem.rows, 4 * PROBED_ROWS)
    if n < 4 * PROBED_ROWS:
        return 0.0, 0.0
    slopes = {}
    for name in baselines.BASELINES:
        taken = []
        for rows in (n // 4, n):
            some = _spread(problem, rows)
            inputs = _encoded(problem, some)
            parts = (inputs, inputs[:1]), (problem.target[some], problem.target[some[:1]])
            job = baselines.BaselineJob(
                (0, 0), name, problem.task, len(problem.classes), *parts, settings.seed
            )
            taken.append(_taken(partial(baselines.score, job)))
        slopes[name] = max(taken[1] - taken[0], 0.0) / (n - n // 4)
    return sum(slopes.values()), sum(slopes.values()) - slopes["trees"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
