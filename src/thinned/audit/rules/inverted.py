"""The mode the wrong way round, however it is passed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit.context import is_test_code
from thinned.audit.flow import operation
from thinned.audit.modes import Says, says
from thinned.audit.rule import Hit, rule
from thinned.audit.rules.torch_calls import judged, through
from thinned.audit.source import Source

__all__ = ["inverted"]

# Arguments that are true in training, and those that are true in evaluation.
_TRAINING = frozenset({"training", "is_training", "train"})
_EVALUATION = frozenset({"deterministic", "inference", "is_eval"})
_FLAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout"})


@rule(
    "THN013",
    "mode-inverted",
    sentence="The mode is the wrong way round: dropout acts in evaluation and not in training.",
    why="The model trains without dropout and is evaluated with it.",
    mend="Turn it: training=self.training, deterministic=not train, p if self.training else 0.0.",
    wrong="x = F.dropout(x, 0.5, training=not self.training)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def inverted(source: Source) -> Iterator[Hit]:
    told: set[ast.AST] = set()
    for drop, _ in judged(source, "THN013"):
        told.add(drop.node)
        yield drop.node, f"{drop.label} drops in evaluation, and not in training."
    for node, drop, _ in through(source, "THN013"):
        if node not in told:
            told.add(node)
            yield node, f"{drop.label} drops in evaluation here, and not in training."
    turned = [(call, word) for call in source.calls if (word := _turned(source, call)) is not None]
    if _cancel(source, [call for call, _ in turned]):
        return
    for call, word in turned:
        if call not in told and not is_test_code(source, call):
            yield call, f"{word} is the wrong way round."


def _cancel(source: Source, calls: list[ast.Call]) -> bool:
    """Whether a class of the file takes what it calls the mode for its contrary, and is given that:
    two mistakes in names that are none together."""
    taking = {
        info.node
        for call in calls
        for k in call.keywords
        if k.arg in _EVALUATION and isinstance(k.value, ast.Name)
        for info in [source.class_of(call)]
        if info is not None
    }
    handing = [k for call in calls for k in call.keywords if k.arg in _TRAINING]
    return bool(taking) and bool(handing)


def _turned(source: Source, call: ast.Call) -> str | None:
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Attribute) and keyword.value.attr.isupper():
            continue  # a mode of several, by its name: training=TrainingMode.EVAL
        if keyword.arg in _TRAINING and says(source, keyword.value) is Says.EVALUATION:
            return f"{keyword.arg}= is given what is true in evaluation: it"
        if keyword.arg in _EVALUATION and says(source, keyword.value) is Says.TRAINING:
            return f"{keyword.arg}= is given what is true in training: it"
    if (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "train"
        and len(call.args) == 1
        and not call.keywords
        and says(source, call.args[0]) is Says.EVALUATION
    ):
        return "train() is given what is true in evaluation: the mode"
    if len(call.args) > 1:
        found = operation(source, call)
        is_flax = found is not None and found.name in _FLAX and found.built is not None
        if is_flax and says(source, call.args[1]) is Says.TRAINING:
            return "deterministic is given what is true in training: it"
    return None
