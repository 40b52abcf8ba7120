"""Training a network of the user's own, on a CUDA device where there is one, and asking it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.errors import InputError
from thinned.fit.epochs import Patience
from thinned.fit.network import MEASURES, measures
from thinned.fit.own import Own, built, failures_of
from thinned.fit.rate import Rate, mean_of
from thinned.numpy import batches

if TYPE_CHECKING:
    from torch import nn

    from thinned.fit.training import Job, Trained
    from thinned.members.prediction import Prediction
    from thinned.members.request import Asked

__all__ = ["OwnNetwork", "device_of", "train_own"]

Array = NDArray[Any]

# Rows that go through together in prediction. Always so many: then a row's answer does not depend
# on how many others are asked about.
ROWS = 1024


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A trained network of the user's own, in evaluation.

    own : what builds it, for so many inputs and n_outputs, dropping at p. state : its parameters
    and buffers by name. mean, scale : bring a regression's output to the target's units.
    """

    own: Own
    inputs: int
    n_outputs: int
    p: Rate
    state: dict[str, Array]
    mean: float = 0.0
    scale: float = 1.0

    def module(self) -> nn.Module:
        """The module, with its weights, on the CPU.

        Raises
        ------
        InputError if the function builds another network than was saved.
        """
        import torch

        made = built(self.own, self.inputs, self.n_outputs, self.p, 0)
        state = {name: torch.from_numpy(value.copy()) for name, value in self.state.items()}
        try:
            made.load_state_dict(state)
        except RuntimeError as reason:
            said = " ".join(str(reason).split())
            raise InputError(f"{self.own.called}: it builds another network: {said}") from None
        return made.eval()

    def outputs(self, inputs: Array) -> Array:
        """Logits, shape (rows, classes), or values in the target's units, shape (rows, 1)."""
        return _in_units(_asked(self.module(), inputs), self.mean, self.scale)

    def members(self, inputs: Array, asked: Asked, single: bool) -> Prediction:
        """What thinned networks say: see `Model.members`."""
        from thinned.members.torch_models import predict

        def value(out: Any) -> Any:
            return out[:, 0].double() * self.scale + self.mean

        return predict(
            self.module(),
            inputs.astype(np.float32),
            members=asked.members,
            seed=asked.seed,
            batch_size=ROWS,
            task=asked.task,
            output=value if single else None,
        )


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

    from thinned.fit.training import Trained
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
            for part in range(2):
                raw = _asked(module.eval(), job.inputs[part])
                out_rows = _in_units(raw, mean, scale)
                of_rows = None if job.weights is None else job.weights[part]
                measured[part, look] = measures(job.task, out_rows, job.target[part], of_rows)
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


def _asked(module: nn.Module, inputs: Array) -> Array:
    """What a module in evaluation says of rows, shape (rows, outputs)."""
    import torch

    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    parts = []
    with torch.no_grad():
        for first in range(0, len(inputs), ROWS):
            part = inputs[first : first + ROWS].astype(np.float32)
            # Filled up: a product over fewer rows rounds in another way.
            whole = np.concatenate((part, np.zeros((ROWS - len(part), part.shape[1]), np.float32)))
            out = module(torch.from_numpy(whole).to(device))
            parts.append(out.reshape(ROWS, -1)[: len(part)].float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _in_units(outputs: Array, mean: float, scale: float) -> Array:
    if scale == 1.0 and mean == 0.0:
        return outputs
    return outputs.astype(np.float64) * scale + mean


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
