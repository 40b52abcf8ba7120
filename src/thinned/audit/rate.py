"""How a rate depends on the mode: in which it is above zero."""

from __future__ import annotations

import ast

from thinned.audit.binding import default_of
from thinned.audit.modes import SETTERS, SURE, Says, branch, flipped, implied, mentions, says
from thinned.audit.nodes import walk
from thinned.audit.source import ClassInfo, Source, is_self
from thinned.audit.values import Built, Class, Const, Frame, Function
from thinned.audit.words import mode_by_name, words_of

__all__ = ["rate"]

_DEPTH = 6


def rate(
    source: Source, node: ast.expr | None, frame: Frame | None = None, depth: int = _DEPTH
) -> Says:
    """Return in which mode a rate is above zero, as far as the tree shows.

    ALWAYS also stands for a setting: an attribute that is given once, where a module is built.
    """
    if node is None or depth <= 0:
        return Says.NOTHING
    home = source.home(node) or source
    known = home.interpreter.of(node, frame)
    if isinstance(known, Const):
        if isinstance(known.value, bool) or not isinstance(known.value, (int, float)):
            return Says.NOTHING
        if isinstance(node, (ast.Constant, ast.UnaryOp, ast.BinOp)):
            return Says.ALWAYS if known.value > 0 else Says.NEVER
        if not isinstance(node, (ast.Name, ast.Attribute)):
            return Says.ALWAYS if known.value > 0 else Says.NEVER
    if isinstance(node, ast.IfExp):
        test = implied(home, node.test, True, frame)
        switch = says(home, node.test, frame)
        if switch in (Says.ALWAYS, Says.NEVER):
            return rate(home, node.body if switch is Says.ALWAYS else node.orelse, frame, depth - 1)
        yes, no = (rate(home, n, frame, depth - 1) for n in (node.body, node.orelse))
        return _mixed(test, yes, no)
    if isinstance(node, ast.BinOp):
        sides = [says(home, n, frame) for n in (node.left, node.right)]
        if isinstance(node.op, ast.Mult) and any(s in SURE for s in sides):
            return next(s for s in sides if s in SURE)
        rates = [rate(home, n, frame, depth - 1) for n in (node.left, node.right)]
        if Says.MAYBE in sides or Says.MAYBE in rates:
            return Says.MAYBE
        if isinstance(node.op, ast.Mult) and Says.NOTHING in rates and Says.NEVER not in rates:
            return Says.MAYBE  # the other factor may be a switch
        if isinstance(node.op, (ast.Mult, ast.Div)):
            return next((r for r in rates if r in SURE), _both(rates))
        return Says.NOTHING
    if isinstance(node, ast.BoolOp):
        sides = [says(home, n, frame) for n in node.values]
        if isinstance(node.op, ast.And) and any(s in SURE for s in sides):
            return next(s for s in sides if s in SURE)
        if any(s in (*SURE, Says.MAYBE) for s in sides):
            return Says.MAYBE
        return _both([rate(home, n, frame, depth - 1) for n in node.values])
    if isinstance(node, ast.Call):
        return _called(home, node, frame, depth)
    if isinstance(node, ast.Name):
        return _named_rate(home, node, frame, depth)
    if isinstance(node, ast.Attribute):
        return _kept_rate(home, node, frame, depth)
    return Says.MAYBE if mentions(node) else Says.NOTHING


def _both(rates: list[Says]) -> Says:
    return rates[0] if len(set(rates)) == 1 else Says.NOTHING


def _mixed(test: Says, yes: Says, no: Says) -> Says:
    """A rate that a condition chooses."""
    if test in SURE:
        if no is Says.NEVER:
            return test if yes is not Says.NEVER else Says.NEVER
        if yes is Says.NEVER:
            return flipped(test)
        return Says.ALWAYS if yes is no is Says.ALWAYS else Says.NOTHING
    if Says.MAYBE in (test, yes, no):
        return Says.MAYBE
    return yes if yes is no else Says.NOTHING


def _called(source: Source, node: ast.Call, frame: Frame | None, depth: int) -> Says:
    called = source.called(node)
    if isinstance(node.func, ast.Name) and node.func.id in ("float", "max", "min") and node.args:
        found = [rate(source, arg, frame, depth - 1) for arg in node.args]
        return next((f for f in found if f is not Says.NEVER), Says.NEVER)
    if isinstance(called.target, Function):
        function = called.target.node
        if not isinstance(function, ast.Lambda):
            returns = [n for n in walk(function) if isinstance(n, ast.Return)]
            if len(returns) == 1:
                return rate(called.target.source, returns[0].value, None, depth - 1)
            return Says.MAYBE
    return Says.MAYBE if mentions(node) else Says.NOTHING


def _named_rate(source: Source, node: ast.Name, frame: Frame | None, depth: int) -> Says:
    found = source.names.lookup(node.id, source.scope(node))
    if found is None:
        return Says.NOTHING
    where, bindings = found
    if [b.kind for b in bindings] == ["parameter"]:
        if frame is not None and frame.function is where.owner and node.id in frame.given:
            return rate(source, frame.given[node.id], frame.outer, depth - 1)
        return rate(source, default_of(where.owner, node.id), None, depth - 1)
    inner = frame if frame is not None and frame.function is where.owner else None
    reached = source.interpreter.reaching.of(node, where, bindings)
    seen: list[tuple[Says, Says]] = []
    for binding in reached:
        if binding.kind == "parameter":
            seen.append((Says.NOTHING, Says.ALWAYS))
            continue
        value = binding.node
        if binding.kind != "value" or not isinstance(value, ast.expr):
            return Says.NOTHING
        said = rate(source, value, inner, depth - 1)
        seen.append((branch(source, value, inner), said))
    if len(seen) == 1:
        return seen[0][1]
    # p = self.p, and then: if not self.training: p = 0
    for mode, said in seen:
        if mode in SURE and said is Says.NEVER:
            return flipped(mode)
    above = [mode for mode, said in seen if said is not Says.NEVER]
    if above and all(mode in SURE and mode is above[0] for mode in above):
        return above[0]
    if any(mode is not Says.NOTHING or said is Says.MAYBE for mode, said in seen):
        return Says.MAYBE
    return _both([said for _, said in seen])


def _is_setting(source: Source, node: ast.expr | None) -> bool:
    """Whether a value is a parameter of the method that builds the module: whatever its default,
    it is there to be set."""
    if not isinstance(node, ast.Name):
        return False
    found = source.names.lookup(node.id, source.scope(node))
    return found is not None and [b.kind for b in found[1]] == ["parameter"]


def _is_default(source: Source, info: ClassInfo, name: str) -> bool:
    """Whether all of a file that builds a class leaves a setting of it at a default above 0."""
    init = info.methods.get("__init__")
    given = info.given.get(name, [])
    setting = given[0] if len(given) == 1 else None
    if init is None or not isinstance(setting, ast.Name):
        return False
    default = source.value(default_of(init, setting.id))
    if not isinstance(default, (int, float)) or isinstance(default, bool) or default <= 0:
        return False
    place = [a.arg for a in (*init.args.posonlyargs, *init.args.args)]
    at = place.index(setting.id) - 1 if setting.id in place else None
    made = [source.called(call) for call in source.calls if _builds(call, info.node.name)]
    return bool(made) and not any(c.open or c.argument(at, setting.id) is not None for c in made)


def _builds(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name


def _kept_rate(source: Source, node: ast.Attribute, frame: Frame | None, depth: int) -> Says:
    inner = node.value
    if not is_self(inner):
        base = source.interpreter.of(inner, frame)
        if isinstance(base, Built) and isinstance(base.kind, Class):
            value = source.interpreter.attribute(base, node.attr)
            if isinstance(value, Const) and isinstance(value.value, (int, float)):
                return Says.ALWAYS if value.value > 0 else Says.NEVER
        words = set(words_of(node.attr))
        names_rate = words & {"dropout", "drop", "p", "pdrop", "prob", "rate"}
        return Says.ALWAYS if names_rate and source.class_of(node) is not None else Says.NOTHING
    info = source.class_of(node)
    if info is not None and "haiku.Module" in [b for m in info.family() for b in m.bases]:
        # Such a module is built at each call, and its caller may pick the rate for the mode. A
        # method that takes the mode asks for it.
        function = source.function_of(node)
        arguments = () if function is None else (*function.args.args, *function.args.kwonlyargs)
        if not any(mode_by_name(a.arg) for a in arguments):
            return Says.ALWAYS if _is_default(source, info, node.attr) else Says.MAYBE
    for member in info.family() if info is not None else ():
        method = member.methods.get(node.attr)
        if method is not None:
            returns = [n for n in walk(method) if isinstance(n, ast.Return)]
            if len(returns) == 1:
                return rate(member.source, returns[0].value, None, depth - 1)
            return Says.MAYBE
        places = member.at.get(node.attr)
        if places:
            functions = [member.source.function_of(place) for place in places]
            if not all(f is not None and f.name in SETTERS for f in functions):
                return Says.MAYBE
            values = [
                Says.ALWAYS
                if _is_setting(member.source, v)
                else rate(member.source, v, None, depth - 1)
                for v in member.given[node.attr]
            ]
            if Says.NEVER in values or Says.MAYBE in values:
                return Says.MAYBE if len(values) > 1 or Says.MAYBE in values else Says.NEVER
            return next((v for v in values if v in SURE), Says.ALWAYS)
        if node.attr in member.scope.bindings:
            value = source.interpreter.attribute(Built(Class(member), None), node.attr)
            if isinstance(value, Const) and isinstance(value.value, (int, float)):
                return Says.ALWAYS if value.value > 0 else Says.NEVER
            return Says.NOTHING
    return Says.NOTHING
