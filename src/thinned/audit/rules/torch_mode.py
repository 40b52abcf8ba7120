"""The mode itself: `self.training` misspelt, overwritten, or never set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.contents import drops_inside
from thinned.audit.context import is_module, is_test_code, mentions
from thinned.audit.model_calls import key_of
from thinned.audit.nodes import walk
from thinned.audit.once import once
from thinned.audit.rule import Hit, rule
from thinned.audit.source import ClassInfo, Source, is_self
from thinned.audit.values import Built, Class, Function, Named
from thinned.audit.words import mode_by_name

__all__ = ["flag_spoilt", "train_overridden"]

_FLAG = "training"
_MODEL = re.compile(r"(?i)^(?:\w+_)?(?:model|net|network|classifier)\d*$")
# How the word comes out when it goes wrong; a letter lost, doubled or swapped is found by count.
_TAKEN = frozenset({"trainings", "training", "trainin_", "raining", "straining"})


@rule(
    "THN025",
    "training-flag-misspelt-or-shadowed",
    sentence="self.training is misspelt, overwritten or shadowed in a module.",
    why="train() and eval() set self.training and nothing else. self.train is a method, which is "
    "always true; a flag of one's own, or one written in __init__, does not follow them.",
    mend="Ask self.training, and let train() and eval() set it.",
    wrong="x = F.dropout(x, 0.5, training=self.train)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def flag_spoilt(source: Source) -> Iterator[Hit]:
    for info in source.classes.values():
        if is_module(source, info):
            yield from _method_as_flag(source, info)
            yield from _misspelt(source, info)
            yield from _shadowed(source, info)
    yield from _set_on_one(source)


def _set_on_one(source: Source) -> Iterator[Hit]:
    """model.training = False, which reaches none of the modules inside."""
    for attribute in source.attributes.get(_FLAG, ()):
        statement = source.parents[attribute]
        if not isinstance(statement, ast.Assign) or attribute not in statement.targets:
            continue
        if not isinstance(source.value(statement.value), bool) or is_test_code(source, attribute):
            continue
        key = key_of(attribute.value) or ""
        if not _MODEL.match(key) or "torch" not in source.names.tops:
            continue
        if not any(key_of(call.func) == key for call in source.calls):
            continue
        turned = any(
            isinstance(use, ast.Name) and use.id == key
            for loop in source.loops_of(attribute)
            if isinstance(loop, ast.For)
            for use in walk(loop.target)
        )
        if not turned:
            yield (
                attribute,
                f"This sets the mode of {key} alone: the modules inside it keep theirs.",
            )


def _of_class(source: Source, info: ClassInfo, name: str) -> Iterator[ast.Attribute]:
    for attribute in source.attributes.get(name, ()):
        if is_self(attribute.value) and source.class_of(attribute) is info:
            yield attribute


def _method_as_flag(source: Source, info: ClassInfo) -> Iterator[Hit]:
    for name in ("train", "eval"):
        for attribute in _of_class(source, info, name):
            if isinstance(attribute.ctx, ast.Load) and _is_asked(source, attribute):
                if any(name in member.given for member in info.family()):
                    continue  # told below, where it is given
                yield (
                    attribute,
                    f"self.{name} is a method, which is always true: self.training is meant.",
                )
    for attribute in _of_class(source, info, _FLAG):
        parent = source.parents[attribute]
        if isinstance(parent, ast.Call) and parent.func is attribute:
            yield attribute, "self.training is a flag and no method: the call fails."


def _is_asked(source: Source, node: ast.AST) -> bool:
    """Whether a value is used as a condition or passed as the mode."""
    parent = source.parents[node]
    if isinstance(parent, (ast.If, ast.IfExp, ast.While)):
        return parent.test is node
    if isinstance(parent, ast.UnaryOp):
        return isinstance(parent.op, ast.Not)
    if isinstance(parent, ast.BoolOp):
        return True
    if isinstance(parent, ast.keyword):
        return parent.arg in ("training", "train", "is_training")
    if isinstance(parent, ast.Call):
        called = source.called(parent)
        return node in parent.args and "dropout" in (called.name or "")
    return False


def _misspelt(source: Source, info: ClassInfo) -> Iterator[Hit]:
    for name in _slips(source):
        family = list(info.family())
        if any(name in m.given or name in m.methods for m in family):
            continue
        if any(name in m.scope.bindings for m in family):
            continue
        for attribute in _of_class(source, info, name):
            if isinstance(attribute.ctx, ast.Load):
                yield attribute, f"self.{name} is set nowhere: self.training is meant."


@once
def _slips(source: Source) -> list[str]:
    """The attributes that a file writes, and that are one slip away from the flag."""
    return [name for name in source.attributes if _is_nearly_training(name)]


def _is_nearly_training(name: str) -> bool:
    """Whether a name is one slip away from `training`, be it of case."""
    if name in _TAKEN or name == _FLAG:
        return False
    if name.lower() == _FLAG:
        return True
    if abs(len(name) - len(_FLAG)) > 1 or name[0] != "t":
        return False
    if len(name) == len(_FLAG):
        wrong = [i for i, (a, b) in enumerate(zip(name, _FLAG, strict=True)) if a != b]
        swapped = len(wrong) == 2 and sorted(name) == sorted(_FLAG) and wrong[1] == wrong[0] + 1
        return len(wrong) == 1 or swapped
    longer, shorter = (name, _FLAG) if len(name) > len(_FLAG) else (_FLAG, name)
    return any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def _shadowed(source: Source, info: ClassInfo) -> Iterator[Hit]:
    for attribute in _of_class(source, info, _FLAG):
        function = source.function_of(attribute)
        if function is None or function.name != "__init__":
            continue
        parent = source.parents[attribute]
        if isinstance(attribute.ctx, ast.Load) and _sets_a_rate(source, attribute, function):
            yield attribute, "self.training is always True in __init__: eval() comes later."
        # A constant is where the mode starts, and another module's mode is one too: both follow.
        if isinstance(parent, ast.Assign) and _is_own_flag(parent.value):
            yield (
                attribute,
                "self.training is written in __init__: train() and eval() own that flag.",
            )
    for name in ("train", "eval"):
        for attribute in _of_class(source, info, name):
            if isinstance(attribute.ctx, ast.Store) and not _is_method(source, attribute):
                yield (
                    attribute,
                    f"self.{name} takes the place of {name}(): the mode cannot be set any more.",
                )
    for statement in info.node.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if statement.name == _FLAG and not _has_setter(info):
                yield statement, "training is defined anew: train() and eval() cannot set it."
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name) and target.id == "train":
                    yield target, "train is defined anew as a value: the mode can no longer be set."


def _sets_a_rate(source: Source, mode: ast.Attribute, init: ast.AST) -> bool:
    """Whether the mode chooses a value of dropout where the module is built, once for all."""
    statement = source.statement_of(mode)
    chosen = False
    for at in source.above(mode):
        if isinstance(at, ast.Lambda):
            return False
        if at is init or at is statement:
            break
        chosen |= isinstance(at, ast.IfExp)
    speaks = re.compile(r"(?i)drop(?!ped|s\b|_last)")
    return chosen and not isinstance(statement, ast.If) and mentions(statement, speaks)


def _is_method(source: Source, attribute: ast.Attribute) -> bool:
    """Whether self.train is given a function: one that refuses, as Fairseq's."""
    statement = source.parents[attribute]
    value = statement.value if isinstance(statement, ast.Assign) else None
    found = source.interpreter.of(value)
    return isinstance(found, (Function, Named)) or isinstance(value, ast.Lambda)


def _is_own_flag(value: ast.expr) -> bool:
    if isinstance(value, ast.Attribute):
        return value.attr != _FLAG
    return isinstance(value, (ast.Name, ast.Subscript))


def _has_setter(info: ClassInfo) -> bool:
    return any(
        isinstance(decorator, ast.Attribute) and decorator.attr == "setter"
        for statement in info.node.body
        if isinstance(statement, ast.FunctionDef) and statement.name == _FLAG
        for decorator in statement.decorator_list
    )


@rule(
    "THN028",
    "train-overridden-and-not-passed-on",
    sentence="A module overrides train() or eval() and does not pass the mode on.",
    why="The modules inside keep the mode they had: their dropout stays on in evaluation, or off "
    "in training.",
    mend="Call super().train(mode) first, and return self.",
    wrong="def train(self, mode=True): self.training = mode",
    right="def train(self, mode=True): return super().train(mode)",
)
def train_overridden(source: Source) -> Iterator[Hit]:
    for info in source.classes.values():
        if not is_module(source, info):
            continue
        for name in ("train", "eval"):
            method = info.methods.get(name)
            if method is None or method.decorator_list:
                continue
            fixed = _always_true(source, method) if name == "train" else None
            if fixed is not None:
                yield fixed, "super().train() is not given the mode: eval() puts all to training."
            if _passes_on(method, name):
                continue
            first = [a.arg for a in method.args.args[1:2]]
            other = first and not mode_by_name(first[0]) and first[0] not in _MODES
            if not _holds_modules(info):
                continue
            if other and not drops_inside(source, Built(Class(info), None)):
                continue  # a method that trains, where no mode matters
            yield (
                method,
                f"{name}() does not call super().{name}(): the modules inside keep their mode.",
            )


_MODES = frozenset({"mode", "flag", "is_train", "value", "val", "enable", "status", "m"})


def _always_true(source: Source, method: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.Call | None:
    """The one call of super().train that gives no mode, in a method that is given one."""
    if not method.args.args[1:]:
        return None
    found = [
        node
        for node in walk(method)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "train"
        and isinstance(node.func.value, ast.Call)
        and getattr(node.func.value.func, "id", "") == "super"
    ]
    call = found[0] if len(found) == 1 else None
    # In a branch the mode may be what is asked there.
    if call is None or isinstance(source.parents[source.parents[call]], (ast.If, ast.IfExp)):
        return None
    given = [*call.args, *(k.value for k in call.keywords)]
    return call if all(source.value(one) is True for one in given) else None


def _passes_on(method: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Whether the method hands a mode to anything, or refuses. What train() puts to eval() are
    parts that are to stay there: the rest is told nothing by that."""
    passing = ("train",) if name == "train" else ("train", "eval")
    for node in walk(method):
        if isinstance(node, ast.Attribute) and node.attr in passing:
            return True
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Name) and node.id == "super":
            return True
    return False


def _holds_modules(info: ClassInfo) -> bool:
    return any(
        isinstance(value, ast.Call)
        for member in info.family()
        for v in [member.given.values()]
        for values in v
        for value in values
    )
