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
from thinned.fit.folder import write_whole
from thinned.fit.form import (
    FormError,
    distinct_texts,
    each,
    labels,
    number,
    one_of,
    perhaps,
    positive,
    received,
    record,
    share,
    text,
    truth,
    whole,
)
from thinned.fit.model import Model, Twin
from thinned.fit.network import Network
from thinned.fit.readings import VERBATIM, Reading, forms
from thinned.fit.tables import Column, Task
from thinned.version import __version__

__all__ = ["MASK_SPEC", "load_model", "save_model", "sealed"]

FORMAT, FORMAT_VERSION = "thinned.model", 4
# Version 2 has no readings and no further missing texts; up to 3 there are no networks beside a
# model at p = 0, and no scores for intervals.
WITHOUT_READINGS, WITHOUT_SCORES = 2, 3
# The version of the mask spec under which the network was trained.
MASK_SPEC = 1
FACTS, WEIGHTS = "model.json", "model.safetensors"
# The end of model.json: the SHA-256 of all bytes before it.
SEAL = b',\n "sha256": "%s"\n}\n'
SEALED = re.compile(rb'(?s)(.*),\n "sha256": "([0-9a-f]{64})"\n\}\n')
# The arrays beside the model's own layers.
TWIN, SCORES = "twin.", "scores"
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
        "layers": len(model.network.weights),
        "activation": "relu",
        "target_mean": model.network.mean,
        "target_scale": model.network.scale,
        "training": model.training,
        "twin": None if model.twin is None else _twin_facts(model.twin),
        "scores": len(scores),
    }
    write_whole(folder / FACTS, sealed(facts))


def _named(network: Network, first: str) -> dict[str, NDArray[Any]]:
    """The arrays of a network by their names in the file."""
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


def load_model(folder: Path) -> Model:
    """Read a folder that `thinned fit` wrote.

    Raises
    ------
    InputError, with one sentence, if the folder is another's, a file is missing or damaged, or the
    model was made under another version of the format or of the mask spec.
    """
    _check_folder(folder)
    facts = _facts(folder / FACTS)
    with _sentence(folder / FACTS, "a model"):
        version = facts["format_version"]
        _FORMS[version](facts, "")
        if version <= WITHOUT_READINGS:
            facts |= {"readings": [], "missing": []}
        if version <= WITHOUT_SCORES:
            facts |= {"twin": None, "scores": 0}
        _check_agreement(facts)
    with _sentence(folder / WEIGHTS, "weights"):
        arrays = _arrays(folder / WEIGHTS, facts)
    return _model(facts, arrays)


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
    if any(_is(version, known) for known in _FORMS):
        return
    reads = f"this thinned ({__version__}) reads versions {min(_FORMS)} to {max(_FORMS)}."
    if _is(version, 1):
        raise InputError(
            f"{path}: a model of format version 1, which has no checksum that would show damage; "
            f"{reads} Fit it again: its report.html holds the command."
        )
    raise InputError(f"{path}: a model of format version {received(version)}; {reads}")


def _is(value: Any, version: int) -> bool:
    return type(value) is int and value == version


# The widest layer and the longest training that the command line takes, and far more.
_LARGEST = 2**31 - 1
_TRAINING = record(
    p=share,
    epochs=whole(1, _LARGEST),
    random_state=whole(0, 2**32 - 1),
    hidden_layer_sizes=each(whole(1, _LARGEST)),
    batch_size=whole(1, _LARGEST),
    learning_rate_init=positive,
    weight_decay=number,
)
_PARTS = {
    "format": one_of(FORMAT),
    "format_version": one_of(FORMAT_VERSION, WITHOUT_READINGS, WITHOUT_SCORES),
    "mask_spec": one_of(MASK_SPEC),
    "thinned": text,
    "weights_sha256": text,
    "task": one_of("classification", "regression"),
    "target": text,
    "classes": labels,
    "columns": each(record(name=text, kind=one_of("numeric", "text", "bool"))),
    "left_out": distinct_texts,
    "encoder": record(
        numeric=each(record(name=text, median=number, mean=number, scale=positive)),
        texts=each(record(name=text, own=distinct_texts, rare=distinct_texts)),
    ),
    "layers": whole(1, _LARGEST),
    "activation": one_of("relu"),
    "target_mean": number,
    "target_scale": positive,
    "training": _TRAINING,
    "sha256": text,
}
_READINGS = {
    "readings": each(
        record(column=text, form=one_of(*forms()), before=text, after=text, lenient=truth)
    ),
    "missing": distinct_texts,
}
_SCORES = {
    "twin": perhaps(record(target_mean=number, target_scale=positive, training=_TRAINING)),
    "scores": whole(0, _LARGEST),
}
_FORMS = {
    WITHOUT_READINGS: record(**_PARTS),
    WITHOUT_SCORES: record(**_PARTS, **_READINGS),
    FORMAT_VERSION: record(**_PARTS, **_READINGS, **_SCORES),
}


def _check_agreement(facts: dict[str, Any]) -> None:
    """What stands in two places of model.json is the same in both."""
    encoder, sizes = facts["encoder"], facts["training"]["hidden_layer_sizes"]
    if facts["layers"] != len(sizes) + 1:
        raise FormError(f"{facts['layers']} layers for {len(sizes)} hidden ones")
    twin = facts["twin"]
    if twin is not None and (
        facts["training"]["p"] or twin["training"]["hidden_layer_sizes"] != sizes
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


def _shapes(facts: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The arrays that belong to a model, by name."""
    outputs = len(facts["classes"]) or 1
    sizes = [_encoder(facts).inputs, *facts["training"]["hidden_layer_sizes"], outputs]
    found: dict[str, tuple[int, ...]] = {}
    for i, (ins, outs) in enumerate(pairwise(sizes)):
        found[f"layers.{i}.weight"] = (ins, outs)
        found[f"layers.{i}.bias"] = (outs,)
    if facts["twin"] is not None:
        found |= {f"{TWIN}{name}": shape for name, shape in found.items()}
    if facts["scores"]:
        found[SCORES] = (facts["scores"],)
    return found


def _arrays(path: Path, facts: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The arrays by name: those that the facts are about, float32, finite."""
    from safetensors import SafetensorError, deserialize

    shapes = _shapes(facts)
    numbers = sum(math.prod(shape) for shape in shapes.values())
    raw = read_bytes(path, 4 * numbers + MOST_HEADER)
    if hashlib.sha256(raw).hexdigest() != facts["weights_sha256"]:
        raise InputError(f"{path}: damaged, or not the weights of the {FACTS} beside.")
    try:
        untyped: Any = deserialize
        stored = dict(untyped(raw))
    except SafetensorError as reason:
        raise FormError(str(reason)) from None
    if stored.keys() != shapes.keys():
        raise FormError(f"the arrays are {listed(sorted(stored))}")
    arrays = {name: _array(name, stored[name], shape) for name, shape in shapes.items()}
    if facts["scores"] and (arrays[SCORES][0] < 0 or (np.diff(arrays[SCORES]) < 0).any()):
        raise FormError(f"{SCORES} must be 0 or more, in ascending order")
    return arrays


def _array(name: str, stored: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if stored["dtype"] != "F32" or tuple(stored["shape"]) != shape:
        found = f"{stored['dtype']} of shape {tuple(stored['shape'])}"
        raise FormError(f"{name} must be F32 of shape {shape}, got {found}")
    array = np.frombuffer(stored["data"], "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise FormError(f"{name} holds numbers that are not finite")
    return array


def _network(
    facts: dict[str, Any], arrays: dict[str, NDArray[np.float32]], layers: int, first: str = ""
) -> Network:
    weights, biases = (
        tuple(arrays[f"{first}layers.{i}.{what}"] for i in range(layers))
        for what in ("weight", "bias")
    )
    return Network(weights, biases, facts["target_mean"], facts["target_scale"])


def _model(facts: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> Model:
    twin, layers = facts["twin"], facts["layers"]
    return Model(
        task=cast(Task, facts["task"]),
        target=facts["target"],
        classes=tuple(facts["classes"]),
        columns=tuple(Column(**column) for column in facts["columns"]),
        left_out=tuple(facts["left_out"]),
        encoder=_encoder(facts),
        network=_network(facts, arrays, layers),
        training=facts["training"],
        readings=tuple(Reading(**one) for one in facts["readings"]),
        missing=tuple(facts["missing"]),
        twin=twin and Twin(_network(twin, arrays, layers, TWIN), twin["training"]),
        strangeness=arrays[SCORES].astype(np.float64) if facts["scores"] else None,
    )
