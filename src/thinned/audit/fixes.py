"""Mends that need no reader: what an edit may do, and for which findings.

A mend is made where it is certain, and nowhere else: in a method that forward reaches, of a class
whose every base is known to be a PyTorch module, in a call whose arguments are all seen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from thinned.audit.layers import FLASH, FUNCTIONAL, MODULES
from thinned.audit.nodes import walk
from thinned.audit.source import ClassInfo, Function, Source, is_self

__all__ = ["FIXES", "Change", "only_mended"]

_FUSED = "torch.nn.functional.scaled_dot_product_attention"
_FLAG = "training"
# Modules of other packages that leave the mode to PyTorch.
_ROOMS = ("torch.nn.", "thinned.torch.", "lightning.")


@dataclass(frozen=True, slots=True)
class Change:
    """Characters of the source that another text replaces.

    line, start, end count as those of trees: the line from 1, offsets in bytes of UTF-8.
    """

    line: int
    start: int
    end: int
    text: str


Fix = Callable[[Source, ast.AST, list[str]], Change | None]


def _mode_is_passed(source: Source, node: ast.AST, lines: list[str]) -> Change | None:
    """F.dropout(x, p) -> F.dropout(x, p, training=self.training)"""
    if not isinstance(node, ast.Call) or not _is_in_forward(source, node) or _is_open(node):
        return None
    facts = FUNCTIONAL.get(source.resolve(node.func) or "")
    if facts is None or facts.default is None or len(node.args) > facts.training:
        return None
    if any(keyword.arg == facts.mode for keyword in node.keywords):
        return None
    return _appended(node, f", {facts.mode}=self.{_FLAG}", lines)


def _appended(call: ast.Call, text: str, lines: list[str]) -> Change | None:
    """An argument behind the last one, and behind the brackets that may stand around that."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not given:
        return None
    last = max(given, key=lambda one: (one.end_lineno or 0, one.end_col_offset or 0))
    line, at = last.end_lineno or 0, last.end_col_offset or 0
    end = (call.end_lineno or 0, (call.end_col_offset or 0) - 1)
    for number in range(line, end[0] + 1):
        bare = lines[number - 1].encode()
        stop = end[1] if number == end[0] else len(bare)
        start = last.end_col_offset or 0 if number == last.end_lineno else 0
        for found in re.finditer(rb"#.*|\S", bare[start:stop]):
            if found[0] == b")":
                line, at = number, start + found.end()
            elif found[0][:1] not in (b"#", b",", b"\\"):
                return None
    return Change(line, at, at, text)


def _is_open(call: ast.Call) -> bool:
    return any(isinstance(a, (ast.Starred, ast.GeneratorExp)) for a in call.args) or any(
        keyword.arg is None for keyword in call.keywords
    )


def _rate_is_guarded(source: Source, node: ast.AST, lines: list[str]) -> Change | None:
    """dropout_p=self.p -> dropout_p=self.p if self.training else 0.0"""
    if not isinstance(node, ast.Call) or not _is_in_forward(source, node) or _is_open(node):
        return None
    name = source.resolve(node.func) or ""
    place = (4, "dropout_p") if name == _FUSED else FLASH.get(name)
    if place is None:
        return None
    at, keyword = place
    rates = [k.value for k in node.keywords if k.arg == keyword] + node.args[at : at + 1]
    if len(rates) != 1 or not isinstance(rates[0], (ast.Constant, ast.Name, ast.Attribute)):
        return None
    end = rates[0].end_col_offset or 0
    return Change(rates[0].end_lineno or 0, end, end, f" if self.{_FLAG} else 0.0")


def _flag_is_spelt(source: Source, node: ast.AST, lines: list[str]) -> Change | None:
    """training=self.train, training=self.trainig -> training=self.training"""
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return None
    if not is_self(node.value) or not _is_in_forward(source, node):
        return None
    end = node.end_col_offset or 0
    start = end - len(node.attr)
    bare = lines[(node.end_lineno or 1) - 1].encode()
    if bare[start:end] != node.attr.encode() or node.attr == _FLAG:
        return None
    return Change(node.end_lineno or 0, start, end, _FLAG)


FIXES: dict[str, Fix] = {
    "THN001": _mode_is_passed,
    "THN003": _mode_is_passed,
    "THN004": _rate_is_guarded,
    "THN005": _rate_is_guarded,
    "THN025": _flag_is_spelt,
}


def _is_in_forward(source: Source, node: ast.AST) -> bool:
    """Whether self.training is the mode of the module at a node, as train() and eval() set it."""
    method = next(
        (a for a in source.above(node) if isinstance(a, (*_DEFINITIONS, ast.Lambda))), None
    )
    if not isinstance(method, _DEFINITIONS):
        return False
    return _is_sure(source, method)


# The findings of one method come one after the other.
@lru_cache(maxsize=2)
def _is_sure(source: Source, method: Function) -> bool:
    owner = source.parents.get(method)
    if not isinstance(owner, ast.ClassDef) or method.decorator_list:
        return False
    info = source.classes[owner]
    first = [*method.args.posonlyargs, *method.args.args][:1]
    if not first or first[0].arg != "self" or not _keeps_self(method):
        return False
    return _is_known(info) and method.name in _reached(info)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _keeps_self(method: Function) -> bool:
    return not any(
        isinstance(inner, ast.Name) and inner.id == "self" and not isinstance(inner.ctx, ast.Load)
        for inner in walk(method)
    )


def _is_known(info: ClassInfo) -> bool:
    """Whether a class is a module, every base of it is known, and none has a `training` of its
    own."""
    is_module = False
    for member in info.family():
        if _FLAG in member.given or _FLAG in member.methods or _FLAG in member.scope.bindings:
            return False
        if member.node.keywords:
            return False
        known = 0
        for base in member.node.bases:
            name = member.source.resolve(base) or ""
            if name in MODULES or name.startswith(_ROOMS):
                is_module = True
                known += 1
        if known + len(member.bases_here) < len(member.node.bases):
            return False
    return is_module


def _reached(info: ClassInfo) -> set[str]:
    """The names of forward and of the methods that it calls by way of self."""
    methods: dict[str, list[Function]] = {}
    for member in info.family():
        for name, method in member.methods.items():
            methods.setdefault(name, []).append(method)
    found, waiting = {"forward"}, ["forward"]
    while waiting:
        for method in methods.get(waiting.pop(), ()):
            for inner in walk(method):
                if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute):
                    continue
                name = inner.func.attr
                if is_self(inner.func.value) and name in methods and name not in found:
                    found.add(name)
                    waiting.append(name)
    return found


def only_mended(before: ast.AST, after: ast.AST) -> int:
    """Return at how many places two trees differ by a mend.

    Raises
    ------
    ValueError if they differ by anything else.
    """
    count = 0
    waiting: list[tuple[object, object]] = [(before, after)]
    while waiting:
        old, new = waiting.pop()
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            waiting.extend(zip(old, new, strict=True))
        elif (
            isinstance(old, ast.expr) and isinstance(new, ast.IfExp) and type(old) is not type(new)
        ):
            if not _is_flag(new.test) or ast.dump(new.orelse) != ast.dump(ast.Constant(0.0)):
                raise ValueError("a condition other than the mode's")
            count += 1
            waiting.append((old, new.body))
        elif type(old) is not type(new):
            raise ValueError(f"{type(old).__name__} became {type(new).__name__}")
        elif isinstance(old, ast.AST) and isinstance(new, ast.AST):
            if isinstance(old, ast.Attribute) and old.attr != getattr(new, "attr", None):
                if not _is_flag(new) or not is_self(old.value):
                    raise ValueError("another name")
                count += 1
                continue
            fields = [(getattr(old, f, None), getattr(new, f, None)) for f in old._fields]
            if isinstance(old, ast.Call) and isinstance(new, ast.Call):
                added = new.keywords[len(old.keywords) :]
                if len(added) == 1 and added[0].arg and _is_flag(added[0].value):
                    count += 1
                    kept = new.keywords[:-1]
                    fields = [(old.func, new.func), (old.args, new.args), (old.keywords, kept)]
            waiting.extend(fields)
        elif old != new:
            raise ValueError(f"{old!r} became {new!r}")
    return count


def _is_flag(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == _FLAG and is_self(node.value)
