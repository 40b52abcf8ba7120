"""One draw of JAX, Flax or Keras that several parts of a batch or of a model share."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.context import is_test_code
from thinned.audit.layers import KERAS_DROPOUT
from thinned.audit.rule import Hit
from thinned.audit.source import Source

__all__ = ["layers_of_one_key", "replicated_keys", "shared_axes", "speaks_of_dropout"]
__all__ += ["splits_thrown_away"]

_FLAX = ("flax.linen.Dropout", "flax.nnx.Dropout")
_KEY = re.compile(r"(?i)(?:^|_)(?:rngs?|keys?)\d*$")


def speaks_of_dropout(source: Source) -> bool:
    """Say whether a name of a file holds the word, or a mask is drawn."""
    return any(source.calls_of(("jax.random.bernoulli",))) or any(
        re.search(r"(?i)dropout", word) for word in (*source.attributes, *source.loads)
    )


def replicated_keys(source: Source) -> Iterator[Hit]:
    """Yield the keys that every device gets a copy of, where no device folds its number in."""
    if "axis_index" in source.attributes or "axis_index" in source.loads:
        return
    for called in source.calls_of(("flax.jax_utils.replicate",)):
        key = called.argument(0, "tree")
        name = key.attr if isinstance(key, ast.Attribute) else getattr(key, "id", "")
        if not _KEY.search(str(name)) or not speaks_of_dropout(source):
            continue
        if not is_test_code(source, called.node):
            yield called.node, "All devices get one key: their parts of the batch share masks."


def shared_axes(source: Source) -> Iterator[Hit]:
    """Yield the layers whose masks are the same along the axis of the batch and others."""
    sentence = "The axis of the batch is among those that share a mask: all rows drop the same."
    for called in source.calls_of(_FLAX):
        axes = called.argument(None, "broadcast_dims")
        if any(source.value(axis) == 0 for axis in _several(axes)):
            yield called.node, sentence
    for called in source.calls_of(KERAS_DROPOUT):
        shape = _several(called.argument(1, "noise_shape"))
        if shape and source.value(shape[0]) == 1 and not is_test_code(source, called.node):
            yield called.node, sentence


def _several(node: ast.expr | None) -> list[ast.expr]:
    """The elements of a list or tuple that has more than one."""
    found = node.elts if isinstance(node, (ast.Tuple, ast.List)) else []
    return found if len(found) > 1 else []


def layers_of_one_key(source: Source) -> Iterator[Hit]:
    """Yield the scans over layers, each with parameters of its own, that share a dropout key."""
    for called in source.calls_of(("flax.linen.scan",)):
        streams = called.argument(None, "split_rngs")
        if not isinstance(streams, ast.Dict):
            continue
        split = {
            key.value: source.value(value)
            for key, value in zip(streams.keys, streams.values, strict=True)
            if isinstance(key, ast.Constant)
        }
        if split.get("params") is True and split.get("dropout") is False:
            yield streams, "Each layer has its own parameters, and all draw one dropout mask."


def splits_thrown_away(source: Source) -> Iterator[Hit]:
    """Yield the splits of keys whose result nothing takes."""
    for called in source.calls_of(("jax.random.split", "jax.random.fold_in")):
        if not isinstance(source.parents[called.node], ast.Expr):
            continue
        if speaks_of_dropout(source) and not is_test_code(source, called.node):
            yield called.node, "The new keys are thrown away: what follows draws with the old."
