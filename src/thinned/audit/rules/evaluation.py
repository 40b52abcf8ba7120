"""Evaluation in the wrong mode, and the mode set for the wrong reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from thinned.audit.contents import drops_inside
from thinned.audit.context import is_evaluation, is_monte_carlo, is_test_code
from thinned.audit.nodes import children, walk
from thinned.audit.order import Order, walked
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Function, Source
from thinned.audit.trained import learners
from thinned.audit.values import Built, Class
from thinned.audit.words import words_of

__all__ = ["evaluated_in_training_mode", "left_in_evaluation", "monte_carlo_by_train", "traced"]

_NO_GRAD = frozenset({"torch.no_grad", "torch.inference_mode"})
_MODEL = re.compile(
    r"(?i)^(?:\w+_)?(?:model|net|network|classifier|encoder|decoder|module|cnn|rnn|lstm|mlp|gnn|vit"
    r"|resnet|transformer|backbone|student)\d*$"
)
_LOADER = re.compile(r"(?i)load|batch|data|iter|_dl$|^dl$|set$|graphs?$")
# Classes of Lightning that have hooks, and the hooks after which the epoch goes on.
_HOOKED = (".Callback", ".LightningModule")
_WITHIN_EPOCH = re.compile(
    r"^on_(?:train_batch_(?:start|end)|(?:before|after)_(?:backward|zero_grad))$"
)
_LEARN = frozenset({"backward", "manual_backward"})
_OF_MODULES = frozenset(
    {"modules", "named_modules", "children", "named_children", "ModuleList", "values"}
)


def _inside(function: Function) -> Iterator[ast.AST]:
    """Everything in a function, functions inside it left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            waiting.extend(children(node))


def _key(node: ast.AST) -> str | None:
    """A name or a chain of attributes as a word, to compare two."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _method_calls(function: Function, *names: str) -> list[ast.Call]:
    found = [
        node
        for node in _inside(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
    ]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _of(call: ast.Call) -> str | None:
    """What the method of a call belongs to."""
    return _key(call.func.value) if isinstance(call.func, ast.Attribute) else None


def _sets_training(source: Source, call: ast.Call) -> bool:
    mode = call.args[0] if call.args else next((k.value for k in call.keywords), None)
    return mode is None or source.value(mode) is True


def _forward_calls(function: Function, of: str) -> list[ast.Call]:
    return [
        node
        for node in _inside(function)
        if isinstance(node, ast.Call) and _key(node.func) in (of, f"{of}.forward")
    ]


def _learns(function: Function) -> bool:
    """Whether a function takes gradient steps."""
    return bool(_method_calls(function, "backward", "zero_grad", "manual_backward"))


def _without_gradient(source: Source, function: Function) -> bool:
    for node in function.decorator_list:
        inner = node.func if isinstance(node, ast.Call) else node
        if source.resolve(inner) in _NO_GRAD:
            return True
    return any(
        isinstance(node, ast.Call) and source.resolve(node.func) in _NO_GRAD
        for statement in _inside(function)
        if isinstance(statement, ast.With)
        for node in (item.context_expr for item in statement.items)
    )


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
    if "train" not in source.attributes:
        return
    for function in source.functions:
        if _learns(function) or not _samples(source, function) or is_test_code(source, function):
            continue
        for call in _method_calls(function, "train"):
            of = _of(call)
            if of is None or not _sets_training(source, call) or _is_of_modules(source, call):
                continue
            if "drop" in of.rpartition(".")[2].lower():
                continue  # dropout alone, as it should be
            later = [c for c in _forward_calls(function, of) if c.lineno > call.lineno]
            repeated = any(_is_repeated(source, c) for c in later)
            if repeated and not _batch_norm_seen_to(function):
                yield (
                    call,
                    f"{of}.train() turns BatchNorm to training as well as dropout.",
                )


def _samples(source: Source, function: Function) -> bool:
    """Whether it is named for Monte Carlo, or evaluates without gradients."""
    if is_monte_carlo(source, function):
        return True
    return is_evaluation(function.name) and _without_gradient(source, function)


def _is_repeated(source: Source, call: ast.Call) -> bool:
    """Whether a forward pass is run again and again on one input: over a range, not over data."""
    for at in source.above(call):
        iterated: list[ast.expr] = []
        if isinstance(at, (ast.For, ast.AsyncFor)):
            iterated = [at.iter]
        elif isinstance(at, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
            iterated = [g.iter for g in at.generators]
        if any(isinstance(i, ast.Call) and getattr(i.func, "id", "") == "range" for i in iterated):
            return True
        if isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return False
    return False


def _is_of_modules(source: Source, call: ast.Call) -> bool:
    """Whether train() goes to modules that a loop or comprehension picks."""
    func = call.func
    if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name):
        return False
    name = func.value.id
    for at in source.above(call):
        targets: list[ast.AST] = []
        if isinstance(at, (ast.For, ast.AsyncFor)):
            targets = [at.target]
        elif isinstance(at, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            targets = [g.target for g in at.generators]
        for target in targets:
            if any(isinstance(n, ast.Name) and n.id == name for n in walk(target)):
                return True
    return False


def _batch_norm_seen_to(function: Function) -> bool:
    for node in _inside(function):
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
    # A file that trains is the place where the mode is set; of any other, nothing is known.
    if "eval" in source.attributes or "set_attributes" in source.attributes:
        return
    if "backward" not in source.attributes:
        yield from _nnx_without_eval(source)
        yield from _loaded_without_eval(source)
        return
    if _sets_mode_elsewise(source):
        return
    for function in source.functions:
        if not is_evaluation(function.name) or is_test_code(source, function):
            continue
        if _learns(function) or not _without_gradient(source, function):
            continue
        if _method_calls(function, "train"):
            continue  # THN046 tells
        for node in _inside(function):
            if not isinstance(node, ast.Call) or not source.loops_of(node):
                continue
            key = _key(node.func)
            if key is None or not _MODEL.match(key.rpartition(".")[2]):
                continue
            if not any(_is_over_data(loop) for loop in source.loops_of(node)):
                continue
            if _is_without_modes(source, node.func):
                continue
            yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
            break
    yield from _script_without_eval(source)


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
        for node in _inside(function):
            key = _key(node.func) if isinstance(node, ast.Call) else None
            if key is not None and _MODEL.match(key.rpartition(".")[2]):
                yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
                break


def _loaded_without_eval(source: Source) -> Iterator[Hit]:
    """A model that drops, built and loaded in this file, which is run without gradients."""
    loaded = {_key(a.value) for a in source.attributes.get("load_state_dict", ())} - {None}
    if not loaded or "train" in source.attributes or _sets_mode_elsewise(source):
        return
    quiet: list[ast.AST] = [n for n in source.withs if _is_quiet(source, n)]
    quiet += [f for f in source.functions if _without_gradient(source, f)]
    handed = {_key(arg) for call in source.calls for arg in call.args}
    for node in {n: None for at in quiet for n in walk(at)}:
        if not isinstance(node, ast.Call) or (key := _key(node.func)) not in loaded - handed:
            continue
        if drops_inside(source, source.interpreter.of(node.func)) and not (
            is_test_code(source, node) or is_monte_carlo(source, node)
        ):
            yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
            break


def _script_without_eval(source: Source) -> Iterator[Hit]:
    """The same at the top level of a script, or in one function that trains and evaluates."""
    if not any("drop" in word.lower() for word in (*source.attributes, *source.loads)):
        return
    trained = {_key(a.value) for a in source.attributes.get("parameters", ())}
    for statement in (n for n in source.withs if _is_quiet(source, n)):
        function = source.function_of(statement)
        if function is not None and (is_evaluation(function.name) or not _learns(function)):
            continue
        for node in walk(statement):
            if not isinstance(node, ast.Call) or _key(node.func) not in trained:
                continue
            looped = any(_is_over_data(loop) for loop in source.loops_of(node))
            if looped and not is_test_code(source, node):
                key = _key(node.func)
                yield node, f"{key} is evaluated here, and nothing in this file calls {key}.eval()."
                break


def _is_quiet(source: Source, statement: ast.With) -> bool:
    return any(
        isinstance(item.context_expr, ast.Call)
        and source.resolve(item.context_expr.func) in _NO_GRAD
        for item in statement.items
    )


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
        if is_train and not _sets_training(source, call):
            return True
    words = [*source.attributes, *source.loads]
    return any(re.search(r"(?i)eval(?:uation)?_mode|set_mode|set_eval|set_train", w) for w in words)


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
            if not _WITHIN_EPOCH.match(name) or _freezes(method):
                continue
            back = [_of(call) for call in _method_calls(method, "train")]
            for call in _method_calls(method, "eval"):
                whole = _of(call) in (
                    "self",
                    "pl_module",
                    "trainer.model",
                    "trainer.lightning_module",
                )
                if whole and _of(call) not in back and not call.args:
                    yield call, "eval() is called within the epoch, and train() is not after it."


_walks: WeakKeyDictionary[Source, Order] = WeakKeyDictionary()


def _order(source: Source) -> Order:
    """What all functions of a file that learn in a loop say, in one."""
    found = _walks.get(source)
    if found is None:
        found = _walks[source] = Order()
        files = (source, *(source.met if source.all_called else ()))
        learns = any(not _LEARN.isdisjoint(file.attributes) for file in files)
        functions: list[ast.AST] = [source.tree, *source.functions]
        for function in functions if learns else ():
            loops = any(source.function_of(loop) is _or_none(function) for loop in source.loops)
            if loops or _is_step(function):
                walk = walked(source, function)
                found.inside += walk.inside
                found.before += walk.before
    return found


def _is_step(function: ast.AST) -> bool:
    """Whether a function is one step of training, whose loop is elsewhere."""
    words = set(words_of(getattr(function, "name", "")))
    is_named = bool({"train", "training"} & words) and bool({"step", "batch", "iteration"} & words)
    return is_named and any(
        isinstance(n, ast.Attribute) and n.attr == "step" and "opt" in (_key(n.value) or "").lower()
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
        if function is None:  # a script: its optimizer has the model
            trains = any(left.key in keys for keys in learners(source).values())
        else:
            words = words_of(function.name)
            trains = not {"train", "fit", "training", "finetune"}.isdisjoint(words)
        if trains and not _freezes(source.tree if function is None else function):
            told.add(left.node)
            yield left.node, "eval() is called here, and the model is trained after it."
    yield from _lightning_steps(source)
    for function in source.functions:
        if not is_evaluation(function.name) or is_monte_carlo(source, function):
            continue
        if _learns(function) or not _without_gradient(source, function):
            continue
        if is_test_code(source, function) or _method_calls(function, "eval"):
            continue
        for call in _method_calls(function, "train"):
            of = _of(call)
            if of is None or not _sets_training(source, call) or _is_of_modules(source, call):
                continue
            if "drop" in of.rpartition(".")[2].lower():
                continue  # dropout alone, as it should be
            later = [c for c in _forward_calls(function, of) if c.lineno > call.lineno]
            if later and not any(_is_repeated(source, c) for c in later):
                yield call, f"{function.name} evaluates {of}, and puts it to training first."
                break


def _lightning_steps(source: Source) -> Iterator[Hit]:
    """A step of a LightningModule that puts the module to evaluation: its loop is Lightning's, and
    sets the mode once for each epoch."""
    for info in source.classes.values():
        step = info.methods.get("training_step")
        if step is None or "lightning.LightningModule" not in info.bases or _freezes(step):
            continue
        if not _method_calls(step, "train"):
            for call in _method_calls(step, "eval"):
                if _of(call) == "self":
                    yield call, "eval() is called here, and the model is trained after it."


def _freezes(function: ast.AST) -> bool:
    """Whether a function speaks of frozen parts, whose eval() is meant."""
    return any(
        re.search(r"(?i)freez|frozen|requires_grad|batch_?norm|(?:^|_)bn(?:_|$)|teacher", word)
        for n in walk(function)
        for word in [getattr(n, "attr", None) or getattr(n, "id", None) or getattr(n, "arg", None)]
        if isinstance(word, str)
    )


@rule(
    "THN045",
    "exported-in-training-mode",
    sentence="A model that was just built, and is in training mode, is traced or exported.",
    why="The trace keeps the dropout of training mode: the exported program drops for ever.",
    mend="Call model.eval() before tracing.",
    wrong="model = Net(); torch.jit.trace(model, x)",
    right="model = Net().eval(); torch.jit.trace(model, x)",
)
def traced(source: Source) -> Iterator[Hit]:
    for called in source.calls_of(("torch.jit.trace", "torch.export.export")):
        node = called.node
        model = called.argument(0, "func", "mod")
        if model is None or is_test_code(source, node):
            continue
        moved = model.func if isinstance(model, ast.Call) else None
        if isinstance(moved, ast.Attribute) and moved.attr in ("eval", "train"):
            continue
        key = _key(model)
        if not _put_to_training(source, node, key):
            made = source.interpreter.of(model)
            if not drops_inside(source, made) and not _is_given(source, model):
                continue
            if key is not None and _mode_set(source, key):
                continue
        what = (called.name or "").removeprefix("torch.")
        yield node, f"{what} sees the model in training mode, and keeps its dropout."


def _put_to_training(source: Source, node: ast.Call, key: str | None) -> bool:
    """Whether the last that is said of the mode, in the lines before, is model.train()."""
    statement = source.statement_of(node)
    if statement is None or key is None:
        return False
    block, place = source.block_of(statement)
    for earlier in reversed(block[:place]):
        for inner in walk(earlier):
            func = inner.func if isinstance(inner, ast.Call) else None
            if not isinstance(inner, ast.Call) or not isinstance(func, ast.Attribute):
                continue
            if _of(inner) == key and func.attr in ("train", "eval"):
                return func.attr == "train" and _sets_training(source, inner)
    return False


def _is_given(source: Source, model: ast.expr) -> bool:
    """Whether a layer that drops is put into a model of a package: model.fc = Sequential(...)."""
    key = _key(model)
    made = source.given(model)
    if key is None or not isinstance(made, ast.Call) or not source.called(made).name:
        return False
    for attributes in source.attributes.values():
        for attribute in attributes:
            statement = source.parents[attribute]
            if (
                isinstance(attribute.ctx, ast.Store)
                and _key(attribute.value) == key
                and isinstance(statement, ast.Assign)
                and drops_inside(source, source.interpreter.of(statement.value))
            ):
                return True
    return False


def _mode_set(source: Source, key: str) -> bool:
    return any(
        _key(attribute.value) == key
        for name in ("eval", "train", "load_state_dict")
        for attribute in source.attributes.get(name, ())
        if name != "load_state_dict"
    )
