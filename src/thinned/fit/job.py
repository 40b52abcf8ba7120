"""The two jobs of the command line, from what was typed to the files that are left."""

from __future__ import annotations

import io
import json
import math
import platform
from dataclasses import asdict
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, short
from thinned.fit.facts import MOST_DIGITS
from thinned.fit.folder import TOOK, write_whole
from thinned.fit.importance import importance_of
from thinned.fit.machine import machine
from thinned.fit.model import Said, write_predictions
from thinned.fit.overview import overview_of
from thinned.fit.results import Data, FitSettings, Result, Took, metrics
from thinned.fit.saved import MASK_SPEC, save_model
from thinned.fit.search import Search
from thinned.fit.statements import headline, sentences
from thinned.fit.tables import Problem
from thinned.fit.uncertainty import uncertainty_of

__all__ = ["default_epochs", "least_bytes", "read_hidden", "result_of", "write_result"]

# Gradient steps that the most epochs come to, where that is between these ends. On digits, 84
# epochs: the mean validation loss has stopped falling at every p up to 0.3. Where it stops sooner,
# so does the training.
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 3000, 10, 300
WIDEST = 65536
# A report has some 300 000 bytes.
REPORT_BYTES = 2**18


def read_hidden(text: str) -> tuple[int, ...]:
    """The layer sizes of "256,256"."""
    sizes = []
    for part in text.split(","):
        units = part.strip()
        if not units.isascii() or not units.isdigit():
            raise InputError(
                f"--hidden: {short(units) or 'an empty place'} is no number of units; "
                "write 256,256 for two layers."
            )
        # Past some thousands of digits Python reads no integer.
        if len(units) > MOST_DIGITS or not 1 <= int(units) <= WIDEST:
            raise InputError(f"--hidden: a layer has 1 to {WIDEST} units, got {short(units)}.")
        sizes.append(int(units))
    return tuple(sizes)


def least_bytes(hidden: tuple[int, ...]) -> int:
    """What a result takes on the disk at the least: its report, and the weights between layers."""
    return REPORT_BYTES + 4 * sum(ins * outs for ins, outs in pairwise(hidden))


def default_epochs(rows: int, settings: FitSettings) -> int:
    """As many epochs as make about 3000 gradient steps on a fold's training rows, 10 to 300."""
    trained_on = rows * (1 - settings.test_share) * (1 - 1 / settings.folds)
    steps = math.ceil(trained_on / settings.batch_size)
    return min(max(math.ceil(STEPS / steps), FEWEST_EPOCHS), MOST_EPOCHS)


def result_of(problem: Problem, search: Search) -> Result:
    """What a search that has run found, in the form that the report and the terminal read."""
    model = search.model
    data = Data(
        name=problem.data,
        typed=problem.typed,
        sha256=problem.sha256,
        rows=problem.rows,
        test_rows=len(search.test_rows),
        columns=problem.columns,
        left_out=problem.left_out,
        inputs=model.encoder.inputs,
        target=problem.target_name,
        targets=problem.targets,
        tasks=problem.tasks,
        task=problem.task,
        classes=problem.classes,
        notes=tuple(problem.notes),
        choices=problem.choices,
        overview=overview_of(problem, model.encoder),
        class_rows=tuple(np.bincount(problem.target).tolist()) if problem.classes else (),
        spread={} if problem.classes else _spread(problem.target),
    )
    said = sentences(
        problem.task,
        search.settings,
        search.levels,
        search.comparison,
        search.best,
        search.gap,
        search.baselines,
        search.refits,
        problem.target_name,
        data.unbalanced,
    )
    test, target = problem.features.iloc[search.test_rows], problem.target[search.test_rows]
    weights = None if problem.weights is None else problem.weights[search.test_rows]
    return Result(
        uncertainty=uncertainty_of(model, test, target),
        importance=importance_of(model, test, target, search.settings.seed, weights),
        gap=search.gap,
        baselines=search.baselines,
        took=Took(search.seconds, machine()),
        settings=search.settings,
        data=data,
        looks=search.looks,
        levels=search.levels,
        splits=search.splits,
        comparison=search.comparison,
        best=search.best,
        refits=search.refits,
        predictions=search.predictions,
        masks=search.masks,
        headline=headline(search.comparison, search.best, search.levels, search.baselines),
        sentences=said,
        versions={
            "thinned": version("thinned"),
            "mask spec": str(MASK_SPEC),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scikit-learn": version("scikit-learn"),
        },
    )


def _spread(target: NDArray[Any]) -> dict[str, float]:
    """Of a quantity: its mean, standard deviation, least, median and greatest value."""
    found = {"mean": target.mean(), "std": target.std(), "low": target.min()}
    found |= {"median": np.median(target), "high": target.max()}
    return {name: float(value) for name, value in found.items()}


def write_result(result: Result, search: Search, folder: Path, report: str) -> None:
    """Write the files of a result into a folder. report : the page, as HTML."""
    shown = result.predictions
    labels = shown.target.tolist()
    if result.data.classes:
        labels = [result.data.classes[int(code)] for code in shown.target]
    rows, answers = shown.rows, shown.answers
    unknown = search.problem.unknown
    if unknown is not None and len(unknown):  # their target is empty
        rows = np.concatenate((rows, unknown.index.to_numpy(np.int64) + 1))
        order = np.argsort(rows)
        answers = answers.followed_by(search.model.answers(unknown)).taken(order)
        labels = [(labels + [None] * len(unknown))[i] for i in order]
        rows = rows[order]
    stream = io.StringIO(newline="")
    write_predictions(stream, rows, [Said(search.model, answers, labels)])
    write_whole(folder / "predictions.csv", stream.getvalue().encode("utf-8"))
    save_model(search.model, folder)
    text = json.dumps(metrics(result), indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / "metrics.json", f"{text}\n".encode())
    write_whole(folder / "report.html", report.encode("utf-8"))
    if result.took is not None:  # alone, so that all other files of equal runs are equal
        took = json.dumps(asdict(result.took), indent=1, ensure_ascii=False)
        write_whole(folder / TOOK, f"{took}\n".encode())
