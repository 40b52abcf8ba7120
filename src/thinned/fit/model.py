"""A fitted model: from a table to answers, and answers as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from thinned.fit.encoding import Encoder
from thinned.fit.errors import quoted
from thinned.fit.network import Network, probabilities
from thinned.fit.tables import Column, Task, features_for, open_data

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answers", "Model", "write_predictions"]


@dataclass(frozen=True)
class Model:
    """A network, and the way from a table to its inputs and from its outputs to an answer."""

    task: Task
    target: str
    classes: tuple[Any, ...]
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    encoder: Encoder
    network: Network
    training: dict[str, Any]

    def answers(self, frame: pd.DataFrame) -> Answers:
        """What the model says of each row of a table whose columns are the model's."""
        # In binary64 an answer does not depend, in the digits shown, on which other rows are asked
        # about with it; a binary32 product of another size rounds differently.
        outputs = self.network.outputs(self.encoder.encode(frame).astype(np.float64))
        if self.task == "regression":
            return Answers(outputs, outputs[:, 0])
        return Answers(outputs, outputs.argmax(axis=1), probabilities(outputs))

    def read(self, data: str) -> tuple[pd.DataFrame, NDArray[Any] | None, list[str]]:
        """The model's columns in DATA, its target if it is there, and notes on what was met."""
        texts = {column.name for column in self.columns if column.kind == "text"}
        if self.classes and isinstance(self.classes[0], str):
            texts.add(self.target)
        source = open_data(data, frozenset(texts))
        may_have = frozenset((self.target, *self.left_out))
        frame = features_for(source, self.columns, may_have)
        known = source.frame[self.target] if self.target in source.frame.columns else None
        notes = [
            f"{source.name}: column {quoted(name)} has {len(new)} text{'s' * (len(new) > 1)} that "
            f"fitting did not see, {quoted(new[0])} the first."
            for name, new in self.encoder.unseen(frame).items()
        ]
        return frame, None if known is None else known.to_numpy(object), source.notes + notes


@dataclass(frozen=True)
class Answers:
    """Outputs of the network; the class numbers or values they mean; probabilities of classes."""

    outputs: NDArray[Any]
    prediction: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None


def write_predictions(
    stream: TextIO,
    model: Model,
    answers: Answers,
    rows: NDArray[np.int64],
    target: Sequence[Any] | NDArray[Any] | None = None,
) -> None:
    """Write answers as CSV: row, target where it is known, prediction, a probability per class.

    Probabilities have six decimals, values eight digits.
    """
    writer = csv.writer(stream, lineterminator="\n")
    head = ["row", *(["target"] if target is not None else []), "prediction"]
    writer.writerow([*head, *(f"probability of {name}" for name in model.classes)])
    for i, row in enumerate(rows):
        line: list[Any] = [int(row)]
        if target is not None:
            line.append(_cell(target[i]))
        found = answers.prediction[i]
        line.append(model.classes[found] if model.classes else f"{found:.8g}")
        if answers.probabilities is not None:
            line += [f"{share:.6f}" for share in answers.probabilities[i]]
        writer.writerow(line)


def _cell(value: Any) -> Any:
    if value is None or value != value:  # missing
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
