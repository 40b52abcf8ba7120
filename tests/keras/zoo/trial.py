"""What is tried on one model: does it drop, is it adopted, and does what adoption promises hold."""

import tempfile
from pathlib import Path

import keras
import numpy as np

import thinned.keras

from .small import NotBuiltError, inputs_of, line


def tried(model, name, outputs):
    """A row: what was found. Checks are "yes", "no", or what went wrong.

    outputs : folder. The first outputs of the adopted model go there, for another backend.
    """
    given = inputs_of(model)

    kept = [keras.ops.convert_to_numpy(weight) for weight in model.weights]

    def run(training, seed=0):
        for weight, value in zip(model.weights, kept, strict=True):
            weight.assign(value)  # training moves the averages of batch normalization
        keras.utils.set_random_seed(seed)
        found = model(given, training=training)
        found = [found[key] for key in sorted(found)] if isinstance(found, dict) else found
        found = keras.tree.flatten(found)
        return [np.asarray(keras.ops.convert_to_numpy(y), np.float64) for y in found]

    try:
        calls = [run(True, seed) for seed in range(1, 5)]
    except Exception as error:  # whatever the model says, which nobody has touched
        raise NotBuiltError(f"it does not run: {type(error).__name__}: {line(error)}") from error
    row = {"drops": word(not all(same(calls[0], other) for other in calls[1:]))}
    evaluation = run(False)
    classes = [type(layer) for layer in model._flatten_layers()]
    try:
        report = thinned.keras.adopt(model, seed=3)
    except ValueError as error:
        row["adopted"] = str(error)
        return row
    row["adopted"], row["sites"] = "yes", len(report.sites)
    row["not reached"] = sorted({f"{r.kind}: {r.done}" for r in report.not_reached})
    first, *others = (run(True, seed) for seed in range(5, 9))
    steps = thinned.keras.addresses(model)
    thinned.keras.rewind(model)
    again = [run(True, seed) for seed in range(9, 13)]
    replayed = all(same(a, b) for a, b in zip((first, *others), again, strict=True))
    row["replay"] = word(replayed and not all(same(first, other) for other in others))
    row["eval"] = word(same(run(False), evaluation) and thinned.keras.addresses(model) == steps)
    row["resumed"] = word(resumed(model, steps))
    file = Path(outputs) / f"{name}-{keras.config.backend()}.npz"
    np.savez(file, *first, **{f"evaluation {i}": y for i, y in enumerate(evaluation)})
    thinned.keras.release(model)
    as_before = [type(layer) for layer in model._flatten_layers()] == classes
    row["release"] = word(as_before and same(run(False), evaluation))
    return row


def resumed(model, steps):
    """Whether the steps come back with the weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.weights.h5"
        model.save_weights(file)
        thinned.keras.rewind(model)
        model.load_weights(file)
    return thinned.keras.addresses(model) == steps


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def word(holds):
    return "yes" if holds else "no"
