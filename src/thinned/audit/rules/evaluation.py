"""Evaluation in the wrong mode, and the mode set for the wrong reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.binding import bind
from thinned.audit.contents import drops_inside
from thinned.audit.context import is_evaluation, is_module, is_monte_carlo, is_test_code
from thinned.audit.model_calls import (
    forward_calls,
    inside,
    is_of_modules,
    is_quiet,
    is_repeated,
    key_of,
    learns,
    method_calls,
    owner_of,
    sets_training,
    without_gradient,
)
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Function, Source, is_self
from thinned.audit.values import Built, Class, Function as Defined

__all__ = ["evaluated_in_training_mode", "monte_carlo_by_train"]

_MODEL = re.compile(
    r"(?i)^(?:\w+_)?(?:model|net|network|classifier|encoder|decoder|module|cnn|rnn|lstm|mlp|gnn|vit"
    r"|resnet|transformer|backbone|student)\d*$"
)
_LOADER = re.compile(r"(?i)load|batch|data|iter|_dl$|^dl$|set$|graphs?$")


@rule(
    "THN040",
    "train-for-monte-carlo-dropout",
    severity="warning",
    sentence="model.train() is used to get Monte-Carlo dropout.",
    why="train() also makes BatchNorm use and update the statistics of each batch: the predictions "
    "depend on what else is in the batch, and the model is changed by predicting.",
    mend="Call eval(), then train() on the dropout modules only; or use thinned's members.",
    wrong="model.train(); ys = [model(x) for _ in range(50)]  # in mc_predict",
    right="model.eval(); [m.train() for m in model.modules() if isinstance(m, nn.Dropout)]",
)
def monte_carlo_by_train(source: Source) -> Iterator[Hit]:
    for function in _calling(source, "train"):
        if learns(function) or not _samples(source, function) or is_test_code(source, function):
            continue
        for call in method_calls(function, "train"):
            of = owner_of(call)
            if of is None or not sets_training(source, call) or is_of_modules(source, call):
                continue
            if "drop" in of.rpartition(".")[2].lower():
                continue  # dropout alone, as it should be
            later = [c for c in forward_calls(function, of) if c.lineno > call.lineno]
            repeated = any(is_repeated(source, c) for c in later)
            if repeated and not _batch_norm_seen_to(function):
                yield (
                    call,
                    f"{of}.train() turns BatchNorm to training as well as dropout.",
                )


def _calling(source: Source, method: str) -> list[Function]:
    """The functions that call a method of this name, in the order of the file."""
    holders = {source.function_of(use) for use in source.attributes.get(method, ())}
    return [function for function in source.functions if function in holders]


def _samples(source: Source, function: Function) -> bool:
    """Whether it is named for Monte Carlo, or evaluates without gradients."""
    if is_monte_carlo(source, function):
        return True
    return is_evaluation(function.name) and without_gradient(source, function)


def _batch_norm_seen_to(function: Function) -> bool:
    for node in inside(function):
        word = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        if isinstance(word, str) and re.search(r"(?i)batch_?norm|(?:^|_)bn(?:_|$)|freeze", word):
            return True
    return False


@rule(
    "THN041",
    "evaluation-without-eval",
    severity="warning",
    sentence="A function evaluates a model, and nothing in the file ever calls eval().",
    why="torch.no_grad() stops gradients and not dropout: the figures are those of a model with "
    "units missing.",
    mend="Call model.eval() before, and model.train() when training goes on.",
    wrong="with torch.no_grad(): y = model(x)  # and model.eval() nowhere",
    right="model.eval()  # then: with torch.no_grad(): y = model(x)",
)
def evaluated_in_training_mode(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(("equinox.nn.inference_mode", "equinox.tree_inference")):
        if isinstance(source.parents[called.node], ast.Expr):
            yield called.node, "This gives another model and leaves its argument as it is."
    for name in ("eval", "train"):
        for attribute in source.attributes.get(name, ()):
            if isinstance(source.parents[attribute], ast.Expr):
                yield attribute, f"{name} is named here and not called: the mode stays as it is."
    # A file that trains is the place where the mode is set; of any other, nothing is known.
    calls = [a for a in source.attributes.get("eval", ()) if _is_called(source, a)]
    if calls or "set_attributes" in source.attributes:
        return
    told: set[ast.AST] = set()
    for node, sentence in _without_eval(source):
        inside = source.function_of(node) or source.tree
        if inside not in told:  # one of several ways to see the same
            told.add(inside)
            yield node, sentence


def _is_called(source: Source, attribute: ast.Attribute) -> bool:
    return not isinstance(source.parents[attribute], ast.Expr)


def _without_eval(source: Source) -> Iterator[Hit]:
    """What is evaluated in a file that has no eval()."""
    if "backward" not in source.attributes:
        yield from _nnx_without_eval(source)
        yield from _loaded_without_eval(source)
        yield from _built_without_eval(source)
        return
    if _sets_mode_elsewise(source):
        return
    for function in source.functions:
        if not is_evaluation(function.name) or is_test_code(source, function):
            continue
        if learns(function) or not without_gradient(source, function):
            continue
        if method_calls(function, "train"):
            continue  # THN046 tells
        for node in inside(function):
            if not isinstance(node, ast.Call) or not source.loops_of(node):
                continue
            ran = _model_of(source, node)
            key = key_of(ran) if ran is not None else None
            if key is None or ran is None:
                continue
            if not any(_is_over_data(loop) for loop in source.loops_of(node)):
                continue
            if _is_without_modes(source, ran):
                continue
            yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
            break
    yield from _script_without_eval(source)
    yield from _built_without_eval(source)


def _model_of(source: Source, call: ast.Call) -> ast.expr | None:
    """The model that a call runs: itself, or in the method of self that is called."""
    if _MODEL.match((key_of(call.func) or "").rpartition(".")[2]):
        return call.func
    if not isinstance(call.func, ast.Attribute) or not is_self(call.func.value):
        return None
    target = source.called(call).target
    for node in walk(target.node) if isinstance(target, Defined) else ():
        if not isinstance(node, ast.Call) or not is_self(getattr(node.func, "value", node)):
            continue
        if _MODEL.match((key_of(node.func) or "").rpartition(".")[2]):
            return node.func
    return None


def _is_without_modes(source: Source, model: ast.expr) -> bool:
    """Whether a model's class is seen, and neither its file nor this one speaks of a layer that
    asks for the mode."""
    built = source.interpreter.of(model)
    if not isinstance(built, Built) or not isinstance(built.kind, Class):
        return False
    files = {source, *(member.source for member in built.kind.info.family())}
    words = (word.lower() for file in files for word in (*file.attributes, *file.loads))
    return not any("drop" in word or "norm" in word for word in words)


def _nnx_without_eval(source: Source) -> Iterator[Hit]:
    """An nnx model, whose dropout eval() turns off, evaluated in a file that has no eval()."""
    if not any(source.calls_of(("flax.nnx.Dropout",))) or any(source.calls_of(("flax.nnx.view",))):
        return
    for function in source.functions:
        if not is_evaluation(function.name) or is_test_code(source, function):
            continue
        for node in inside(function):
            key = _run(source, node) if isinstance(node, ast.Call) else None
            if key is not None:
                yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
                break


def _run(source: Source, call: ast.Call) -> str | None:
    """The model that a call runs, or that a function of the file runs which is given it."""
    key = key_of(call.func)
    if key is not None and _MODEL.match(key.rpartition(".")[2]):
        return key
    called = source.called(call)
    if not isinstance(called.target, Defined):
        return None
    frame = bind(called.target.node, called, called.target.skip, None)
    if frame is None:
        return None
    for name, given in frame.given.items():
        key = key_of(given)
        runs = (isinstance(n, ast.Call) and key_of(n.func) == name for n in walk(frame.function))
        if key is not None and _MODEL.match(key.rpartition(".")[2]) and any(runs):
            return key
    return None


def _loaded_without_eval(source: Source) -> Iterator[Hit]:
    """A model that drops, built and loaded in this file, which is run without gradients."""
    loaded = {key_of(a.value) for a in source.attributes.get("load_state_dict", ())} - {None}
    if not loaded or "train" in source.attributes or _sets_mode_elsewise(source):
        return
    quiet: list[ast.AST] = [n for n in source.withs if is_quiet(source, n)]
    quiet += [f for f in source.functions if without_gradient(source, f)]
    handed = {key_of(arg) for call in source.calls for arg in call.args}
    for node in {n: None for at in quiet for n in walk(at)}:
        if not isinstance(node, ast.Call) or (key := key_of(node.func)) not in loaded - handed:
            continue
        if drops_inside(source, source.interpreter.of(node.func)) and not (
            is_test_code(source, node) or is_monte_carlo(source, node)
        ):
            yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
            break


def _built_without_eval(source: Source) -> Iterator[Hit]:
    """A model that drops for sure, built in this file, which is run without gradients."""
    if _sets_mode_elsewise(source):
        return
    quiet: list[ast.AST] = [n for n in source.withs if is_quiet(source, n)]
    quiet += [f for f in source.functions if without_gradient(source, f)]
    trains = "backward" in source.attributes
    for node in {n: None for at in quiet for n in walk(at)}:
        if not isinstance(node, ast.Call) or (key := key_of(node.func)) is None:
            continue
        function, info = source.function_of(node), source.class_of(node)
        given = source.given(node.func) if isinstance(node.func, ast.Name) else None
        of_self = (key_of(given) or key if given is not None else key).split(".")[0] == "self"
        if of_self and (not trains or is_module(source, info)):
            continue  # the mode is set where the object is held
        if any("backward" in _words(loop) for loop in source.loops_of(node)):
            continue  # a step of training may draw targets with dropout
        if function is not None and of_self and learns(function):
            continue
        if not drops_inside(source, source.interpreter.of(node.func)):
            continue
        if is_test_code(source, node) or is_monte_carlo(source, node):
            continue
        if not _is_handed_away(source, key):
            yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."


def _words(node: ast.AST) -> set[str]:
    return {n.attr for n in walk(node) if isinstance(n, ast.Attribute)}


def _is_handed_away(source: Source, key: str) -> bool:
    """Whether a model is given to a function that is not seen, which may set its mode."""
    return any(
        key_of(arg) == key
        for call in source.calls
        for arg in (*call.args, *(k.value for k in call.keywords))
        if not isinstance(source.called(call).target, (Defined, Class))
        and not (source.called(call).name or "").startswith(("torch.", "copy."))
    )


def _script_without_eval(source: Source) -> Iterator[Hit]:
    """The same at the top level of a script, or in one function that trains and evaluates."""
    if not any("drop" in word.lower() for word in (*source.attributes, *source.loads)):
        return
    trained = {key_of(a.value) for a in source.attributes.get("parameters", ())}
    for statement in (n for n in source.withs if is_quiet(source, n)):
        function = source.function_of(statement)
        if function is not None and (is_evaluation(function.name) or not learns(function)):
            continue
        for node in walk(statement):
            if not isinstance(node, ast.Call) or key_of(node.func) not in trained:
                continue
            looped = any(_is_over_data(loop) for loop in source.loops_of(node))
            if looped and not is_test_code(source, node):
                key = key_of(node.func)
                yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
                break


def _is_over_data(loop: ast.For | ast.AsyncFor | ast.While) -> bool:
    if isinstance(loop, ast.While):
        return False
    for node in walk(loop.iter):
        word = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        if isinstance(word, str) and _LOADER.search(word):
            return True
    return False


def _sets_mode_elsewise(source: Source) -> bool:
    """train(False), train(mode), set_mode(...), or a name imported that may do it."""
    for call in source.calls:
        is_train = isinstance(call.func, ast.Attribute) and call.func.attr == "train"
        if is_train and not sets_training(source, call):
            return True
    words = [*source.attributes, *source.loads]
    return any(re.search(r"(?i)eval(?:uation)?_mode|set_mode|set_eval|set_train", w) for w in words)
