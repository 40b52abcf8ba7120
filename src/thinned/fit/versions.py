"""What model.json says, by the version of the format: the form of each part of it."""

from __future__ import annotations

from typing import Any

from thinned.fit.form import (
    distinct_texts,
    each,
    either,
    labels,
    number,
    one_of,
    perhaps,
    positive,
    record,
    share,
    text,
    truth,
    whole,
)
from thinned.fit.readings import forms

__all__ = ["DTYPES", "FORMAT", "FORMAT_VERSION", "FORMS", "MASK_SPEC", "checked"]

FORMAT, FORMAT_VERSION = "thinned.model", 6
# Version 2 has no readings and no further missing texts; up to 3 there are no networks beside a
# model at p = 0, and no scores for intervals; up to 4 no networks of the user's own; up to 5 all
# scores count the same.
WITHOUT_READINGS, WITHOUT_SCORES, WITHOUT_OWN, WITHOUT_WEIGHTS = 2, 3, 4, 5
# The version of the mask spec under which the network was trained.
MASK_SPEC = 1
# The types that arrays of a network of the user's own may have.
DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "bool": "BOOL"}
# The widest layer and the longest training that the command line takes, and far more.
_LARGEST = 2**31 - 1
_TRAINING = record(
    p=either(share, each(share)),
    epochs=whole(1, _LARGEST),
    random_state=whole(0, 2**32 - 1),
    hidden_layer_sizes=each(whole(1, _LARGEST)),
    batch_size=whole(1, _LARGEST),
    learning_rate_init=positive,
    weight_decay=number,
)
_PARTS = {
    "format": one_of(FORMAT),
    "format_version": whole(WITHOUT_READINGS, FORMAT_VERSION),
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
    "layers": whole(0, _LARGEST),
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
_STATE = record(name=text, dtype=one_of(*DTYPES.values()), shape=each(whole(0, _LARGEST)))
_OWN = {
    "own": perhaps(
        record(path=text, function=text, sha256=text, inputs=whole(1, _LARGEST), state=each(_STATE))
    )
}
FORMS = {
    WITHOUT_READINGS: record(**_PARTS),
    WITHOUT_SCORES: record(**_PARTS, **_READINGS),
    WITHOUT_OWN: record(**_PARTS, **_READINGS, **_SCORES),
    WITHOUT_WEIGHTS: record(**_PARTS, **_READINGS, **_SCORES, **_OWN),
    FORMAT_VERSION: record(**_PARTS, **_READINGS, **_SCORES, **_OWN, weighted=truth),
}


def checked(facts: dict[str, Any]) -> dict[str, Any]:
    """What the facts of an earlier version lack, as it is without.

    Raises
    ------
    FormError where they have not the form of their version.
    """
    version = facts["format_version"]
    FORMS[version](facts, "")
    lacking: dict[str, Any] = {}
    if version <= WITHOUT_READINGS:
        lacking |= {"readings": [], "missing": []}
    if version <= WITHOUT_SCORES:
        lacking |= {"twin": None, "scores": 0}
    if version <= WITHOUT_OWN:
        lacking |= {"own": None}
    if version <= WITHOUT_WEIGHTS:
        lacking |= {"weighted": False}
    return lacking
