"""Several targets: a search for each, whose trainings learn all of them.

The searches run on the same rows and splits, one after the other. What the first has trained is
kept, and the others find it there: so each network is trained once, and each target is judged,
reported and saved by itself, as the part of these networks that is its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from thinned.errors import InputError
from thinned.fit.engines import Engine
from thinned.fit.folder import SEVERAL, write_whole
from thinned.fit.plan import prepared
from thinned.fit.results import FitSettings, Result
from thinned.fit.running import Watch, completed, run
from thinned.fit.tables import Problem
from thinned.fit.training import train
from thinned.fit.tune import Tuning

__all__ = ["Pages", "run_each"]

# The longest part of a folder's name that is a target's.
LONGEST = 32


class OneOf:
    """An engine for the search of one target: of what is trained for all it hands on one's part."""

    def __init__(self, kept: Engine, column: int) -> None:
        self.kept, self.column = kept, column

    @property
    def workers(self) -> int:
        return self.kept.workers

    def run(self, do: Callable[[Any], Any], jobs: Iterable[Any], count: int) -> Iterator[Any]:
        """As `Engine.run`."""
        if do is not train:
            yield from self.kept.run(do, jobs, count)
            return
        from thinned.fit.heads import part_of

        parts = {}

        def noted() -> Iterator[Any]:
            for job in jobs:
                parts[job.key] = part_of(job, self.column)
                yield job

        for trained in self.kept.run(do, noted(), count):
            yield parts.pop(trained.key).taken(trained)


class Pages:
    """The reports as HTML: of one target, and of all of them on one page."""

    def __init__(
        self, of_one: Callable[[Result], str], of_all: Callable[[Sequence[Result]], str]
    ) -> None:
        self.of_one, self.of_all = of_one, of_all


def run_each(
    problems: list[Problem],
    settings: FitSettings,
    folder: Path,
    pages: Pages,
    watch: Watch,
    kept: Engine,
    until: float | None = None,
    tuning: Tuning | None = None,
) -> list[Result]:
    """`running.run` for each target. The files of one are written into the folder itself, those of
    several into a folder for each in it, beside a page and a metrics.json on all.

    problems : emptied, so that nothing holds a large table of which only a sample is learned from.
    kept : what trains, and of several targets keeps it: see `Kept`.

    Raises
    ------
    InputError for what goes with one target alone.
    """
    if len(problems) == 1:
        return [run(problems.pop(), settings, folder, pages.of_one, watch, kept, until, tuning)]
    if settings.network is not None:
        raise InputError(
            f"--target: {settings.network.called} builds a network for one target; name one, or "
            "leave your network out."
        )
    if until is not None:
        raise InputError(
            "--time-limit: what is left out for time would differ from target to target; with "
            "several targets write --repeats, --epochs or --rows."
        )
    settings = _chosen(problems, settings, kept, tuning)
    said: set[str] = set()

    def once(note: str) -> None:
        if note not in said:
            said.add(note)
            watch.say(note)

    results, names = [], []
    for column, problem in enumerate(problems):
        names.append(_folder(column + 1, problem.target_name))
        made = folder / names[-1]
        made.mkdir()
        # What the first has said and trained, the others repeat.
        way = Watch(once) if column else Watch(once, watch.progress)
        one = OneOf(kept, column)
        results.append(run(problem, settings, made, pages.of_one, way, one))
    facts = {
        "format": SEVERAL,
        "format_version": 1,
        "targets": [
            {
                "name": result.data.target,
                "folder": name,
                "task": result.data.task,
                "headline": result.headline,
                "best_p": result.best.p,
                "test": result.refit(result.best.p).test,
            }
            for name, result in zip(names, results, strict=True)
        ],
    }
    text = json.dumps(facts, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / "metrics.json", f"{text}\n".encode())
    write_whole(folder / "report.html", pages.of_all(results).encode("utf-8"))
    problems.clear()
    return results


def _chosen(
    problems: Sequence[Problem], settings: FitSettings, engine: Engine, tuning: Tuning | None
) -> FitSettings:
    """The settings that are chosen on rows set aside, once for all targets, by the loss that is
    trained; with a note to each problem."""
    settings = completed(problems[0], settings)
    if tuning is None and not (settings.aside and len(settings.p) > 2):
        return settings
    trial = replace(problems[0], notes=[])
    _, settings = prepared(trial, settings, engine, tuning)
    for problem in problems:
        problem.notes += trial.notes
    return settings


def _folder(number: int, target: str) -> str:
    """The name of a target's folder: a number, and what of the target's name any system takes."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", target)[:LONGEST].strip("-").lower()
    return f"{number}-{plain}" if plain else str(number)
