"""One training: a network on one part of the rows, looked at on its way through the epochs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.fit.epochs import Patience
from thinned.fit.jobs import Job, Trained
from thinned.fit.network import MEASURES, Network
from thinned.fit.own_training import train_own
from thinned.fit.rate import Rate
from thinned.fit.results import FitSettings
from thinned.fit.tables import Task
from thinned.fit.threads import one_blas_thread

__all__ = ["Job", "Trained", "estimator_for", "train"]

Array = NDArray[Any]


def estimator_for(task: Task, p: Rate, random_state: int, settings: FitSettings) -> Any:
    """The unfitted estimator that a training is."""
    from thinned.estimators.multilayer import DropoutMLPClassifier, DropoutMLPRegressor

    kind = DropoutMLPClassifier if task == "classification" else DropoutMLPRegressor
    return kind(
        hidden_layer_sizes=settings.hidden,
        p=p,
        learning_rate_init=settings.learning_rate,
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        random_state=random_state,
    )


def train(job: Job) -> Trained:
    """Train to the last of `job.looks`, or until looks bring nothing any more, and measure both
    parts after each of these epochs."""
    if job.settings.network is not None:
        return train_own(job)
    with one_blas_thread():
        return _train(job)


def _train(job: Job) -> Trained:
    estimator = estimator_for(job.task, job.p, job.random_state, job.settings)
    x, y = job.inputs[0], job.target[0]
    weights = None if job.weights is None else job.weights[0]
    mean, scale, more = 0.0, 1.0, {}
    if job.task == "classification":
        more = {"classes": np.arange(job.n_classes)}
    else:
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        y = (y - mean) / scale
    measured = np.full((2, len(job.looks), len(MEASURES[job.task])), np.nan)
    steps = -(-len(x) // job.settings.batch_size)
    patience = Patience(job.task, job.settings.metric, job.target[1], steps)
    look, epoch, finished = 0, 0, True
    for epoch in range(1, job.looks[-1] + 1):
        estimator.partial_fit(x, y, sample_weight=weights, **more)
        if epoch == job.looks[look]:
            network = _network(estimator, mean, scale)
            measured[:, look] = job.measured(network.outputs)
            look += 1
            if patience.ends(measured[1, :look], epoch):
                break
        if job.until is not None and epoch < job.looks[-1] and time.time() > job.until:
            finished = False
            network = _network(estimator, mean, scale)
            break
    units = [weight.shape[0] for weight in network.weights]
    rows = min(job.settings.batch_size, len(x))
    masks = tuple(
        (site, Address(estimator.seed_, site, 0), p, (rows, n))
        for site, p, n in zip(estimator.sites_, estimator.p_, units, strict=True)
    )
    return Trained(job.key, measured, network, masks, epoch, finished)


def _network(estimator: Any, mean: float, scale: float) -> Network:
    return Network(
        weights=tuple(weight.copy() for weight in estimator.coefs_),
        biases=tuple(bias.copy() for bias in estimator.intercepts_),
        mean=mean,
        scale=scale,
    )
