"""Where dropout stands among other layers: before BatchNorm, on logits, in place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.context import is_test_code
from thinned.audit.flow import Operation, Step, before, chains, operation, producer, steps_of
from thinned.audit.layers import (
    BATCH_NORM,
    CARRYING,
    CARRYING_METHODS,
    FUNCTIONAL,
    KERAS_DROPOUT,
    LOSSES,
    NORMALISING,
    TORCH_DROPOUT,
)
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source

__all__ = ["before_batch_norm", "on_logits"]

_FUNCTIONS = frozenset(
    n for n in FUNCTIONAL if n.rpartition(".")[2].startswith("dropout") and n.startswith("torch.nn")
) | {"torch.dropout"}
_DROPOUT = TORCH_DROPOUT | KERAS_DROPOUT | _FUNCTIONS | {"flax.linen.Dropout"}
_DENSE: dict[str, int] = {
    "torch.nn.Linear": 1,
    "torch.nn.LazyLinear": 0,
    "keras.layers.Dense": 0,
    "flax.linen.Dense": 0,
}
_OUTPUTS = re.compile(
    r"(?i)^(?:y|out|outputs?|preds?|predictions?|probs?|scores?|logits?)(?:_\w+)?$"
)

_CLASSES = re.compile(
    r"(?i)^(?:n|num|nb|no_of)_?(?:class|classes|labels?|categories|vocab)$"
    r"|^n_?tokens?$|^(?:vocab|vocabulary)_?(?:size|len)$|^len_vocab$"
)
_LOGITS = re.compile(r"(?i)^(?:\w+_)?logits?$")
_HEAD = re.compile(r"(?i)^(?:classifier|lm_head|cls_head|logits?|final_fc)$")
_MODEL = re.compile(r"(?i)^(?:model|net|network|classifier|clf)\d*$")
# How many calls are followed backwards from a BatchNorm.
_DEPTH = 12


def _drops(source: Source, found: Operation) -> bool:
    p = found.made.argument(*_place(found.name))
    return found.name in _DROPOUT and source.value(p) != 0


def _place(name: str) -> tuple[int, str]:
    if name in KERAS_DROPOUT or name == "flax.linen.Dropout":
        return 0, "rate"
    return (1 if name in FUNCTIONAL else 0), "p"


def _is_dropout(source: Source, step: Step) -> bool:
    if step.built is None or step.name not in _DROPOUT:
        return False
    return bool(source.value(step.built.argument(*_place(step.name))) != 0)


@rule(
    "THN022",
    "dropout-before-batch-norm",
    severity="warning",
    sentence="Dropout stands before BatchNorm, directly or with layers between that do not "
    "normalise.",
    why="Dropout raises the variance in training and not in evaluation, also behind the next "
    "Linear or Conv, and BatchNorm keeps the variance of training: in evaluation it divides by one "
    "that is too large.",
    mend="Put dropout after BatchNorm, best after the last (Li et al., 2019, arXiv:1801.05134).",
    wrong="nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(8))",
    right="nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))",
)
def before_batch_norm(source: Source) -> Iterator[Hit]:
    told: set[ast.AST] = set()
    for node, between in [*_before_in_sequences(source), *_before_in_calls(source)]:
        if node not in told:
            told.add(node)
            yield node, _about_variance(between)


def _about_variance(between: list[str]) -> str:
    if not between:
        return "Dropout stands directly before BatchNorm, whose variance holds in training only."
    shown = ", ".join(name.rpartition(".")[2] for name in between)
    return f"Dropout reaches BatchNorm through {shown}: its variance there holds in training only."


def _before_in_sequences(source: Source) -> Iterator[tuple[ast.AST, list[str]]]:
    for _, steps in chains(source):
        for place, step in enumerate(steps):
            if step.name in BATCH_NORM:
                found, between = _last_dropped(source, steps[:place])
                if found is not None:
                    yield found.node, between


def _last_dropped(source: Source, steps: list[Step]) -> tuple[Step | None, list[str]]:
    """The dropout whose noise comes out of some layers, and what stands behind it; else None, and
    all of their names where all pass noise on."""
    between: list[str] = []
    for step in reversed(steps):
        if _is_dropout(source, step) and (not between or not _keeps_variance(step.name)):
            return step, between
        if not _carries(source, step):
            return None, []
        between.insert(0, step.name)
    return None, between


def _carries(source: Source, step: Step) -> bool:
    return step.name in CARRYING or step.name in _DROPOUT


def _keeps_variance(name: str) -> bool:
    """Whether a dropout keeps the variance of its input."""
    return "alpha" in name.rpartition(".")[2].lower()


def _before_in_calls(source: Source) -> Iterator[tuple[ast.AST, list[str]]]:
    for call in source.calls:
        found = operation(source, call)
        if found is None:
            continue
        after = _until_batch_norm(source, found)
        if after is not None:
            last, between = _noise_in(source, found.input, _DEPTH, set())
            if last is not None and (not (between or after) or not _keeps_variance(last.name)):
                yield last.node, [*between, *after]


def _until_batch_norm(source: Source, found: Operation) -> list[str] | None:
    """What the input of a call passes before BatchNorm; None where it meets none."""
    if found.name in BATCH_NORM:
        return []
    passed: list[str] = []
    for step in steps_of(source, found.built) if found.built is not None else ():
        if step.name in BATCH_NORM:
            return passed
        if not _carries(source, step) or _is_dropout(source, step):
            return None
        passed.append(step.name)
    return None


def _noise_in(
    source: Source, node: ast.expr | None, depth: int, seen: set[ast.AST]
) -> tuple[Operation | Step | None, list[str]]:
    """The last dropout whose noise is in a value, and what it passed since, as far as is seen.

    seen : expressions that were looked at: sums of sums meet the same one along many ways.
    """
    made = producer(source, node)
    if made is None or depth == 0 or made in seen:
        return None, []
    seen.add(made)
    if isinstance(made, ast.BinOp):
        return _noise_in_one(source, [made.left, made.right], depth, seen)
    if isinstance(made, (ast.List, ast.Tuple)):
        return _noise_in_one(source, made.elts, depth, seen)
    found = operation(source, made)
    if found is None:
        method = made.func if isinstance(made, ast.Call) else None
        if isinstance(method, ast.Attribute) and method.attr in CARRYING_METHODS:
            return _noise_in(source, method.value, depth - 1, seen)
        return None, []
    if found.name.startswith("torch.Tensor.") and found.name not in NORMALISING:
        if found.name.rpartition(".")[2] in CARRYING_METHODS:
            return _noise_in(source, found.input, depth - 1, seen)
        return None, []
    if _drops(source, found):
        return found, []
    if found.name in CARRYING or found.name in _DROPOUT:
        last, between = _noise_in_one(source, found.node.args[:2], depth, seen)
        return last, [*between, found.name]
    steps = steps_of(source, found.built) if found.built is not None else []
    inside, passed = _last_dropped(source, steps)
    if inside is not None or not passed:
        return inside, passed
    last, between = _noise_in(source, found.input, depth - 1, seen)
    return last, [*between, *passed]


def _noise_in_one(
    source: Source, nodes: list[ast.expr], depth: int, seen: set[ast.AST]
) -> tuple[Operation | Step | None, list[str]]:
    for node in nodes:
        found, between = _noise_in(source, node, depth - 1, seen)
        if found is not None:
            return found, between
    return None, []


@rule(
    "THN023",
    "dropout-on-logits",
    severity="warning",
    sentence="Dropout acts on the output layer: on logits, or on what a softmax or loss is given.",
    why="A dropped logit is 0, which is a probability like any other and often a large one; the "
    "loss then teaches the network to undo the noise.",
    mend="Put dropout before the last layer: self.fc(self.drop(x)).",
    wrong="return F.log_softmax(self.drop(self.fc(x)), dim=1)",
    right="return F.log_softmax(self.fc(self.drop(x)), dim=1)",
)
def on_logits(source: Source) -> Iterator[Hit]:
    sentence = "Dropout acts on the output: dropped logits are 0, which is no missing value."
    told: set[ast.AST] = set()
    for node in [*_in_sequences(source), *_in_calls(source), *_in_loops(source)]:
        if node not in told and not is_test_code(source, node):
            told.add(node)
            yield node, sentence


def _in_sequences(source: Source) -> Iterator[ast.AST]:
    for whole, steps in chains(source):
        for place, step in enumerate(steps):
            if place == 0 or not _is_dropout(source, step):
                continue
            last = steps[place - 1]
            after = steps[place + 1 :]
            if after:
                scores = (
                    after[0].name in NORMALISING
                    and last.name.startswith("torch.nn.")
                    and len(after) == 1
                )
            else:
                scores = last.built is not None and (
                    _has_classes(last.built)
                    or _ends_in_softmax(source, last.built)
                    or (last.name in _DENSE and _is_whole_model(source, whole))
                    or (last.name == "keras.layers.Dense" and _is_compiled(source, step.node))
                )
            if scores:
                yield step.node


def _is_whole_model(source: Source, built: ast.Call | None) -> bool:
    """Whether a sequence is the model itself, in a file that computes the loss of classes."""
    statement = source.parents.get(built) if built is not None else None
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    name = statement.targets[0].id if isinstance(statement.targets[0], ast.Name) else ""
    return _MODEL.match(name) is not None and any(source.calls_of(LOSSES))


def _is_compiled(source: Source, layer: ast.expr) -> bool:
    """Whether the model that a layer is added to is compiled right after: it is the last."""
    added, statement = source.parents[layer], source.statement_of(layer)
    if not isinstance(added, ast.Call) or statement is None:
        return False
    block, place = source.block_of(statement)
    after = block[place + 1] if place + 1 < len(block) else None
    made = after.value if isinstance(after, ast.Expr) else None
    func = made.func if isinstance(made, ast.Call) else None
    return (
        isinstance(func, ast.Attribute)
        and isinstance(added.func, ast.Attribute)
        and func.attr == "compile"
        and ast.dump(func.value) == ast.dump(added.func.value)
    )


def _has_classes(built: Called) -> bool:
    """Whether a linear layer has an output for each class, by the name of their number."""
    position = _DENSE.get(built.name or "")
    if position is None:
        return False
    outputs = built.argument(position, "out_features", "units", "features")
    name = _name_of(outputs)
    return name is not None and _CLASSES.match(name) is not None


def _ends_in_softmax(source: Source, built: Called) -> bool:
    """Whether a Keras layer has the activation softmax, and more than one output."""
    if built.name != "keras.layers.Dense" or source.value(built.argument(0, "units")) == 1:
        return False
    activation = built.argument(1, "activation")
    return bool(source.value(activation) == "softmax")


def _name_of(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _in_calls(source: Source) -> Iterator[ast.AST]:
    for call in source.calls:
        found = operation(source, call)
        if found is None:
            continue
        if found.name in NORMALISING or found.name in LOSSES:
            last = next(before(source, found.input), None)
            if (
                last is not None
                and _drops(source, last)
                and (_is_last(source, call, found.name) or _are_scores(source, last))
            ):
                yield last.node
        elif _drops(source, found):
            last = next(before(source, found.input), None)
            if (
                (last is not None and _is_output(source, call, last))
                or _is_named_logits(source, found)
                or (
                    last is not None
                    and last.built is not None
                    and _ends_in_softmax(source, last.built)
                    and _is_end(source, call)
                )
            ):
                yield call


def _in_loops(source: Source) -> Iterator[ast.AST]:
    """What a loop over layers drops last in every turn, and hands to a log_softmax or a loss."""
    for call in source.calls:
        found = operation(source, call)
        if found is None or not isinstance(found.input, ast.Name):
            continue
        if found.name not in LOSSES and not found.name.endswith(("log_softmax", "LogSoftmax")):
            continue
        statement, name = source.statement_of(call), found.input.id
        block, place = source.block_of(statement) if statement is not None else ([], 0)
        loop = block[place - 1] if place else None
        last = loop.body[-1] if isinstance(loop, ast.For) and not loop.orelse else None
        if isinstance(last, ast.Assign) and _name_of(last.targets[0]) == name:
            dropped = operation(source, last.value)
            if dropped is not None and _drops(source, dropped):
                yield last.value


def _is_last(source: Source, call: ast.Call, name: str) -> bool:
    """Whether a softmax is the model's output, and no attention or assignment inside it."""
    if name in LOSSES or "log_softmax" in name.lower() or name.endswith("LogSoftmax"):
        return True
    return _is_end(source, call)


def _are_scores(source: Source, dropped: Operation) -> bool:
    """Whether what is dropped before a softmax is a product of two tensors: attention's scores."""
    made = producer(source, dropped.input) or _before_masking(source, dropped.input)
    if isinstance(made, ast.BinOp) and isinstance(made.op, (ast.Div, ast.Mult)):
        made = producer(source, made.left)
    if isinstance(made, ast.BinOp):
        return isinstance(made.op, ast.MatMult)
    found = operation(source, made)
    return found is not None and found.name in (
        *("torch.matmul", "torch.bmm", "torch.baddbmm", "torch.Tensor.matmul"),
    )


def _before_masking(source: Source, node: ast.expr | None) -> ast.expr | None:
    """What gave a tensor, of which a branch before puts numbers in some places: masked_fill."""
    statement = source.statement_of(node) if isinstance(node, ast.Name) else None
    if statement is None or not isinstance(node, ast.Name):
        return None
    block, place = source.block_of(statement)
    for earlier in reversed(block[:place]):
        if isinstance(earlier, ast.If) and not earlier.orelse and len(earlier.body) == 1:
            filled = earlier.body[0]
            made = filled.value if isinstance(filled, ast.Assign) else None
            func = made.func if isinstance(made, ast.Call) else None
            if isinstance(func, ast.Attribute) and func.attr.startswith("masked_fill"):
                continue
        if isinstance(earlier, ast.Assign) and _name_of(earlier.targets[0]) == node.id:
            return earlier.value
        if any(isinstance(n, ast.Name) and n.id == node.id for n in walk(earlier)):
            return None
    return None


def _is_end(source: Source, call: ast.Call) -> bool:
    """Whether a value is what the model gives: returned, or under the name of an output."""
    statement = source.parents[call]
    if isinstance(statement, ast.Return):
        return True
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        name = _name_of(statement.targets[0]) or ""
        return _OUTPUTS.match(name) is not None or _is_output_of_keras(source, statement, name)
    return False


def _is_output_of_keras(source: Source, statement: ast.stmt, name: str) -> bool:
    """Whether what reads a name next is Model(inputs, name)."""
    block, place = source.block_of(statement)
    for later in block[place + 1 : place + 4]:
        for node in walk(later):
            if isinstance(node, ast.Name) and node.id == name:
                above = source.parents[node]
                return isinstance(above, ast.Call) and source.called(above).name == "keras.Model"
    return False


def _is_output(source: Source, call: ast.Call, found: Operation) -> bool:
    if found.name in ("torch.nn.LogSoftmax", "torch.nn.functional.log_softmax"):
        return True
    if found.built is not None and found.name in _DENSE:
        is_head = found.attribute is not None and _HEAD.match(found.attribute) is not None
        return _has_classes(found.built) or (is_head and not _goes_on(source, call))
    return False


def _is_named_logits(source: Source, found: Operation) -> bool:
    name = _name_of(found.input)
    if name is None or not _LOGITS.match(name):
        return False
    return not _goes_on(source, found.node)


def _goes_on(source: Source, call: ast.Call) -> bool:
    """Whether the result is no output: only its name says logits.

    It is an output where it is returned, or where a softmax or a loss is what reads it first.
    """
    statement = source.parents[call]
    if isinstance(statement, ast.Return):
        return False
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return True
    target = _name_of(statement.targets[0])
    block, place = source.block_of(statement)
    for later in block[place + 1 : place + 12]:
        reads = [n for n in walk(later) if isinstance(n, ast.Name) and n.id == target]
        if not reads:
            continue
        if isinstance(later, ast.Return):
            return any(_is_argument(source, n) for n in reads)
        above = source.parents[reads[0]]
        name = source.called(above).name if isinstance(above, ast.Call) else None
        return name not in NORMALISING and name not in LOSSES and not isinstance(later, ast.If)
    return True


def _is_argument(source: Source, node: ast.AST) -> bool:
    """Whether a value is handed to something that is no softmax, loss or bundle of outputs."""
    above = source.parents[node]
    if isinstance(above, ast.Call) and node in above.args:
        name = source.called(above).name
        return name not in NORMALISING and name not in LOSSES
    return isinstance(above, ast.BinOp)
