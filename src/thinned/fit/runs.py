"""Results of several runs beside each other: `thinned compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinned.errors import InputError
from thinned.fit.compare import paired
from thinned.fit.facts import read_json
from thinned.fit.folder import folders_of
from thinned.fit.metrics import METRICS, Metric, metric_for
from thinned.fit.rate import as_rate, spelled
from thinned.fit.results import Mean, Paired
from thinned.fit.words import number, with_error

__all__ = ["Run", "compare_runs", "load_run"]

FILE = "metrics.json"
FORMAT, FORMAT_VERSION = "thinned.fit", 3


@dataclass(frozen=True)
class Run:
    """One folder of `thinned fit`: its name, and what its metrics.json says."""

    name: str
    facts: dict[str, Any]

    @property
    def task(self) -> Any:
        return self.facts["data"]["task"]

    @property
    def metric(self) -> Metric:
        return METRICS[self.task][self.facts["settings"]["metric"]]

    @property
    def best(self) -> int:
        """The place of the saved model's p among the ps."""
        return int(self.facts["settings"]["p"].index(self.facts["best_p"]))

    @property
    def judged_on(self) -> tuple[Any, ...]:
        """What two runs must have in common besides the rows of their splits."""
        data, settings = self.facts["data"], self.facts["settings"]
        own = [data[name] for name in ("name", "sha256", "target", "task")]
        return (*own, *data["classes"], data["choices"]["weights"], settings["folds"])

    @property
    def rows(self) -> list[str]:
        """For each split the hash of its rows."""
        return [str(split["rows"]) for split in self.facts["splits"]]

    def values(self, measure: str) -> Any:
        """The saved p's validation values, a split each."""
        return np.array([s["validation"][measure][self.best] for s in self.facts["splits"]])


def load_run(folder: Path) -> Run:
    """Read a folder's metrics.json.

    Raises
    ------
    InputError with one sentence if it is not there, or not one of this version.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one that thinned fit wrote.")
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder}: no {FILE} in it; thinned fit did not write this folder.")
    facts = read_json(path)
    if parts := folders_of(folder):
        raise InputError(
            f"{folder}: holds a result for each of {len(parts)} targets; name one of them, such as "
            f"{folder / parts[0]}."
        )
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(f"{path}: not a result of thinned fit.")
    version = facts.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: of format version {version!r}, and this thinned reads {FORMAT_VERSION}; fit "
            "it again: its report.html holds the command."
        )
    run = Run(folder.name or str(folder), facts)
    try:
        _touch(run)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        raise InputError(f"{path}: damaged or edited, parts of it are missing.") from None
    return run


def _touch(run: Run) -> None:
    """A run has every part that is needed."""
    for measure in METRICS[run.task]:
        if not np.isfinite(run.values(measure)).all():
            raise ValueError
    if not run.judged_on or len(run.rows) < 2 or run.facts["settings"]["folds"] < 2:
        raise ValueError
    _table([run], run.metric)


def compare_runs(runs: list[Run], metric: str | None = None) -> str:
    """The runs as a table, and a sentence on each against the first.

    Runs on the same splits are compared in pairs, by the test that dropout is judged by; others
    only stand in the same table.

    metric : the measure; None for the one that decided in the first run.

    Raises
    ------
    InputError if the runs predict different targets, whose scores are in different units, or there
    is no such measure of theirs.
    """
    first = runs[0]
    chosen = first.metric if metric is None else metric_for(first.task, metric)
    for run in runs[1:]:
        if (run.task, run.facts["data"]["target"]) != (first.task, first.facts["data"]["target"]):
            raise InputError(
                f"{run.name} and {first.name} predict different targets: their scores are not "
                "comparable."
            )
    said = [_against(first, run, chosen) for run in runs[1:]]
    return "\n".join([*_table(runs, chosen), "", *(f"- {sentence}" for sentence in said)])


def _table(runs: list[Run], metric: Metric) -> list[str]:
    scale = 100 if metric.percent else 1
    unit = " (%)" if metric.percent else ""
    head = ["run", "data", "rows", "hidden", "best p", f"validation {metric.called}{unit}"]
    rows = [[*head, f"test {metric.called}{unit}", "dropout"]]
    for run in runs:
        data, settings, best = run.facts["data"], run.facts["settings"], run.facts["best_p"]
        level = run.facts["levels"][run.best]["validation"][metric.name]
        refit = next(one for one in run.facts["refits"] if one["p"] == best)
        test = Mean(refit["test"][metric.name], refit["errors"][metric.name])
        rows.append(
            [
                run.name, data["name"], f"{data['rows']:,}",
                _layers(settings), spelled(as_rate(best)),
                with_error(Mean(**level), scale), with_error(test, scale), run.facts["verdict"],
            ]
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _layers(settings: dict[str, Any]) -> str:
    """The units of the hidden layers, or what builds the network."""
    own = settings["network"]
    return str(own["called"]) if own else ",".join(map(str, settings["hidden"]))


def _against(first: Run, run: Run, metric: Metric) -> str:
    found = paired_runs(first, run, metric.name)
    if found is None:
        return (
            f"{run.name} and {first.name} were not judged on the same splits of the same rows: no "
            "test says whether they differ."
        )
    n = min(len(first.facts["splits"]), len(run.facts["splits"]))
    scale, unit = (100, " %") if metric.percent else (1, "")
    size = with_error(Mean(abs(found.difference), found.error), scale)
    if not found.difference:
        return f"On the same {n} splits {run.name} has the {metric.called} of {first.name}."
    way = "lower" if found.difference < 0 else "higher"
    start = (
        f"On the same {n} splits the validation {metric.called} of {run.name} is {way} than that "
        f"of {first.name} by {size}{unit}"
    )
    if found.clear:
        better = "better" if metric.cost(found.difference) < 0 else "worse"
        return f"{start}, clearly {better}."
    return (
        f"{start}; chance alone may reach {number(scale * found.bound, 2)}, so this may be chance."
    )


def paired_runs(first: Run, run: Run, measure: str) -> Paired | None:
    """run minus first, over the splits that both have; None where these are not the same."""
    n = min(len(first.rows), len(run.rows))
    if first.judged_on != run.judged_on or first.rows[:n] != run.rows[:n]:
        return None
    ours, theirs = run.values(measure)[:n], first.values(measure)[:n]
    return paired(ours, theirs, int(first.facts["settings"]["folds"]))
