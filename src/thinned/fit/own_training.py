"""Training a network of the user's own, on a CUDA device where there is one, and asking it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.errors import InputError
from thinned.fit.epochs import Patience
from thinned.fit.jobs import Job, Trained
from thinned.fit.network import MEASURES
from thinned.fit.own import Own, built, failures_of
from thinned.fit.own_network import OwnNetwork, asked_of, in_units
from thinned.fit.rate import mean_of
from thinned.numpy import batches

if TYPE_CHECKING:
    from torch import nn


__all__ = ["device_of", "train_own"]

Array = NDArray[Any]


def device_of() -> str:
    """Where networks of the user's own are trained."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def train_own(job: Job) -> Trained:
    """As `training.train`: the same batches, the same first weights at every p, and masks by
    address.

    Raises
    ------
    InputError if the network is none that can be trained on these rows.
    """
    with _one_thread():
        return _train(job)


def _train(job: Job) -> Trained:
    import torch

    from thinned.torch import adopt

    own, settings = job.settings.network, job.settings
    assert own is not None
    x, y = job.inputs[0], job.target[0]
    mean, scale = 0.0, 1.0
    if job.task == "regression":
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        y = ((y - mean) / scale).astype(np.float32)
    device = torch.device(device_of())
    n_outputs = job.n_classes or 1
    module = built(own, x.shape[1], n_outputs, job.p, job.random_state).to(device)
    saved = list(module.state_dict())
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    report = adopt(module, seed=job.random_state, optimizer=optimizer) if mean_of(job.p) else None
    rows = torch.tensor(x, device=device)
    target = torch.tensor(y, device=device)
    weights = None if job.weights is None else torch.tensor(job.weights[0], device=device).float()
    loss_of = _loss(job.task)
    measured = np.full((2, len(job.looks), len(MEASURES[job.task])), np.nan)
    size = min(settings.batch_size, len(x))
    patience = Patience(job.task, settings.metric, job.target[1], -(-len(x) // size))
    shapes: dict[str, tuple[int, ...]] = {}
    look, epoch, finished = 0, 0, True

    def state() -> dict[str, Array]:
        values = module.state_dict()
        return {name: values[name].detach().cpu().numpy().copy() for name in saved}

    for epoch in range(1, job.looks[-1] + 1):
        module.train()
        for some in batches(len(x), size, Address(job.random_state, "shuffle", epoch - 1)):
            if len(some) == 1 < len(x):  # a normalisation over the batch needs two
                continue
            taken = torch.from_numpy(np.asarray(some)).to(device)
            optimizer.zero_grad()
            with failures_of(own), _watched(module, report, shapes):
                out = module(rows[taken])
            _check(own, out, len(some), n_outputs)
            losses = loss_of(out, target[taken])
            loss = (losses if weights is None else losses * weights[taken]).mean()
            loss.backward()
            optimizer.step()
        if not bool(torch.isfinite(loss.detach())):
            raise InputError(
                f"{own.called}: training diverged, the loss in epoch {epoch} is "
                f"{float(loss.detach()):g}; lower --learning-rate."
            )
        if epoch == job.looks[look]:
            module.eval()
            measured[:, look] = job.measured(lambda x: in_units(asked_of(module, x), mean, scale))
            look += 1
            if patience.ends(measured[1, :look], epoch):
                break
        if job.until is not None and epoch < job.looks[-1] and time.time() > job.until:
            finished = False
            break
    network = OwnNetwork(own, x.shape[1], n_outputs, job.p, state(), mean, scale)
    seed = job.random_state
    masks = tuple(
        (row.site, Address(seed, row.site, 0), row.p, (shapes[row.site][0], shapes[row.site][1]))
        for row in (report.rows if report else ())
        if row.reached and row.p and len(shapes.get(row.site, ())) == 2
    )
    return Trained(job.key, measured, network, masks, epoch, finished)


def _loss(task: str) -> Any:
    """The loss of each row."""
    from torch.nn import functional

    if task == "classification":
        return lambda out, target: functional.cross_entropy(out, target, reduction="none")
    return lambda out, target: (out.reshape(-1) - target) ** 2


def _check(own: Own, out: Any, rows: int, outputs: int) -> None:
    shape = tuple(getattr(out, "shape", ()))
    if shape != (rows, outputs) and not (outputs == 1 and shape == (rows,)):
        got = f"shape {shape}" if shape else type(out).__name__
        raise InputError(
            f"{own.called}: the network must answer with shape ({rows}, {outputs}) for {rows} "
            "rows, "
            f"but answered with {got}."
        )


@contextmanager
def _watched(module: nn.Module, report: Any, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """Note the shapes that sites meet in the first batch."""
    if report is None or shapes:
        yield
        return
    hooks = []
    known = dict(module.named_modules())
    for row in report.rows:
        if row.site in known:

            def note(one: Any, given: Any, site: str = row.site) -> None:
                shapes.setdefault(site, tuple(given[0].shape))

            hooks.append(known[row.site].register_forward_pre_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        shapes.setdefault("", ())


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums over several depend on how many these are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
