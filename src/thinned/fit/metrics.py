"""The measures by name: what each is called, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinned.errors import InputError, short
from thinned.fit.target import Task

__all__ = ["METRICS", "UNBALANCED", "Metric", "metric_for"]

# With classes this many times larger than others, accuracy alone says little.
UNBALANCED = 3.0


@dataclass(frozen=True)
class Metric:
    """One measure.

    name : as in `MEASURES` and in --metric. called : in a sentence. unit : "" where there is none.
    percent : whether it is shown as a percentage. higher : whether a higher value is better.
    """

    name: str
    called: str
    unit: str = ""
    percent: bool = False
    higher: bool = True

    @property
    def bounded(self) -> bool:
        """Whether it goes from 0 to 1."""
        return self.higher and self.name != "r2"

    def cost(self, value: Any) -> Any:
        """The value, turned so that lower is better."""
        return -value if self.higher else value


_CLASSES = (
    Metric("loss", "log loss", "nats", higher=False),
    Metric("accuracy", "accuracy", "%", percent=True),
    Metric("balanced_accuracy", "balanced accuracy", "%", percent=True),
    Metric("auc", "area under the ROC curve"),
    Metric("average_precision", "average precision"),
)
_QUANTITY = (
    Metric("loss", "squared error", "squared units of the target", higher=False),
    Metric("rmse", "root mean square error", "units of the target", higher=False),
    Metric("r2", "R²"),
    Metric("mae", "mean absolute error", "units of the target", higher=False),
)
METRICS: dict[Task, dict[str, Metric]] = {
    "classification": {one.name: one for one in _CLASSES},
    "regression": {one.name: one for one in _QUANTITY},
}


def metric_for(task: Task, name: str) -> Metric:
    """The measure of --metric NAME for this task.

    Raises
    ------
    InputError with one sentence, for a name that is unknown or of the other task.
    """
    there = METRICS[task]
    if name in there:
        return there[name]
    names = list(there)
    choices = f"{', '.join(names[:-1])} or {names[-1]}"
    others = METRICS["regression" if task == "classification" else "classification"]
    why = f"a {task} has no {name}" if name in others else f"{short(name)} is no measure"
    raise InputError(f"--metric: {why}; write {choices}.")
