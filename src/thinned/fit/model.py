"""A fitted model: from a table to answers, and answers as CSV."""

from __future__ import annotations

import csv
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit.cells import guarded
from thinned.fit.encoding import Encoder
from thinned.fit.network import ROWS, Network, probabilities
from thinned.fit.own_network import OwnNetwork
from thinned.fit.rate import each_layer, mean_of
from thinned.fit.readings import Reading
from thinned.fit.source import TableFile
from thinned.fit.tables import Column, Task, features_for, open_data

if TYPE_CHECKING:
    import pandas as pd

    from thinned.members.prediction import Prediction

__all__ = ["Answers", "Model", "Said", "Twin", "read_for", "write_predictions"]


@dataclass(frozen=True)
class Twin:
    """The refit at the best p above 0 beside a model at p = 0: its thinned networks predict."""

    network: Network | OwnNetwork
    training: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A network, and the way from a table to its inputs and from its outputs to an answer."""

    task: Task
    target: str
    classes: tuple[Any, ...]
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    encoder: Encoder
    network: Network | OwnNetwork
    training: dict[str, Any]
    # How texts are read, and which ones are missing.
    readings: tuple[Reading, ...] = ()
    missing: tuple[str, ...] = ()
    twin: Twin | None = None
    # How far answers for rows that were not trained on are from the truth: see `fit.conformal`.
    strangeness: NDArray[np.float64] | None = None
    score_weights: NDArray[np.float64] | None = None

    @property
    def thinned(self) -> Twin | None:
        """The network whose thinned networks predict: the model itself, where it has some."""
        if mean_of(self.training.get("p", 0.0)):
            return Twin(self.network, self.training)
        return self.twin

    def answers(self, frame: pd.DataFrame) -> Answers:
        """What the model says of each row of a table whose columns are the model's."""
        # In binary64 an answer does not depend, in the digits shown, on the other rows of the
        # prediction; a binary32 product of another size rounds differently.
        parts = [slice(i, i + ROWS) for i in range(0, max(len(frame), 1), ROWS)]
        encoded = (self.encoder.encode(frame.iloc[part]) for part in parts)
        outputs = np.concatenate([self.network.outputs(x.astype(np.float64)) for x in encoded])
        if self.task == "regression":
            return Answers(outputs, outputs[:, 0])
        return Answers(outputs, outputs.argmax(axis=1), probabilities(outputs))

    def members(self, frame: pd.DataFrame, members: int, seed: int = 0) -> Prediction:
        """What thinned networks say: the model's, each dropping at the p that it was fitted with;
        for a model at p = 0 those of its twin, the refit at the best p above 0.

        Raises
        ------
        InputError if there is none, in a folder of an earlier version.
        """
        from thinned.members.perceptron import Perceptron, predict_perceptron
        from thinned.members.request import checked

        asks, who = self.thinned, "thinned predict"
        if asks is None:
            raise InputError(
                "--members: this model was fitted at p = 0, without dropout, by a version of "
                "thinned that saved no other network beside it. Fit it again."
            )
        thin = asks.network
        inputs = self.encoder.encode(frame).astype(np.float64)
        asked = checked(who, members, seed, "member", task=self.task)
        if isinstance(thin, OwnNetwork):
            return thin.members(inputs, asked, self.task == "regression")
        layers = [
            (weight.astype(np.float64), bias.astype(np.float64))
            for weight, bias in zip(thin.weights, thin.biases, strict=True)
        ]
        # The estimator's own names: see DropoutMLP.
        sites = ["input", *(f"hidden.{i}" for i in range(1, len(layers)))]
        scale, mean = thin.scale, thin.mean
        rates = each_layer(asks.training["p"], len(layers))
        network = Perceptron(layers, sites, rates, "relu", scale, mean)
        return predict_perceptron(who, network, inputs, asked, self.task == "regression")

    def read(
        self, data: str, encoding: str | None = None
    ) -> tuple[pd.DataFrame, NDArray[Any] | None, list[str]]:
        """The model's columns in DATA, its target if it is there, and notes on what was met."""
        return read_for([self], data, encoding)[0]

    @property
    def verbatim(self) -> frozenset[str]:
        """The columns whose cells are taken as they stand in a file."""
        texts = {column.name for column in self.columns if column.kind == "text"}
        if self.classes and isinstance(self.classes[0], str):
            texts.add(self.target)
        texts.update(one.column for one in self.readings)
        return frozenset(texts)

    def taken_from(self, source: TableFile) -> tuple[pd.DataFrame, NDArray[Any] | None, list[str]]:
        """What `read` answers, from a table that was read."""
        may_have = frozenset((self.target, *self.left_out))
        frame = features_for(source, self.columns, may_have, self.readings)
        known = source.frame[self.target] if self.target in source.frame.columns else None
        notes = [
            f"{source.name}: column {quoted(name)} has {len(new)} text{'s' * (len(new) > 1)} that "
            f"fitting did not see, {quoted(new[0])} the first."
            for name, new in self.encoder.unseen(frame).items()
        ]
        return frame, None if known is None else known.to_numpy(object), source.notes + notes


def read_for(
    models: Sequence[Model], data: str, encoding: str | None = None
) -> list[tuple[pd.DataFrame, NDArray[Any] | None, list[str]]]:
    """`Model.read` for models of several targets; DATA is opened once."""
    verbatim = frozenset[str]().union(*(model.verbatim for model in models))
    source = open_data(data, verbatim, models[0].missing, encoding)
    copies = [
        replace(source, frame=source.frame.copy(deep=False), notes=list(source.notes))
        for _ in models
    ]
    return [model.taken_from(one) for model, one in zip(models, copies, strict=True)]


@dataclass(frozen=True)
class Answers:
    """Outputs of the network; the class numbers or values they mean; probabilities of classes.

    more : further columns, by name. sets : (rows, classes), which of them are in each row's set.
    """

    outputs: NDArray[Any]
    prediction: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None
    more: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sets: NDArray[np.bool_] | None = None

    def followed_by(self, other: Answers) -> Answers:
        """These answers, and after them those of the same model for other rows."""
        shares = None
        if self.probabilities is not None and other.probabilities is not None:
            shares = np.concatenate((self.probabilities, other.probabilities))
        return Answers(
            np.concatenate((self.outputs, other.outputs)),
            np.concatenate((self.prediction, other.prediction)),
            shares,
        )

    def taken(self, rows: NDArray[np.intp]) -> Answers:
        """The answers for some rows, in their order."""
        shares = None if self.probabilities is None else self.probabilities[rows]
        return Answers(self.outputs[rows], self.prediction[rows], shares)

    @staticmethod
    def of_members(answer: Prediction) -> Answers:
        """The mean of members, and in `more` how far they agree; entropies in nats."""
        if answer.probabilities is None:
            return Answers(answer.mean, answer.mean, more={"std": answer.std})
        best = answer.mean.argmax(axis=1)
        entropy, shared = answer.predictive_entropy, answer.mutual_information
        assert entropy is not None
        assert shared is not None
        std = np.take_along_axis(answer.std, best[:, None], axis=1)[:, 0]
        more = {"std": std, "entropy": entropy, "mutual information": shared}
        return Answers(answer.mean, best, answer.probabilities, more)


@dataclass(frozen=True)
class Said:
    """A model's answers, and its target where that is known, one for each row."""

    model: Model
    answers: Answers
    target: Sequence[Any] | NDArray[Any] | None = None

    def head(self) -> list[str]:
        """The names of the columns that they are written in."""
        known = ["target"] if self.target is not None else []
        shares = [f"probability of {name}" for name in self.model.classes]
        sets = ["set"] if self.answers.sets is not None else []
        return [*known, "prediction", *shares, *self.answers.more, *sets]

    def cells(self, i: int, classes: list[Any], spelled: Callable[[str], str]) -> list[Any]:
        """What is written of a row."""
        answers, found = self.answers, self.answers.prediction[i]
        line = [] if self.target is None else [_cell(self.target[i], spelled)]
        line.append(classes[found] if classes else f"{found:.8g}")
        if answers.probabilities is not None:
            line += [f"{share:.6f}" for share in answers.probabilities[i]]
        line += [f"{column[i]:.8g}" for column in answers.more.values()]
        if answers.sets is not None:
            line.append(" | ".join(str(classes[c]) for c in np.flatnonzero(answers.sets[i])))
        return line


def write_predictions(
    stream: TextIO,
    rows: NDArray[np.int64],
    said: Sequence[Said],
    spelled: Callable[[str], str] = guarded,
) -> None:
    """Write answers as CSV: row, target where it is known, prediction, a probability per class,
    and what else the answers have. Those of several models stand side by side, each column after
    the name of its target.

    Probabilities have six decimals, values eight digits. Texts of the data go through `spelled`.
    """
    write = _row_writer(stream)
    head = ["row"]
    for one in said:
        of = f"{one.model.target}: " if len(said) > 1 else ""
        head += [spelled(f"{of}{name}") for name in one.head()]
    write(head)
    classes = [[_cell(label, spelled) for label in one.model.classes] for one in said]
    for i, row in enumerate(rows):
        line: list[Any] = [int(row)]
        for one, labels in zip(said, classes, strict=True):
            line += one.cells(i, labels, spelled)
        write(line)


def _row_writer(stream: TextIO) -> Callable[[list[Any]], object]:
    quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain = csv.writer(stream, lineterminator="\n")

    def write(row: list[Any]) -> None:
        # Before Python 3.13 a carriage return is written without quotes, and ends the row.
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoting if returns else plain).writerow(row)

    return write


def _cell(value: Any, spelled: Callable[[str], str]) -> Any:
    if value is None or value != value:  # missing
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, numbers.Real) else spelled(str(value))
