"""Finished trainings kept in a folder, so that a run that was ended goes on where it was.

Each is a file under the hash of its job: all that it is computed from, the arrays, and the versions
of what computes it. A file that is damaged, or of another job, counts as none. Nothing here is a
pickle, and loading runs no code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.fit.engines import Engine
from thinned.fit.engines.local import Local
from thinned.fit.network import Network
from thinned.fit.own_network import OwnNetwork
from thinned.fit.own_training import device_of
from thinned.fit.together import Head
from thinned.fit.training import Job, Trained, train

__all__ = ["Kept", "job_hash"]

# What of the settings a training does not depend on: what stands in its job, or is not its own.
_NOT_ITS_OWN = ("p", "epochs", "repeats", "seed", "folds", "test_share", "judged")


class Kept:
    """An engine that trains what is not kept yet.

    Parameters
    ----------
    folder : Path. It is made when the first training has ended.

    Attributes
    ----------
    found : how many trainings were kept from before.
    lost : why trainings can no longer be kept (a full disk), or an empty string.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine: Engine = Local()
        self.found, self.lost = 0, ""
        self._hashes: dict[int, tuple[Any, str]] = {}

    def over(self, engine: Engine) -> Kept:
        """Itself, with the engine that trains what is not kept."""
        self.engine = engine
        return self

    @property
    def workers(self) -> int:
        return self.engine.workers

    def run(self, do: Callable[[Any], Any], jobs: Iterable[Any], count: int) -> Iterator[Any]:
        """As `Engine.run`."""
        if do is not train:
            yield from self.engine.run(do, jobs, count)
            return
        there: deque[Trained] = deque()
        names: dict[tuple[int, ...], str] = {}

        def missing() -> Iterator[Job]:
            for job in jobs:
                name = job_hash(job, self._hashes)
                kept = self._kept(job, name)
                if kept is None:
                    names[job.key] = name
                    yield job
                else:
                    self.found += 1
                    there.append(kept)

        for trained in self.engine.run(do, missing(), count):
            name = names.pop(trained.key)
            if trained.finished:
                self._keep(name, trained)
            yield trained
            yield from _emptied(there)
        yield from _emptied(there)

    def clear(self) -> None:
        """Take the folder away: the run has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def holds(self) -> bool:
        """Whether there is anything to go on from."""
        return self.folder.is_dir() and any(self.folder.iterdir())

    def _kept(self, job: Job, name: str) -> Trained | None:
        try:
            raw = (self.folder / name).read_bytes()
        except OSError:  # there is none
            return None
        seal, content = raw[:32], raw[32:]
        if hashlib.sha256(content).digest() != seal:
            return None
        return _unpacked(content, job)

    def _keep(self, name: str, trained: Trained) -> None:
        if self.lost:
            return
        content = _packed(trained)
        made = self.folder / f"{name}.part"
        try:
            self.folder.mkdir(exist_ok=True, mode=0o700)
            with made.open("wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
                stream.flush()
                os.fsync(stream.fileno())
            made.replace(self.folder / name)
        except OSError as reason:
            self.lost = reason.strerror or str(reason)
            self.clear()


def _emptied(there: deque[Trained]) -> Iterator[Trained]:
    while there:
        yield there.popleft()


def job_hash(job: Job, known: dict[int, tuple[Any, str]] | None = None) -> str:
    """The hash of all that a training's numbers come from.

    known : hashes of inputs by id, with the inputs: those of a split are hashed once.
    """
    known = {} if known is None else known
    before = known.get(id(job.inputs))
    if before is None or before[0] is not job.inputs:
        if len(known) > 2:
            known.clear()
        before = known[id(job.inputs)] = (
            job.inputs,
            _of_arrays((*job.inputs, *job.target, *(job.weights or ()))),
        )
    settings = {k: v for k, v in asdict(job.settings).items() if k not in _NOT_ITS_OWN}
    names = ["thinned", "numpy", "scikit-learn"]
    if (own := job.settings.network) is not None:
        names.append("torch")
        settings["network"] = [own.function, own.sha256, device_of()]
    facts = {
        "arrays": before[1],
        # Of several targets each asks for the same training.
        "learns": [asdict(one) for one in job.heads or (Head(job.task, job.n_classes),)],
        "p": job.p,
        "random_state": job.random_state,
        "looks": job.looks,
        "settings": settings,
        "versions": [version(name) for name in names],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]


def _of_arrays(arrays: tuple[NDArray[Any], ...]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _packed(trained: Trained) -> bytes:
    network = trained.network
    if isinstance(network, OwnNetwork):
        return _own_packed(trained, network)
    facts = {
        "mean": network.mean,
        "scale": network.scale,
        "masks": _masks(trained),
        "epochs": trained.epochs,
    }
    arrays: dict[str, Any] = {"measured": trained.measured}
    for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        arrays |= {f"weight.{i}": weight, f"bias.{i}": bias}
    return _zipped(facts, arrays)


def _own_packed(trained: Trained, network: OwnNetwork) -> bytes:
    facts = {
        "mean": network.mean,
        "scale": network.scale,
        "masks": _masks(trained),
        "epochs": trained.epochs,
    }
    arrays = {f"state.{name}": value for name, value in network.state.items()}
    return _zipped(facts, {"measured": trained.measured, **arrays})


def _masks(trained: Trained) -> list[Any]:
    return [
        [site, [at.seed, at.step, at.call], p, list(shape)] for site, at, p, shape in trained.masks
    ]


def _zipped(facts: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    return stream.getvalue()


def _unpacked(content: bytes, job: Job) -> Trained | None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            facts = json.loads(found["facts"].tobytes())
            network = _network(found, facts, job)
            masks = tuple(
                (site, Address(seed, site, step, call), p, (shape[0], shape[1]))
                for site, (seed, step, call), p, shape in facts["masks"]
            )
            return Trained(job.key, found["measured"], network, masks, facts["epochs"])
    except (KeyError, ValueError, TypeError, IndexError, zipfile.BadZipFile):
        return None  # of another version of this file's form


def _network(found: Any, facts: dict[str, Any], job: Job) -> Network | OwnNetwork:
    ends = facts["mean"], facts["scale"]
    own = job.settings.network
    if own is not None:
        names = [name for name in found.files if name.startswith("state.")]
        state = {name.removeprefix("state."): found[name] for name in names}
        return OwnNetwork(own, job.inputs[0].shape[1], job.n_classes or 1, job.p, state, *ends)
    n = sum(name.startswith("weight.") for name in found.files)
    weights, biases = (tuple(found[f"{w}.{i}"] for i in range(n)) for w in ("weight", "bias"))
    return Network(weights, biases, *ends)
