"""The main job from a table to the files of its result: what the command line and the API share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from thinned.fit.engines import Engine
from thinned.fit.job import default_epochs, result_of, write_result
from thinned.fit.plan import prepared, within
from thinned.fit.results import FitSettings, Result
from thinned.fit.search import Search, number_of_fits
from thinned.fit.tables import Problem
from thinned.fit.tune import Tuning

__all__ = ["Watch", "completed", "run"]

Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _silent(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@dataclass(frozen=True)
class Watch:
    """Who hears of progress.

    say : called with each note on the table, before anything is trained.
    progress : called with the number of trainings; its context is the time they take, and what it
        gives is called after each of them.
    """

    say: Callable[[str], object] = lambda note: None
    progress: Progress = _silent


def completed(problem: Problem, settings: FitSettings) -> FitSettings:
    """The settings with what follows from the problem: the epochs where there are 0 of them, and
    one repeat for rows in the order of time."""
    if not settings.epochs:
        known = replace(settings, epochs=1)
        settings = replace(settings, epochs=default_epochs(problem.rows, known))
    if problem.times is not None and settings.repeats > 1:
        settings = replace(settings, repeats=1)  # in one order there is one way to draw them
    return settings


def run(
    problem: Problem,
    settings: FitSettings,
    folder: Path,
    page: Callable[[Result], str],
    watch: Watch,
    engine: Engine,
    until: float | None = None,
    tuning: Tuning | None = None,
) -> Result:
    """Search, refit, and write the files of the result into an empty folder.

    Parameters
    ----------
    problem : Problem.
    settings : FitSettings. With 0 epochs their number follows from the number of rows.
    folder : Path.
    page : makes the report (HTML) of what was found.
    watch : Watch.
    engine : Engine, where trainings run.
    tuning : what is chosen before the search, if anything.
    until : by this time of time.monotonic() it is to be done; the settings make way for it.
    """
    settings = completed(problem, settings)
    if until is not None:
        left = max(until - time.monotonic(), 1.0)
        settings, said = within(left, problem, settings, engine.workers)
        problem.notes += said[:-1]
        watch.say(said[-1])  # an estimate changes by the hour, and is no part of the result
    problem, settings = prepared(problem, settings, engine, tuning)
    for note in problem.notes:
        watch.say(note)
    before = len(problem.notes)
    with watch.progress(number_of_fits(settings)) as advance:
        ends = None if until is None else time.time() + until - time.monotonic()
        search = Search(problem, settings, advance, engine, ends)
        search.run()
    for note in problem.notes[before:]:  # what time has ended
        watch.say(note)
    result = result_of(problem, search)
    write_result(result, search, folder, page(result))
    return result
