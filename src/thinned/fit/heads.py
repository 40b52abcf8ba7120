"""The training of one network that learns several targets, and each target's part of it.

The network's last layer has outputs for each target: a logit for each class, or one value. Its loss
is the sum of the targets' own: the cross-entropy of the classes, and half the squared error of a
quantity whose variance is 1. A target's part gives the outputs of a network that has these hidden
layers and that target alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from thinned.estimators.perceptron import DropoutMLP
from thinned.fit.epochs import Patience
from thinned.fit.jobs import Job, Trained
from thinned.fit.network import MEASURES, Network, measures
from thinned.fit.together import Head
from thinned.numpy import softmax_cross_entropy, squared_error

__all__ = ["Joint", "Part", "part_of", "validated"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """What of a network, of its measures and of a job's targets belongs to one target.

    mean, scale : bring a quantity's output to its units.
    """

    head: Head
    column: int
    outputs: slice
    measures: slice
    mean: float = 0.0
    scale: float = 1.0

    def target(self, target: Array) -> Array:
        """Class numbers or values, of the targets in a job."""
        y = target[:, self.column]
        return y.astype(np.intp) if self.head.n_classes else y

    def of(self, network: Network) -> Network:
        """The network whose outputs are this target's alone."""
        weights = (*network.weights[:-1], network.weights[-1][:, self.outputs])
        biases = (*network.biases[:-1], network.biases[-1][self.outputs])
        return Network(weights, biases, self.mean, self.scale)

    def taken(self, trained: Trained) -> Trained:
        """What a training of several targets found for this one."""
        assert isinstance(trained.network, Network)
        measured = trained.measured[:, :, self.measures]
        return replace(trained, measured=measured, network=self.of(trained.network))


def parts_of(job: Job) -> Iterator[Part]:
    """The parts of all targets."""
    outputs = first = 0
    for column, head in enumerate(job.heads):
        found, measured = outputs + head.outputs, first + len(MEASURES[head.task])
        part = Part(head, column, slice(outputs, found), slice(first, measured))
        if not head.n_classes:
            y = job.target[0][:, column]
            part = replace(part, mean=float(y.mean()), scale=float(y.std()) or 1.0)
        yield part
        outputs, first = found, measured


def part_of(job: Job, column: int) -> Part:
    """The part of one target."""
    return list(parts_of(job))[column]


def validated(job: Job, trained: Trained) -> Array:
    """The validation loss at each look. Of several targets it is the sum that is trained: nats, and
    half the squared errors of quantities whose variance is 1."""
    measured = trained.measured[1]
    if not job.heads:
        loss: Array = measured[:, 0]
        return loss
    units = (1.0 if one.head.n_classes else 2.0 * one.scale**2 for one in parts_of(job))
    firsts = (one.measures.start for one in parts_of(job))
    losses = [measured[:, first] / unit for first, unit in zip(firsts, units, strict=True)]
    return np.asarray(np.sum(losses, axis=0))


class Joint:
    """Several targets as a training takes them: see `training.Lesson`."""

    def __init__(self, job: Job, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.job, self.parts = job, list(parts_of(job))
        columns = [(one.target(job.target[0]) - one.mean) / one.scale for one in self.parts]
        self.y = np.column_stack(columns)
        self.more: dict[str, Any] = {}
        self.mean, self.scale = 0.0, 1.0
        self.measured = self.parts[-1].measures.stop
        steps = -(-len(self.y) // job.settings.batch_size)
        self.patience = [
            Patience(one.head.task, job.settings.metric, one.target(job.target[1]), steps)
            for one in self.parts
        ]

    def estimator(self) -> Any:
        return _HeadsMLP(self.parts, **self.parameters)

    def measure(self, network: Network) -> Array:
        """(parts of the rows, measures of all targets)."""
        weights = self.job.weights or (None, None)
        rows = []
        for x, y, of_rows in zip(self.job.inputs, self.job.target, weights, strict=True):
            outputs = network.outputs(x)
            found: list[float] = []
            for one in self.parts:
                own = outputs[:, one.outputs]
                if not one.head.n_classes:
                    own = own.astype(np.float64) * one.scale + one.mean
                found += measures(one.head.task, own, one.target(y), of_rows)
            rows.append(found)
        return np.array(rows)

    def ends(self, measured: Array, epoch: int) -> bool:
        """A training ends when no target gets better any more."""
        pairs = zip(self.parts, self.patience, strict=True)
        return all(patience.ends(measured[:, one.measures], epoch) for one, patience in pairs)


class _HeadsMLP(RegressorMixin, DropoutMLP):  # type: ignore[misc]  # scikit-learn ships no types
    """A perceptron whose y has a column for each target: class numbers, or values."""

    def __init__(self, parts: Sequence[Part], **settings: Any) -> None:
        super().__init__(**settings)
        self.parts = parts

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return self._partial_fit(X, y, sample_weight=sample_weight)

    def _encode(self, y: Any, fresh: bool, classes: Any = None) -> Array:
        self.n_outputs_, self.out_activation_ = self.parts[-1].outputs.stop, "heads"
        return np.asarray(y, np.float32)

    def _loss(self, scores: Array, y: Array, weights: Array | None) -> tuple[float, Array]:
        loss, change = 0.0, np.empty_like(scores)
        for one in self.parts:
            own, column = scores[:, one.outputs], y[:, one.column]
            if one.head.n_classes:
                found, change[:, one.outputs] = softmax_cross_entropy(
                    own, column.astype(np.intp), weights
                )
            else:
                found, change[:, one.outputs] = squared_error(own, column[:, None], weights)
            loss += found
        return loss, change
