"""Dropout in Keras and TensorFlow: a fixed mode or seed, keep_prob, functions."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from thinned.audit.binding import bind
from thinned.audit.contents import drops_inside
from thinned.audit.context import (
    is_evaluation,
    is_guarded,
    is_model_class,
    is_monte_carlo,
    is_test_code,
)
from thinned.audit.drops import is_chosen
from thinned.audit.flow import operation
from thinned.audit.layers import KERAS_DROPOUT
from thinned.audit.modes import Says, guard, says
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.rules.rates import is_version_1, is_version_2, keep_word
from thinned.audit.rules.torch_calls import unguarded as without_mode
from thinned.audit.source import Called, Source
from thinned.audit.values import NOTHING, Built, Class, Function
from thinned.audit.words import mode_by_name

__all__ = ["always_training", "integer_seed", "keep_prob", "never_drops"]
__all__ += ["tape_without_training", "unguarded"]

_FUNCTIONS = {"tensorflow.nn.dropout": 1, "keras.random.dropout": 1}
_V1 = "tensorflow.compat.v1.nn.dropout"
# Models of Keras that drop inside, whether their top is taken or not.
_DEEP = ("keras.applications.EfficientNet", "keras.applications.ConvNeXt")
_WRAPPER = "tensorflow.rnn_cell.DropoutWrapper"


@rule(
    "THN080",
    "keras-dropout-always-training",
    sentence="A Keras dropout layer is called with a constant training=True.",
    why="The layer drops in predict() and evaluate() too, and a saved model drops for ever.",
    mend="Leave training out: Keras passes it on. Where draws are meant, say so in the function's "
    "name: mc_..., sample_...",
    wrong="x = layers.Dropout(0.5)(x, training=True)",
    right="x = layers.Dropout(0.5)(x)",
)
def always_training(source: Source) -> Iterator[Hit]:
    for call in source.calls:
        found = operation(source, call)
        if found is None or found.built is None:
            continue
        if found.name not in KERAS_DROPOUT and not found.name.startswith(_DEEP):
            continue
        if is_test_code(source, call) or is_monte_carlo(source, call) or is_guarded(source, call):
            continue
        if _under_tape(source, call):
            continue
        mode = next((k.value for k in call.keywords if k.arg == "training"), None)
        if mode is None and len(call.args) > 1:
            mode = call.args[1]
        if mode is not None and source.value(mode) is True:
            kind = found.name.rpartition(".")[2]
            yield call, f"{kind} is called with training=True: it drops in predict() too."


def _under_tape(source: Source, call: ast.Call) -> bool:
    """Whether a call runs only where a gradient is taken: that is training."""
    return any(
        isinstance(at, ast.With)
        and any(
            isinstance(item.context_expr, ast.Call)
            and source.called(item.context_expr).name == "tensorflow.GradientTape"
            for item in at.items
        )
        for at in source.above(call)
    )


@rule(
    "THN081",
    "keras-dropout-integer-seed",
    severity="note",
    sentence="A Keras dropout layer has an integer seed.",
    why="Layers with the same integer draw the same masks, and so does every model that is built "
    "again: each fold and each member of an ensemble.",
    mend="Leave seed out and call keras.utils.set_random_seed once, or pass one "
    "keras.random.SeedGenerator to all layers.",
    wrong="layers.Dropout(0.5, seed=42)",
    right="layers.Dropout(0.5)",
)
def integer_seed(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(KERAS_DROPOUT):
        value = source.value(called.keywords.get("seed"))
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if not is_test_code(source, called.node):
            kind = (called.name or "").rpartition(".")[2]
            yield (
                called.node,
                f"{kind} has the integer seed {value}: others of that seed repeat it.",
            )


@rule(
    "THN082",
    "tensorflow-keep-prob",
    sentence="tf.nn.dropout is given a probability to keep.",
    why="Since TensorFlow 2 the second argument is rate, the probability to drop; in version 1 it "
    "was keep_prob. The same line drops what it kept before.",
    mend="Pass rate=1 - keep_prob.",
    wrong="x = tf.nn.dropout(x, keep_prob=0.8)",
    right="x = tf.nn.dropout(x, rate=0.2 if training else 0.0)",
)
def keep_prob(source: Source) -> Iterator[Hit]:
    if is_version_1(source):
        return
    for called in source.calls_of((*_FUNCTIONS, _V1)):
        if is_test_code(source, called.node) or called.open:
            continue
        if "keep_prob" in called.keywords and called.name != _V1:
            if not is_version_2(source):
                continue  # of version 1, where it was right: a later one refuses it
            yield called.node, "tf.nn.dropout has no keep_prob any more: it takes rate, to drop."
            continue
        rate = called.argument(1, "rate")
        if called.name == "tensorflow.nn.dropout" and rate is not None and keep_word(rate):
            yield called.node, f"tf.nn.dropout takes rate, and is given {keep_word(rate)}."
        if called.name == _V1 and len(called.args) > 1 and "rate" in called.keywords:
            yield called.node, "tf.nn.dropout is given both keep_prob and rate."


@rule(
    "THN083",
    "tensorflow-dropout-not-guarded",
    sentence="tf.nn.dropout or keras.random.dropout is called in every mode.",
    why="The function knows no mode: it drops in predict() and evaluate() too.",
    mend="Use a Dropout layer, or call it only if training.",
    wrong="x = tf.nn.dropout(x, rate=0.5)",
    right="x = tf.nn.dropout(x, rate=0.5 if training else 0.0)",
)
def unguarded(source: Source) -> Iterator[Hit]:
    first = is_version_1(source)
    if not first:
        for node, sentence in without_mode(source, "THN083"):
            if not (isinstance(node, ast.Call) and _is_keep(source, node)):
                yield node, sentence
    functions = ("tensorflow.nn.dropout", _V1) if first else ()
    for called in source.calls_of((*functions, _WRAPPER)):
        keep = _constant_keep(source, called)
        if keep is None or is_test_code(source, called.node) or is_monte_carlo(source, called.node):
            continue
        if guard(source, called.node) is Says.NOTHING and not is_chosen(source, called.node):
            yield called.node, f"The probability to keep is {keep:g} in every mode of this graph."


def _is_keep(source: Source, node: ast.Call) -> bool:
    """Whether a call is given a probability to keep: THN082 tells."""
    rate = source.called(node).argument(1, "rate")
    return rate is not None and keep_word(rate) is not None


def _constant_keep(source: Source, called: Called) -> float | None:
    """The number that a graph of version 1 keeps at, where it is written there and below 1."""
    names: tuple[str, ...] = ("input_keep_prob", "output_keep_prob", "state_keep_prob")
    if called.name != _WRAPPER:
        names = ("keep_prob",)
    given = [called.argument(at, name) for at, name in enumerate(names, start=1)]
    for node in given:
        keep = source.value(node) if node is not None else None
        if isinstance(keep, float) and 0 < keep < 1:
            return keep
    return None


@rule(
    "THN084",
    "gradient-tape-without-training",
    sentence="A step that trains calls the model without training=True.",
    why="Outside fit() a Keras model is called in inference mode unless told otherwise: its "
    "dropout is off and its BatchNorm frozen while it trains.",
    mend="Pass training=True.",
    wrong="with tf.GradientTape() as tape: loss = loss_fn(y, model(x))",
    right="with tf.GradientTape() as tape: loss = loss_fn(y, model(x, training=True))",
)
def tape_without_training(source: Source) -> Iterator[Hit]:
    if "apply_gradients" not in source.attributes and "apply" not in source.attributes:
        return
    everything: dict[ast.AST | None, set[str]] = defaultdict(set)
    for word in ("trainable_variables", "trainable_weights"):
        for attribute in source.attributes.get(word, ()):
            everything[_outermost(source, attribute)].add(ast.dump(attribute.value))
    told: set[ast.AST] = set()
    for statement in source.withs:
        if not any(
            isinstance(item.context_expr, ast.Call)
            and source.called(item.context_expr).name == "tensorflow.GradientTape"
            for item in statement.items
        ):
            continue
        trained = everything[_outermost(source, statement)]
        for node in (n for s in statement.body for n in walk(s)):
            if not isinstance(node, ast.Call) or is_test_code(source, node):
                continue
            for call in _model_calls(source, node, trained):
                if call not in told and (
                    _changes_in_training(source) or _others_train(source, call)
                ):
                    told.add(call)
                    yield call, "The model is called without training=True, and trained on that."


def _outermost(source: Source, node: ast.AST) -> ast.AST | None:
    """The class or the outermost function around a node: a name is one model in it."""
    info = source.class_of(node)
    functions = source.functions_of(node)
    return info.node if info is not None else functions[-1] if functions else None


def _model_calls(source: Source, call: ast.Call, trained: set[str]) -> Iterator[ast.Call]:
    """The calls of a trained model that a call inside the tape is, or makes, without a mode."""
    if ast.dump(call.func) in trained and _says_no_mode(source, call):
        yield call
    called = source.called(call)
    if isinstance(called.target, Function) and called.target.source is source:
        frame = bind(called.target.node, called, called.target.skip, None)
        if frame is None:
            return
        names = {name for name, given in frame.given.items() if ast.dump(given) in trained}
        for node in walk(called.target.node):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in names
                and _says_no_mode(source, node)
            ):
                yield node


def _says_no_mode(source: Source, call: ast.Call) -> bool:
    if not call.args or any(k.arg is None or mode_by_name(k.arg) for k in call.keywords):
        return False
    more = call.args[1:]
    if any(isinstance(a, ast.Starred) or says(source, a) is not Says.NOTHING for a in call.args):
        return False
    built = source.interpreter.of(call.func) if more else NOTHING
    if not more or not isinstance(built, Built) or not isinstance(built.kind, Class):
        return not more
    method = next(
        (m.methods["call"] for m in built.kind.info.family() if "call" in m.methods), None
    )
    if method is None or not drops_inside(source, built):
        return False
    taken = [a.arg for a in (*method.args.posonlyargs, *method.args.args)][1 : 1 + len(call.args)]
    return len(taken) == len(call.args) and not any(mode_by_name(name) for name in taken)


def _others_train(source: Source, call: ast.Call) -> bool:
    """Whether the function tells another model that it trains: whoever wrote it knows that a call
    has to be told."""
    function = source.function_of(call)
    return function is not None and any(
        isinstance(n, ast.Call)
        and ast.dump(n.func) != ast.dump(call.func)
        and n.args
        and any(k.arg == "training" and source.value(k.value) is True for k in n.keywords)
        for n in walk(function)
    )


def _changes_in_training(source: Source) -> bool:
    """Whether the file speaks of a layer that is not the same in training and evaluation."""
    words = {*source.attributes, *source.loads}
    return any("dropout" in word.lower() or word == "BatchNormalization" for word in words)


@rule(
    "THN085",
    "keras-dropout-never-drops",
    sentence="A Keras dropout layer is called with a constant training=False.",
    why="The layer never drops: the model trains without it.",
    mend="Pass the argument of call() on, training=training, or leave it out.",
    wrong="x = self.dropout(x, training=False)",
    right="x = self.dropout(x, training=training)",
)
def never_drops(source: Source) -> Iterator[Hit]:
    yield from _blocks_never_told(source)
    yield from _modules_never_told(source)
    for call in source.calls:
        found = operation(source, call)
        if found is None or found.built is None or found.name not in KERAS_DROPOUT:
            continue
        function = source.function_of(call)
        if function is None or is_evaluation(function.name) or is_test_code(source, call):
            continue
        mode = next((k.value for k in call.keywords if k.arg == "training"), None)
        if mode is None and len(call.args) > 1:
            mode = call.args[1]
        if mode is None or source.value(mode) is not False:
            continue
        if guard(source, call) not in (Says.EVALUATION, Says.MAYBE):
            kind = found.name.rpartition(".")[2]
            yield call, f"{kind} is called with training=False: it never drops."


def _modules_never_told(source: Source) -> Iterator[Hit]:
    """Keras's dropout in a module of TensorFlow's own, which hands no mode on, and whose call is
    told one and never reads it."""
    for info in source.classes.values():
        method = info.methods.get("__call__")
        if method is None or "tensorflow.Module" not in info.bases:
            continue
        told = {a.arg for a in (*method.args.args, *method.args.kwonlyargs)}
        reads = (source.function_of(use) for use in source.loads.get("training", ()))
        if "training" not in told or method in reads or is_test_code(source, method):
            continue
        for node in walk(method):
            found = operation(source, node)
            if found is None or found.built is None or found.name not in KERAS_DROPOUT:
                continue
            if len(found.node.args) == 1 and not found.node.keywords:
                yield found.node, "training is not handed on: here this dropout never drops."


def _blocks_never_told(source: Source) -> Iterator[Hit]:
    """Layers that drop and always get training=False, in a call() that takes `training` and never
    reads it."""
    for call in source.calls:
        mode = next((k.value for k in call.keywords if k.arg == "training"), None)
        function = source.function_of(call) if mode is not None else None
        if function is None or function.name != "call" or source.value(mode) is not False:
            continue
        told = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}
        reads = (source.function_of(use) for use in source.loads.get("training", ()))
        if "training" not in told or function in reads or is_test_code(source, call):
            continue
        if not is_model_class(source, source.class_of(call)):
            continue
        target = source.called(call).target
        known = isinstance(target, Built) and isinstance(target.kind, Class)
        if known and drops_inside(source, target):
            yield call, "This layer always gets training=False: its dropout never drops."
