"""A fitted model as two files that hold numbers and names only: loading them runs no code.

model.safetensors holds the network's weights, model.json all else. Neither is a pickle. Each byte
of both is under a checksum: a damaged model is refused, since its predictions would look
like any others.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, listed
from thinned.fit.encoding import Encoder, Numeric, Texts
from thinned.fit.facts import parsed, read_bytes
from thinned.fit.folder import folders_of, write_whole
from thinned.fit.form import (
    FormError,
    received,
)
from thinned.fit.model import Model, Twin
from thinned.fit.network import Network
from thinned.fit.own import Own
from thinned.fit.own_network import OwnNetwork
from thinned.fit.rate import as_rate, mean_of
from thinned.fit.readings import VERBATIM, Reading
from thinned.fit.tables import Column, Task
from thinned.fit.versions import DTYPES, FORMAT, FORMAT_VERSION, FORMS, MASK_SPEC, checked
from thinned.version import __version__

__all__ = ["MASK_SPEC", "load_model", "load_models", "save_model", "sealed"]

FACTS, WEIGHTS = "model.json", "model.safetensors"
# The end of model.json: the SHA-256 of all bytes before it.
SEAL = b',\n "sha256": "%s"\n}\n'
SEALED = re.compile(rb'(?s)(.*),\n "sha256": "([0-9a-f]{64})"\n\}\n')
# The arrays beside the model's own layers.
TWIN, SCORES, SCORE_WEIGHTS = "twin.", "scores", "score_weights"
# Those of a network of the user's own, and the bytes of a number of each type.
OWN = "own."
WIDTHS = {"F32": 4, "F64": 8, "I64": 8, "I32": 4, "BOOL": 1}
# The names and shapes before the numbers of model.safetensors take some 100 bytes a layer.
MOST_HEADER = 2**20


def save_model(model: Model, folder: Path) -> None:
    """Write model.safetensors and model.json into a folder."""
    from safetensors.numpy import save

    arrays = _named(model.network, "")
    if model.twin is not None:
        arrays |= _named(model.twin.network, TWIN)
    scores = np.zeros(0) if model.strangeness is None else model.strangeness
    if len(scores):
        arrays[SCORES] = scores.astype(np.float32)
    if model.score_weights is not None:
        arrays[SCORE_WEIGHTS] = model.score_weights.astype(np.float32)
    # One entry only: safetensors writes several in an order that differs from run to run.
    raw = save(arrays, metadata={"mask_spec": str(MASK_SPEC)})
    write_whole(folder / WEIGHTS, raw)
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mask_spec": MASK_SPEC,
        "thinned": __version__,
        "weights_sha256": hashlib.sha256(raw).hexdigest(),
        "task": model.task,
        "target": model.target,
        "classes": list(model.classes),
        "columns": [asdict(column) for column in model.columns],
        "left_out": list(model.left_out),
        "readings": [asdict(reading) for reading in model.readings],
        "missing": list(model.missing),
        "encoder": asdict(model.encoder),
        "own": _own_facts(model.network),
        "layers": 0 if isinstance(model.network, OwnNetwork) else len(model.network.weights),
        "activation": "relu",
        "target_mean": model.network.mean,
        "target_scale": model.network.scale,
        "training": model.training,
        "twin": None if model.twin is None else _twin_facts(model.twin),
        "scores": len(scores),
        "weighted": model.score_weights is not None,
    }
    write_whole(folder / FACTS, sealed(facts))


def _own_facts(network: Network | OwnNetwork) -> dict[str, Any] | None:
    """What a network of the user's own is built by, and its arrays."""
    if not isinstance(network, OwnNetwork):
        return None
    own = network.own
    state = [
        {"name": name, "dtype": DTYPES[value.dtype.name], "shape": list(value.shape)}
        for name, value in sorted(network.state.items())
    ]
    return {
        "path": own.path, "function": own.function, "sha256": own.sha256,
        "inputs": network.inputs, "state": state,
    }  # fmt: skip


def _named(network: Network | OwnNetwork, first: str) -> dict[str, NDArray[Any]]:
    """The arrays of a network by their names in the file."""
    if isinstance(network, OwnNetwork):
        state = network.state.items()
        return {f"{first}{OWN}{name}": np.asarray(value, order="C") for name, value in state}
    found: dict[str, NDArray[Any]] = {}
    for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        found[f"{first}layers.{i}.weight"] = np.ascontiguousarray(weight, dtype=np.float32)
        found[f"{first}layers.{i}.bias"] = np.ascontiguousarray(bias, dtype=np.float32)
    return found


def _twin_facts(twin: Twin) -> dict[str, Any]:
    network = twin.network
    return {
        "target_mean": network.mean,
        "target_scale": network.scale,
        "training": twin.training,
    }


def sealed(facts: Mapping[str, Any]) -> bytes:
    """The content of model.json: the facts, and a checksum over every byte of them."""
    said = json.dumps(facts, indent=1, allow_nan=False, ensure_ascii=False)
    head = said.removesuffix("\n}").encode("utf-8")
    return head + SEAL % hashlib.sha256(head).hexdigest().encode("ascii")


def load_models(folder: Path, own: Own | None = None) -> list[Model]:
    """The models in a folder that `thinned fit` wrote: one, or one for each target. Raises as
    `load_model`."""
    return [load_model(folder / part, own) for part in folders_of(folder) or ("",)]


def load_model(folder: Path, own: Own | None = None) -> Model:
    """Read a folder that `thinned fit` wrote.

    own : what builds the network, where that is the user's: no code is read from the folder.

    Raises
    ------
    InputError, with one sentence, if the folder is another's, a file is missing or damaged, or the
    model was made under another version of the format or of the mask spec.
    """
    _check_folder(folder)
    facts = _facts(folder / FACTS)
    with _sentence(folder / FACTS, "a model"):
        facts |= checked(facts)
        _check_agreement(facts)
    _check_own(folder, facts["own"], own)
    with _sentence(folder / WEIGHTS, "weights"):
        arrays = _arrays(folder / WEIGHTS, facts)
    return _model(facts, arrays, own)


def _check_own(folder: Path, needed: dict[str, Any] | None, own: Own | None) -> None:
    """The network is built by the file that it was fitted with, and by no other."""
    if needed is None:
        if own is not None:
            raise InputError(f"--network: the model in {folder} has no network of your own.")
        return
    name = f"{needed['path']}:{needed['function']}"
    if own is None:
        raise InputError(
            f"{folder}: its network is built by {received(name)}, whose code is not in the folder; "
            f"name the file to run it: --network {received(name)}."
        )
    if own.function != needed["function"]:
        raise InputError(f"--network: the model was fitted with {received(name)}.")
    if own.sha256 != needed["sha256"]:
        raise InputError(
            f"--network: {own.path} is another file than the one that the model was fitted with, "
            "or "
            f"has been changed since: its SHA-256 begins with {own.sha256[:12]}, not with "
            f"{needed['sha256'][:12]}."
        )


@contextmanager
def _sentence(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FormError as reason:
        raise InputError(f"{path}: not readable as {what} ({reason}).") from None


def _check_folder(folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
        has_facts = is_folder and os.path.lexists(folder / FACTS)
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder; name one that thinned fit wrote.") from None
    except OSError as reason:
        raise InputError(f"{folder}: cannot be read ({reason.strerror}).") from None
    if not is_folder:
        what = "this is a file, not a folder"
        raise InputError(f"{folder}: {what}; name one that thinned fit wrote.")
    if parts := folders_of(folder):
        raise InputError(
            f"{folder}: holds a model for each of {len(parts)} targets; name one of them, such as "
            f"{folder / parts[0]}."
        )
    if not has_facts:
        raise InputError(f"{folder}: no {FACTS} in it; thinned fit did not write this folder.")


# -------------------------------------------------------------------------------------- model.json


def _facts(path: Path) -> dict[str, Any]:
    """What model.json says, if every byte of it is as it was written."""
    raw = read_bytes(path)
    facts = parsed(path, raw)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(f"{path}: not a model of thinned fit.")
    # Versions come first: another one may seal its files in another way.
    _check_version(path, facts.get("format_version"))
    mask_spec = facts.get("mask_spec")
    if not _is(mask_spec, MASK_SPEC):
        raise InputError(
            f"{path}: trained on version {received(mask_spec)} of the mask spec; this thinned "
            f"({__version__}) draws masks of version {MASK_SPEC}."
        )
    seal = SEALED.fullmatch(raw)
    if seal is None or hashlib.sha256(seal[1]).hexdigest().encode("ascii") != seal[2]:
        raise InputError(f"{path}: damaged or edited, its checksum does not fit; fit it again.")
    return facts


def _check_version(path: Path, version: Any) -> None:
    if any(_is(version, known) for known in FORMS):
        return
    reads = f"this thinned ({__version__}) reads versions {min(FORMS)} to {max(FORMS)}."
    if _is(version, 1):
        raise InputError(
            f"{path}: a model of format version 1, which has no checksum that would show damage; "
            f"{reads} Fit it again: its report.html holds the command."
        )
    raise InputError(f"{path}: a model of format version {received(version)}; {reads}")


def _is(value: Any, version: int) -> bool:
    return type(value) is int and value == version


def _check_agreement(facts: dict[str, Any]) -> None:
    """What stands in two places of model.json is the same in both."""
    encoder, sizes = facts["encoder"], facts["training"]["hidden_layer_sizes"]
    if facts["own"] is not None:
        if facts["layers"] or sizes:
            raise FormError("layers beside a network of the user's own")
        if facts["own"]["inputs"] != _encoder(facts).inputs:
            raise FormError("the network's inputs are not the encoder's")
    elif facts["layers"] != len(sizes) + 1:
        raise FormError(f"{facts['layers']} layers for {len(sizes)} hidden ones")
    twin = facts["twin"]
    for training in (facts["training"], *([twin["training"]] if twin else [])):
        rates = training["p"]
        if isinstance(rates, list) and len(rates) != facts["layers"] and not facts["own"]:
            raise FormError(f"{len(rates)} rates for {facts['layers']} layers")
    if twin is not None and (
        mean_of(facts["training"]["p"]) or twin["training"]["hidden_layer_sizes"] != sizes
    ):
        raise FormError("a network beside the model that does not belong to it")
    coded = [column["name"] for part in ("numeric", "texts") for column in encoder[part]]
    numeric = [c["name"] for c in facts["columns"] if c["kind"] == "numeric"]
    others = [c["name"] for c in facts["columns"] if c["kind"] != "numeric"]
    if coded != numeric + others or len({*coded, facts["target"]}) != len(coded) + 1:
        raise FormError("columns and encoder differ")
    if any(set(column["own"]) & set(column["rare"]) for column in encoder["texts"]):
        raise FormError("a text that is both rare and not")
    _check_readings(facts)
    if (len(facts["classes"]) > 1) != (facts["task"] == "classification"):
        raise FormError(f"{facts['task']} with {len(facts['classes'])} classes")


def _check_readings(facts: dict[str, Any]) -> None:
    """Each reading is of a column of its own, and makes what the column is."""
    kinds = {column["name"]: column["kind"] for column in facts["columns"]}
    read = [one["column"] for one in facts["readings"]]
    if len(set(read)) < len(read):
        raise FormError("a column with two readings")
    for one in (Reading(**one) for one in facts["readings"]):
        kind = "text" if one.form == VERBATIM else "numeric"
        known = {kinds.get(name, kind) for name in one.makes if name in kinds}
        fits = known == {kind} or (one.column == facts["target"] and not one.dated)
        if not fits or (one.dated and (one.column in kinds or one.before + one.after)):
            raise FormError(f"the reading of {received(one.column)} is not its column's")


# --------------------------------------------------------------------------------------- the model


def _encoder(facts: dict[str, Any]) -> Encoder:
    return Encoder(
        tuple(Numeric(**column) for column in facts["encoder"]["numeric"]),
        tuple(
            Texts(column["name"], tuple(column["own"]), tuple(column["rare"]))
            for column in facts["encoder"]["texts"]
        ),
    )


def _shapes(facts: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The types and shapes of the arrays that belong to a model, by name."""
    found = _own_shapes(facts["own"]) if facts["own"] else _layer_shapes(facts)
    if facts["twin"] is not None:
        found |= {f"{TWIN}{name}": one for name, one in found.items()}
    if facts["scores"]:
        found[SCORES] = "F32", (facts["scores"],)
    if facts["weighted"]:
        found[SCORE_WEIGHTS] = "F32", (facts["scores"],)
    return found


def _own_shapes(own: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {f"{OWN}{one['name']}": (one["dtype"], tuple(one["shape"])) for one in own["state"]}


def _layer_shapes(facts: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    outputs = len(facts["classes"]) or 1
    sizes = [_encoder(facts).inputs, *facts["training"]["hidden_layer_sizes"], outputs]
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for i, (ins, outs) in enumerate(pairwise(sizes)):
        found[f"layers.{i}.weight"] = "F32", (ins, outs)
        found[f"layers.{i}.bias"] = "F32", (outs,)
    return found


def _arrays(path: Path, facts: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays by name: those that the facts are about, of their types, finite."""
    from safetensors import SafetensorError, deserialize

    shapes = _shapes(facts)
    sizes = sum(WIDTHS[kind] * math.prod(shape) for kind, shape in shapes.values())
    raw = read_bytes(path, sizes + MOST_HEADER)
    if hashlib.sha256(raw).hexdigest() != facts["weights_sha256"]:
        raise InputError(f"{path}: damaged, or not the weights of the {FACTS} beside.")
    try:
        untyped: Any = deserialize
        stored = dict(untyped(raw))
    except SafetensorError as reason:
        raise FormError(str(reason)) from None
    if stored.keys() != shapes.keys():
        raise FormError(f"the arrays are {listed(sorted(stored))}")
    arrays = {name: _array(name, stored[name], *form) for name, form in shapes.items()}
    if facts["scores"] and (arrays[SCORES][0] < 0 or (np.diff(arrays[SCORES]) < 0).any()):
        raise FormError(f"{SCORES} must be 0 or more, in ascending order")
    if facts["weighted"] and not (arrays[SCORE_WEIGHTS] > 0).all():
        raise FormError(f"{SCORE_WEIGHTS} must be above 0")
    return arrays


def _array(name: str, stored: dict[str, Any], kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if stored["dtype"] != kind or tuple(stored["shape"]) != shape:
        found = f"{stored['dtype']} of shape {tuple(stored['shape'])}"
        raise FormError(f"{name} must be {kind} of shape {shape}, got {found}")
    dtype = np.dtype(next(name for name, one in DTYPES.items() if one == kind))
    array = np.frombuffer(stored["data"], dtype.newbyteorder("<")).reshape(shape).astype(dtype)
    if not np.isfinite(array).all():
        raise FormError(f"{name} holds numbers that are not finite")
    return array


def _own_network(
    facts: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    own: Own,
    whole: dict[str, Any],
    first: str,
) -> OwnNetwork:
    names = [one["name"] for one in whole["own"]["state"]]
    state = {name: arrays[f"{first}{OWN}{name}"] for name in names}
    ends = facts["target_mean"], facts["target_scale"]
    p = as_rate(facts["training"]["p"])
    return OwnNetwork(own, whole["own"]["inputs"], len(whole["classes"]) or 1, p, state, *ends)


def _network(
    facts: dict[str, Any], arrays: dict[str, NDArray[Any]], layers: int, first: str = ""
) -> Network:
    weights, biases = (
        tuple(arrays[f"{first}layers.{i}.{what}"] for i in range(layers))
        for what in ("weight", "bias")
    )
    return Network(weights, biases, facts["target_mean"], facts["target_scale"])


def _model(facts: dict[str, Any], arrays: dict[str, NDArray[Any]], own: Own | None) -> Model:
    twin, layers = facts["twin"], facts["layers"]

    def network(part: dict[str, Any], first: str = "") -> Network | OwnNetwork:
        if own is not None:
            return _own_network(part, arrays, own, facts, first)
        return _network(part, arrays, layers, first)

    return Model(
        task=cast(Task, facts["task"]),
        target=facts["target"],
        classes=tuple(facts["classes"]),
        columns=tuple(Column(**column) for column in facts["columns"]),
        left_out=tuple(facts["left_out"]),
        encoder=_encoder(facts),
        network=network(facts),
        training=facts["training"],
        readings=tuple(Reading(**one) for one in facts["readings"]),
        missing=tuple(facts["missing"]),
        twin=twin and Twin(network(twin, TWIN), twin["training"]),
        strangeness=arrays[SCORES].astype(np.float64) if facts["scores"] else None,
        score_weights=arrays[SCORE_WEIGHTS].astype(np.float64) if facts["weighted"] else None,
    )
