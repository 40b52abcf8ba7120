"""Settings chosen by Optuna, on rows that are set aside for it.

Every trial is a training on each of the same five folds of these rows, from the same first weights
and with masks at the same addresses as far as its layers are the same. The rows take no further
part, so that what is said of dropout in the end is said of settings that were given beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thinned.errors import InputError, quoted
from thinned.fit.encoding import fitted
from thinned.fit.engines import Engine
from thinned.fit.epochs import looks_for
from thinned.fit.heads import validated
from thinned.fit.rate import Rate, mean_of
from thinned.fit.results import FitSettings
from thinned.fit.splits import folds_of
from thinned.fit.tables import Problem
from thinned.fit.training import Job, job_of, train

__all__ = ["TUNED", "Tuning", "read_tune", "tuned"]

# What can be tuned, and between which ends.
TUNED = {
    "p": "0.05 to 0.8",
    "width": "16 to 1024 units in each hidden layer",
    "depth": "1 to 4 hidden layers",
    "learning_rate": "0.0001 to 0.01",
}
# The share of the rows that is set aside by default, and the most of them.
SHARE, MOST = 0.25, 20_000


@dataclass(frozen=True)
class Tuning:
    """names : of `TUNED`. trials : how many settings are tried."""

    names: tuple[str, ...]
    trials: int

    def check(self, settings: FitSettings) -> None:
        """Refuse what cannot be tuned of these settings.

        Raises
        ------
        InputError.
        """
        if settings.network is not None and {"width", "depth"} & set(self.names):
            raise InputError(
                f"--tune: the layers are those that {settings.network.called} builds; tune p and "
                "learning_rate."
            )
        single = any(isinstance(p, tuple) for p in settings.p)
        if single and {"p", "depth"} & set(self.names):
            raise InputError(
                "--tune: rates of single layers (--p) are for a depth and p that stay."
            )

    def rows(self, problem: Problem, settings: FitSettings) -> int:
        """How many rows are set aside."""
        return settings.aside or min(round(SHARE * problem.rows), MOST)


def read_tune(text: str) -> tuple[str, ...]:
    """The names of "p,width".

    Raises
    ------
    InputError.
    """
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in TUNED:
            raise InputError(f"--tune: {quoted(name)} cannot be tuned; write {','.join(TUNED)}.")
    if len(set(names)) < len(names):
        raise InputError("--tune: each name may be given once.")
    return names


def tuned(
    problem: Problem, settings: FitSettings, tuning: Tuning, engine: Engine
) -> tuple[FitSettings, str]:
    """The settings of the best trial, and a sentence on it. The first trial is the settings as they
    are, so that no trial has to be better.

    Parameters
    ----------
    problem : the rows set aside.

    Raises
    ------
    ImportError, naming the extra, without Optuna.
    """
    try:
        import optuna
    except ImportError as missing:
        raise ImportError(
            'optuna is not installed; --tune needs: pip install "thinned[tune]"', name="optuna"
        ) from missing
    from thinned.fit.trials import Trials

    said_before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        parts = list(_parts(problem, settings))
        first = next(_jobs(problem, settings, parts, 0))
        trials = Trials(engine, first, tuning.names)
        while len(trials.done) < tuning.trials:
            number = len(trials.done)
            trial = trials.ask(settings.seed, _as_values(settings, tuning.names))
            tried = _of_trial(trial, settings, tuning.names)
            jobs = list(_jobs(problem, tried, parts, number))
            trials.tell(trial, _loss(jobs, engine))
        done = trials.done[: tuning.trials]
        best = min(range(tuning.trials), key=lambda number: done[number].value)
        chosen = _of_trial(done[best], settings, tuning.names)
    finally:
        optuna.logging.set_verbosity(said_before)
    values = _as_values(chosen, tuning.names)
    found = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
    return chosen, (
        f"Chosen in {tuning.trials} trials on {problem.rows:,} rows, which were set aside for "
        f"this: {found} (trial {best + 1})."
    )


def _as_values(settings: FitSettings, names: tuple[str, ...]) -> dict[str, float]:
    p = _middle(settings)
    values = {
        "p": min(max(round(round(p / 0.05) * 0.05, 2), 0.05), 0.8),
        "width": min(max(settings.hidden[0] if settings.hidden else 0, 16), 1024),
        "depth": min(len(settings.hidden), 4),
        "learning_rate": min(max(settings.learning_rate, 1e-4), 1e-2),
    }
    return {name: values[name] for name in names}


def _middle(settings: FitSettings) -> float:
    """The p that stands for several above 0."""
    return mean_of(_middle_rate(settings))


def _middle_rate(settings: FitSettings) -> Rate:
    above = settings.p[1:]
    return above[len(above) // 2]


def _of_trial(trial: Any, settings: FitSettings, names: tuple[str, ...]) -> FitSettings:
    """The settings with what a trial suggests in place of what is tuned."""
    if "p" in names:
        p = round(trial.suggest_float("p", 0.05, 0.8, step=0.05), 2)
        settings = replace(settings, p=(0.0, p))
    width, depth = settings.hidden[0] if settings.hidden else 0, len(settings.hidden)
    if "width" in names:
        width = trial.suggest_int("width", 16, 1024, log=True)
    if "depth" in names:
        depth = trial.suggest_int("depth", 1, 4)
    if {"width", "depth"} & set(names):
        settings = replace(settings, hidden=(width,) * depth)
    if "learning_rate" in names:
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        settings = replace(settings, learning_rate=float(f"{rate:.3g}"))
    return settings


def _parts(problem: Problem, settings: FitSettings) -> Iterator[tuple[Any, Any]]:
    """The rows of each fold, and their inputs."""
    for rows, other in folds_of(problem, replace(settings, repeats=1)):
        frame = problem.features
        encoder = fitted(frame, problem.columns, rows)
        yield (rows, other), (encoder.encode(frame, rows), encoder.encode(frame, other))


def _jobs(
    problem: Problem, tried: FitSettings, parts: list[tuple[Any, Any]], number: int
) -> Iterator[Job]:
    """The trainings of a trial, at the middle p above 0."""
    looks = looks_for(tried.epochs)
    for fold, (rows, inputs) in enumerate(parts):
        yield job_of(
            problem, tried, rows, inputs, key=(number, fold), p=_middle_rate(tried),
            random_state=tried.seed, looks=looks,
        )  # fmt: skip


def _loss(jobs: Sequence[Job], engine: Engine) -> float:
    """The lowest validation loss of each fold on the way through the epochs, in the mean."""
    of_key = {job.key: job for job in jobs}
    # Looks after the end of a training are NaN.
    found = engine.run(train, jobs, len(jobs))
    lowest = [np.nanmin(validated(of_key[one.key], one)) for one in found]
    return float(np.sort(lowest).mean())  # in one order, the sum rounds in one way
