"""One training: a network on one part of the rows, looked at on its way through the epochs."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.fit.epochs import Patience
from thinned.fit.jobs import Job, Trained, job_of
from thinned.fit.network import MEASURES, Network
from thinned.fit.own_training import train_own
from thinned.fit.rate import Rate
from thinned.fit.results import FitSettings
from thinned.fit.tables import Task
from thinned.fit.threads import one_blas_thread

__all__ = ["Job", "Trained", "estimator_for", "job_of", "train"]

Array = NDArray[Any]


class Lesson(Protocol):
    """What is learned in a training, one target or several.

    y : as the estimator takes it. more : further arguments of its partial_fit. mean, scale : bring
    outputs to the target's units. measured : how many measures there are.
    """

    y: Array
    more: dict[str, Any]
    mean: float
    scale: float
    measured: int

    def estimator(self) -> Any:
        """The unfitted estimator that the training is."""
        ...

    def measure(self, network: Network) -> Any:
        """The measures of both parts of the rows."""
        ...

    def ends(self, measured: Array, epoch: int) -> bool:
        """Whether nothing gets better. measured : (looks so far, measures), of the second part."""
        ...


def estimator_for(task: Task, p: Rate, random_state: int, settings: FitSettings) -> Any:
    """The unfitted estimator that the training of one target is."""
    from thinned.estimators.multilayer import DropoutMLPClassifier, DropoutMLPRegressor

    kind = DropoutMLPClassifier if task == "classification" else DropoutMLPRegressor
    return kind(**_parameters(p, random_state, settings))


def _parameters(p: Rate, random_state: int, settings: FitSettings) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": settings.hidden,
        "p": p,
        "learning_rate_init": settings.learning_rate,
        "batch_size": settings.batch_size,
        "weight_decay": settings.weight_decay,
        "random_state": random_state,
    }


class Single:
    """One target as a training takes it."""

    def __init__(self, job: Job) -> None:
        self.job, self.y = job, job.target[0]
        self.mean, self.scale = 0.0, 1.0
        self.more: dict[str, Any] = {}
        self.measured = len(MEASURES[job.task])
        if job.task == "classification":
            self.more = {"classes": np.arange(job.n_classes)}
        else:
            self.mean, self.scale = float(self.y.mean()), float(self.y.std()) or 1.0
            self.y = (self.y - self.mean) / self.scale
        steps = -(-len(self.y) // job.settings.batch_size)
        self.ends = Patience(job.task, job.settings.metric, job.target[1], steps).ends

    def estimator(self) -> Any:
        job = self.job
        return estimator_for(job.task, job.p, job.random_state, job.settings)

    def measure(self, network: Network) -> Any:
        return self.job.measured(network.outputs)


def train(job: Job) -> Trained:
    """Train to the last of `job.looks`, or until looks bring nothing any more, and measure both
    parts after each of these epochs."""
    if job.settings.network is not None:
        return train_own(job)
    with one_blas_thread():
        return _train(job, _several(job) if job.heads else Single(job))


def _several(job: Job) -> Lesson:
    from thinned.fit.heads import Joint

    return Joint(job, _parameters(job.p, job.random_state, job.settings))


def _train(job: Job, lesson: Lesson) -> Trained:
    settings = job.settings
    estimator = lesson.estimator()
    x = job.inputs[0]
    weights = None if job.weights is None else job.weights[0]
    measured = np.full((2, len(job.looks), lesson.measured), np.nan)
    look, epoch, finished = 0, 0, True
    for epoch in range(1, job.looks[-1] + 1):
        estimator.partial_fit(x, lesson.y, sample_weight=weights, **lesson.more)
        if epoch == job.looks[look]:
            network = _network(estimator, lesson)
            measured[:, look] = lesson.measure(network)
            look += 1
            if lesson.ends(measured[1, :look], epoch):
                break
        if job.until is not None and epoch < job.looks[-1] and time.time() > job.until:
            finished = False
            network = _network(estimator, lesson)
            break
    units = [weight.shape[0] for weight in network.weights]
    rows = min(settings.batch_size, len(x))
    masks = tuple(
        (site, Address(estimator.seed_, site, 0), p, (rows, n))
        for site, p, n in zip(estimator.sites_, estimator.p_, units, strict=True)
    )
    return Trained(job.key, measured, network, masks, epoch, finished)


def _network(estimator: Any, lesson: Lesson) -> Network:
    return Network(
        weights=tuple(weight.copy() for weight in estimator.coefs_),
        biases=tuple(bias.copy() for bias in estimator.intercepts_),
        mean=lesson.mean,
        scale=lesson.scale,
    )
