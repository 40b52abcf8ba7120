"""The mode of one phase taken into the other: training after eval(), evaluation after train()."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.contents import drops_inside
from thinned.audit.context import is_evaluation, is_module, is_monte_carlo, is_test_code
from thinned.audit.layers import DROPOUT_LAYERS
from thinned.audit.model_calls import (
    forward_calls,
    freezes,
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
from thinned.audit.modes import Says, guard
from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.order import Order, walked
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source
from thinned.audit.trained import learners
from thinned.audit.values import Built, Class, Named
from thinned.audit.words import words_of

__all__ = ["left_in_evaluation", "other_phase"]

# Classes of Lightning that have hooks, and the hooks after which the epoch goes on.
_HOOKED = (".Callback", ".LightningModule")
_WITHIN_EPOCH = re.compile(
    r"^on_(?:train_batch_(?:start|end)|(?:before|after)_(?:backward|zero_grad))$"
)
_LEARN = frozenset({"backward", "manual_backward"})


@rule(
    "THN042",
    "training-mode-not-restored",
    sentence="A training loop evaluates with eval() and never returns to train().",
    why="After the first evaluation dropout is off: the rest of the training runs without it.",
    mend="Call model.train() at the start of each epoch.",
    wrong="model.train()\nfor epoch in range(9): step(model); model.eval(); validate(model)",
    right="for epoch in range(9): model.train(); step(model); model.eval(); validate(model)",
)
def left_in_evaluation(source: Source) -> Iterator[Hit]:
    told: set[ast.AST] = set()
    yield from _hooks_of_lightning(source)
    yield from _helpers_of_steps(source)
    yield from _losses_of_trainers(source)
    for left in _order(source).inside:
        if left.node not in told and not is_test_code(source, left.node):
            told.add(left.node)
            what = "eval() is called" if left.direct else "A model is left in evaluation by a call"
            yield left.node, f"{what} in the loop that trains, and train() is not called after it."


def _hooks_of_lightning(source: Source) -> Iterator[Hit]:
    """A hook within the epoch that puts the module to evaluation, and not back."""
    for info in source.classes.values():
        bases = [base or "" for member in info.family() for base in member.bases]
        if not any(b.startswith("lightning.") and b.endswith(_HOOKED) for b in bases):
            continue
        for name, method in info.methods.items():
            if not _WITHIN_EPOCH.match(name) or freezes(method):
                continue
            back = [owner_of(call) for call in method_calls(method, "train")]
            for call in method_calls(method, "eval"):
                whole = owner_of(call) in (
                    "self",
                    "pl_module",
                    "trainer.model",
                    "trainer.lightning_module",
                )
                if whole and owner_of(call) not in back and not call.args:
                    yield call, "eval() is called within the epoch, and train() is not after it."


@once
def _order(source: Source) -> Order:
    """What all functions of a file that learn in a loop say, in one."""
    found = Order()
    files = (source, *(source.met if source.all_called else ()))
    if not any(_learns(file) for file in files):
        return found
    looping = {source.function_of(loop) for loop in source.loops}
    functions: list[ast.AST] = [source.tree, *source.functions]
    for function in functions:
        if _or_none(function) in looping or _is_step(function):
            walk = walked(source, function)
            found.inside += walk.inside
            found.before += walk.before
    return found


def _learns(source: Source) -> bool:
    """Whether a file takes gradient steps."""
    attributes = source.attributes
    return any(word in attributes for word in _LEARN) or (
        source.uses_nnx and "update" in attributes
    )


def _is_step(function: ast.AST) -> bool:
    """Whether a function is one step of training, whose loop is elsewhere."""
    words = set(words_of(getattr(function, "name", "")))
    is_named = bool({"train", "training"} & words) and bool({"step", "batch", "iteration"} & words)
    return is_named and any(
        isinstance(n, ast.Attribute)
        and n.attr == "step"
        and "opt" in (key_of(n.value) or "").lower()
        for n in walk(function)
    )


def _or_none(node: ast.AST) -> ast.AST | None:
    return None if isinstance(node, ast.Module) else node


@rule(
    "THN046",
    "mode-of-the-other-phase",
    sentence="A model is trained after eval(), or evaluated after train().",
    why="In the first case the model is trained without dropout, in the second its figures are "
    "those of a model with units missing.",
    mend="Call model.train() before training and model.eval() before evaluating.",
    wrong="def validate(model, data): model.train(); ...",
    right="def validate(model, data): model.eval(); ...",
)
def other_phase(source: Source) -> Iterator[Hit]:
    told: set[ast.AST] = set()
    for left in _order(source).before:
        function = source.function_of(left.node)
        if left.node in told or is_test_code(source, left.node):
            continue
        loaded = "from_pretrained" in ast.unparse(left.node)
        if function is None or loaded:  # a script: its optimizer has the model
            trains = any(left.key in keys for keys in learners(source).values())
        else:
            words = words_of(function.name)
            trains = not {"train", "fit", "training", "finetune"}.isdisjoint(words)
        if trains and not freezes(source.tree if function is None else function):
            told.add(left.node)
            what = "The model is loaded in evaluation" if loaded else "eval() is called"
            yield left.node, f"{what} here, and the model is trained after it."
    yield from _lightning_steps(source)
    yield from _set_in_forward(source)
    yield from _trained_quietly(source)
    for function in source.functions if "train" in source.attributes else ():
        if not is_evaluation(function.name) or is_monte_carlo(source, function):
            continue
        if learns(function) or not without_gradient(source, function):
            continue
        if is_test_code(source, function) or method_calls(function, "eval"):
            continue
        for call in method_calls(function, "train"):
            of = owner_of(call)
            if of is None or not sets_training(source, call) or is_of_modules(source, call):
                continue
            if "drop" in of.rpartition(".")[2].lower():
                continue  # dropout alone, as it should be
            later = [c for c in forward_calls(function, of) if c.lineno > call.lineno]
            if later and not any(is_repeated(source, c) for c in later):
                yield call, f"{function.name} evaluates {of}, and puts it to training first."
                break


def _set_in_forward(source: Source) -> Iterator[Hit]:
    """A forward method that sets the mode of its own module, or calls train() on its dropout."""
    sets = "train" in source.attributes or "eval" in source.attributes
    for info in source.classes.values() if sets else ():
        forward = info.methods.get("forward")
        if forward is None or not is_module(source, info) or is_monte_carlo(source, forward):
            continue
        calls = method_calls(forward, "train", "eval")
        whole = [call for call in calls if owner_of(call) == "self"]
        for call in calls:
            if not isinstance(source.parents[call], ast.Expr) or is_test_code(source, call):
                continue
            method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if method == "train" and not sets_training(source, call):
                continue
            follows = Says.TRAINING if method == "train" else Says.EVALUATION
            if guard(source, call, around=False) is follows:
                continue
            if whole == [call] and drops_inside(source, Built(Class(info), None)):
                yield call, f"The forward pass calls self.{method}(), and nothing sets it back."
            elif method == "train" and call not in whole and _is_dropout(source, call):
                yield call, f"{owner_of(call)} is put to training in every mode."


def _is_dropout(source: Source, call: ast.Call) -> bool:
    func = call.func
    made = source.interpreter.of(func.value) if isinstance(func, ast.Attribute) else None
    function = source.function_of(call)
    return (
        function is not None
        and isinstance(made, Built)
        and isinstance(made.kind, Named)
        and made.kind.name in DROPOUT_LAYERS
        and not method_calls(function, "eval")
    )


def _trained_quietly(source: Source) -> Iterator[Hit]:
    """A model that is put to training, and only ever run without gradients after it."""
    if "train" not in source.attributes or "torch" not in source.names.tops:
        return
    words = {w for name in (*source.attributes, *source.loads) for w in words_of(name)}
    if words & _NOISY:
        return
    holders = {source.function_of(use) for use in source.attributes["train"]}
    for function in source.functions:
        if function not in holders or is_evaluation(function.name):
            continue
        if is_monte_carlo(source, function) or is_test_code(source, function):
            continue
        if _statistics(function):
            continue
        for call in method_calls(function, "train"):
            of = owner_of(call)
            statement = source.parents[call]
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                of = statement.targets[0].id
            if of is None or not sets_training(source, call) or is_of_modules(source, call):
                continue
            if "drop" in of.rpartition(".")[2].lower() or of in ("self", "super"):
                continue
            uses = [n for n in walk(function) if key_of(n) == of]
            if any(getattr(source.parents[n], "attr", "") in _TRAINED for n in uses):
                continue
            later = [c for c in forward_calls(function, of) if c.lineno > call.lineno]
            if not later or any(is_repeated(source, c) for c in later):
                continue
            # What is handed on may learn there.
            calls = [source.parents[n] for n in uses]
            if any(isinstance(c, ast.Call) and c.func not in uses for c in calls):
                continue
            if all(_is_under_no_grad(source, c) for c in later):
                yield call, f"{of} is put to training, and then only run without gradients."


_NOISY = frozenset({"ema", "momentum", "noisy", "swa", "bn", "batchnorm", "moco", "byol", "dino"})
_TRAINED = frozenset({"parameters", "named_parameters", "eval", "step", "backward", "optimizer"})


def _statistics(function: ast.AST) -> bool:
    """Whether a function runs a model for the statistics that its layers keep."""
    words = set(words_of(getattr(function, "name", "")))
    return bool(words & {"bn", "calibrate", "calibration", "statistics", "stats", "norm", "warmup"})


def _is_under_no_grad(source: Source, node: ast.AST) -> bool:
    return any(isinstance(at, ast.With) and is_quiet(source, at) for at in source.above(node))


def _lightning_steps(source: Source) -> Iterator[Hit]:
    """A step of a LightningModule that puts the module to evaluation: its loop is Lightning's, and
    sets the mode once for each epoch."""
    for info in source.classes.values():
        if any((b or "").endswith("LightningModule") for m in info.family() for b in m.bases):
            for name in ("validation_step", "test_step", "predict_step"):
                method = info.methods.get(name)
                if method is None or is_monte_carlo(source, method):
                    continue
                for call in method_calls(method, "train"):
                    of = owner_of(call) or ""
                    if of.partition(".")[0] != "self" or not sets_training(source, call):
                        continue
                    if "drop" not in of.lower() and not method_calls(method, "eval"):
                        yield call, f"{name} evaluates {of}, and puts it to training first."
        step = info.methods.get("training_step")
        if step is None or "lightning.LightningModule" not in info.bases or freezes(step):
            continue
        if not method_calls(step, "train"):
            for call in method_calls(step, "eval"):
                if owner_of(call) == "self":
                    yield call, "eval() is called here, and the model is trained after it."


def _helpers_of_steps(source: Source) -> Iterator[Hit]:
    """A method that a training step of Lightning calls, which leaves part of the module in
    evaluation: the loop is Lightning's, and sets the mode once for each epoch."""
    for info in source.classes.values():
        bases = [base or "" for member in info.family() for base in member.bases]
        step = info.methods.get("training_step")
        if step is None or not any(b.endswith("LightningModule") for b in bases):
            continue
        for use in method_calls(step, *info.methods):
            method = info.methods[use.func.attr] if isinstance(use.func, ast.Attribute) else None
            if method is None or owner_of(use) != "self" or freezes(method):
                continue
            back = {owner_of(call) for call in method_calls(method, "train")}
            back |= {owner_of(call) for call in method_calls(step, "train")}
            left = [
                call
                for call in method_calls(method, "eval")
                if (owner_of(call) or "").startswith("self") and owner_of(call) not in back
            ]
            trained = {key_of(n.func) for n in walk(step) if isinstance(n, ast.Call)}
            if any(owner_of(call) in {"self", *trained} for call in left) and "self" not in back:
                yield use, "A model is left in evaluation by a call in the step that trains."


def _losses_of_trainers(source: Source) -> Iterator[Hit]:
    """The loss of a Trainer of transformers, computed in evaluation: who calls it has set the mode
    to training for the step."""
    for info in source.classes.values():
        bases = [base or "" for member in info.family() for base in member.bases]
        if not any(
            b.endswith("Trainer") and b.startswith(("transformers.", "trl.")) for b in bases
        ):
            continue
        for name in ("compute_loss", "training_step"):
            method = info.methods.get(name)
            if method is None:
                continue
            for call in method_calls(method, "eval"):
                if owner_of(call) == "model" and not method_calls(method, "train"):
                    yield (
                        call,
                        "eval() is called here, and the loss of the step is computed after it.",
                    )
