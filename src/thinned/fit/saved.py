"""A fitted model as two files that hold numbers and names only: loading them runs no code.

model.safetensors holds the network's weights, model.json all else. Neither is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import thinned
from thinned.fit.encoding import Encoder, Numeric, Texts
from thinned.fit.errors import InputError
from thinned.fit.model import Model
from thinned.fit.network import Network
from thinned.fit.tables import Column, Task

__all__ = ["MASK_SPEC", "load_model", "save_model"]

FORMAT, FORMAT_VERSION = "thinned.model", 1
# The version of the mask spec under which the network was trained.
MASK_SPEC = 1
FACTS, WEIGHTS = "model.json", "model.safetensors"


def save_model(model: Model, folder: Path) -> None:
    """Write model.safetensors and model.json into a folder."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    for i, (weight, bias) in enumerate(
        zip(model.network.weights, model.network.biases, strict=True)
    ):
        arrays[f"layers.{i}.weight"] = np.ascontiguousarray(weight, dtype=np.float32)
        arrays[f"layers.{i}.bias"] = np.ascontiguousarray(bias, dtype=np.float32)
    # One entry only: safetensors writes several in an order that differs from run to run.
    raw = save(arrays, metadata={"mask_spec": str(MASK_SPEC)})
    (folder / WEIGHTS).write_bytes(raw)
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mask_spec": MASK_SPEC,
        "thinned": thinned.__version__,
        "weights_sha256": hashlib.sha256(raw).hexdigest(),
        "task": model.task,
        "target": model.target,
        "classes": list(model.classes),
        "columns": [asdict(column) for column in model.columns],
        "left_out": list(model.left_out),
        "encoder": asdict(model.encoder),
        "layers": len(model.network.weights),
        "activation": "relu",
        "target_mean": model.network.mean,
        "target_scale": model.network.scale,
        "training": model.training,
    }
    text = json.dumps(facts, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def load_model(folder: Path) -> Model:
    """Read a folder that `thinned fit` wrote.

    Raises
    ------
    InputError, with one sentence, if the folder is another's, a file is missing or damaged, or the
    model was made under another version of the format or of the mask spec.
    """
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; name one that thinned fit wrote.")
    if not (folder / FACTS).is_file():
        raise InputError(f"{folder}: no {FACTS} in it; thinned fit did not write this folder.")
    facts = _facts(folder / FACTS)
    raw = _bytes(folder / WEIGHTS)
    if hashlib.sha256(raw).hexdigest() != facts.get("weights_sha256"):
        raise InputError(f"{folder / WEIGHTS}: damaged, or not the weights of the {FACTS} beside.")
    try:
        return _model(facts, _weights(raw, int(facts["layers"])))
    except (KeyError, TypeError, ValueError, IndexError) as reason:
        raise InputError(f"{folder / FACTS}: not readable as a model ({reason!r}).") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror}).") from None


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_bytes(path).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise InputError(f"{path}: not readable as JSON.") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(f"{path}: not a model of thinned fit.")
    if facts.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: a model of format version {facts.get('format_version')}; this thinned "
            f"({thinned.__version__}) reads version {FORMAT_VERSION}."
        )
    if facts.get("mask_spec") != MASK_SPEC:
        raise InputError(
            f"{path}: trained on version {facts.get('mask_spec')} of the mask spec; this thinned "
            f"({thinned.__version__}) draws masks of version {MASK_SPEC}."
        )
    return facts


def _weights(raw: bytes, layers: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(raw)
    except SafetensorError as reason:
        raise ValueError(f"{WEIGHTS}: {reason}") from None
    return [(arrays[f"layers.{i}.weight"], arrays[f"layers.{i}.bias"]) for i in range(layers)]


def _model(facts: dict[str, Any], layers: list[tuple[NDArray[Any], NDArray[Any]]]) -> Model:
    task = facts["task"]
    if task not in ("classification", "regression"):
        raise ValueError(f"task {task!r}")
    encoder = Encoder(
        tuple(
            Numeric(c["name"], *(_finite(c[key]) for key in ("median", "mean", "scale")))
            for c in facts["encoder"]["numeric"]
        ),
        tuple(
            Texts(c["name"], tuple(c["own"]), tuple(c["rare"])) for c in facts["encoder"]["texts"]
        ),
    )
    if not all(column.scale > 0 for column in encoder.numeric):
        raise ValueError("a scale that is not positive")
    width = encoder.inputs
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != (weight.shape[1],):
            raise ValueError(f"a layer of shapes {weight.shape} and {bias.shape} on {width} inputs")
        width = weight.shape[1]
    classes = tuple(facts["classes"])
    if width != (len(classes) if task == "classification" else 1 - len(classes)):
        raise ValueError(f"{width} outputs for {len(classes)} classes")
    columns = tuple(Column(c["name"], c["kind"]) for c in facts["columns"])
    coded = {c.name for c in encoder.numeric} | {c.name for c in encoder.texts}
    if {column.name for column in columns} != coded or not layers:
        raise ValueError("columns and encoder differ")
    weights, biases = zip(*layers, strict=True)
    return Model(
        task=cast(Task, task),
        target=facts["target"],
        classes=classes,
        columns=columns,
        left_out=tuple(facts["left_out"]),
        encoder=encoder,
        network=Network(
            weights, biases, _finite(facts["target_mean"]), _finite(facts["target_scale"])
        ),
        training=facts["training"],
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} where a finite number belongs")
    return number
