"""The one walk over a parsed file, without recursion.

Every node learns its parent, every name its scope, and calls, classes and functions are sorted into
lists, so that a file costs one walk however many rules there are.
"""

from __future__ import annotations

import ast
from typing import Any

from thinned.audit.names import Binding, Scope
from thinned.audit.nodes import fields_of
from thinned.audit.values import ClassInfo, Definition as Function

__all__ = ["BLOCKS", "OUTSIDE", "enter_tree"]

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What is written at a definition and read around it, and the lists of statements.
OUTSIDE = frozenset({"decorator_list", "bases", "keywords"})
BLOCKS = frozenset({"body", "orelse", "finalbody"})
# By class of node: its fields, whether each is read around it, and whether it is a block.
_WALKED: dict[type[ast.AST], tuple[tuple[str, bool, bool], ...]] = {}


def enter_tree(source: Any) -> None:
    """Walk the tree of a file, and put into the file's tables what stands there."""
    module = Scope(source.tree, None)
    source.names.scopes[source.tree] = module
    stack: list[tuple[ast.AST, Scope]] = [(source.tree, module)]
    parents, loads, homes = source.parents, source.loads, source.homes
    while stack:
        node, scope = stack.pop()
        kind = type(node)
        enter = _ENTER.get(kind)
        inner = scope if enter is None else enter(source, node, scope)
        fields = _WALKED.get(kind)
        if fields is None:
            fields = _WALKED[kind] = tuple(
                (field, field in OUTSIDE, field in BLOCKS) for field in fields_of(kind)
            )
        fresh: list[tuple[ast.AST, Scope]] = []
        for field, is_outside, is_block in fields:
            value = getattr(node, field)
            if value is None:
                continue
            items = value
            at = inner
            if type(value) is not list:
                items = (value,)
            elif is_outside:
                at = scope
            elif is_block and value:
                source.blocks.append(value)
                homes.update(dict.fromkeys(value, at))
            for item in items:
                # Names and constants are half of a tree, and nothing is inside them.
                what = type(item)
                if what is ast.Name:
                    parents[item] = node
                    if type(item.ctx) is ast.Load:
                        loads[item.id].append(item)
                    elif type(item.ctx) is ast.Del:
                        at.bind(item.id, Binding("other", at=item))
                elif item is not None:
                    parents[item] = node
                    if what is not ast.Constant:
                        fresh.append((item, at))
        fresh.reverse()
        stack += fresh


def _new_scope(source: Any, node: ast.AST, scope: Scope) -> Scope:
    inner = Scope(node, scope)
    source.names.scopes[node] = inner
    return inner


def _enter_function(source: Any, node: Function, scope: Scope) -> Scope:
    source.functions.append(node)
    scope.bind(node.name, Binding("function", node=node))
    return _enter_parameters(source, node, scope)


def _enter_parameters(source: Any, node: Function | ast.Lambda, scope: Scope) -> Scope:
    inner = _new_scope(source, node, scope)
    for arg in _parameters(node.args):
        inner.bind(arg.arg, Binding("parameter", node=arg))
    return inner


def _enter_class(source: Any, node: ast.ClassDef, scope: Scope) -> Scope:
    scope.bind(node.name, Binding("class", node=node))
    inner = _new_scope(source, node, scope)
    source.classes[node] = ClassInfo(node, inner, source)
    return inner


def _enter_call(source: Any, node: ast.Call, scope: Scope) -> Scope:
    source.calls.append(node)
    return scope


def _enter_attribute(source: Any, node: ast.Attribute, scope: Scope) -> Scope:
    source.attributes[node.attr].append(node)
    return scope


def _enter_assign(source: Any, node: ast.Assign, scope: Scope) -> Scope:
    for target in node.targets:
        source.names.enter_target(target, node.value, scope)
    return scope


def _enter_annotated(source: Any, node: ast.AnnAssign, scope: Scope) -> Scope:
    if node.value is not None or scope.is_class:
        source.names.enter_target(node.target, node.value, scope)
        if isinstance(node.target, ast.Name) and node.target.id in scope.bindings:
            scope.bindings[node.target.id][-1].annotation = node.annotation
    return scope


def _enter_augmented(source: Any, node: ast.AugAssign, scope: Scope) -> Scope:
    source.names.enter_target(node.target, None, scope)
    return scope


def _enter_walrus(source: Any, node: ast.NamedExpr, scope: Scope) -> Scope:
    at = scope
    while isinstance(at.owner, _COMPREHENSIONS) and at.parent is not None:
        at = at.parent
    source.names.enter_target(node.target, node.value, at)
    return scope


def _enter_for(source: Any, node: ast.For | ast.AsyncFor, scope: Scope) -> Scope:
    source.loops.append(node)
    source.names.enter_each(node.target, node.iter, scope)
    return scope


def _enter_while(source: Any, node: ast.While, scope: Scope) -> Scope:
    source.loops.append(node)
    return scope


def _enter_generator(source: Any, node: ast.comprehension, scope: Scope) -> Scope:
    source.names.enter_each(node.target, node.iter, scope)
    return scope


def _enter_with_statement(source: Any, node: ast.With, scope: Scope) -> Scope:
    source.withs.append(node)
    return scope


def _enter_with(source: Any, node: ast.withitem, scope: Scope) -> Scope:
    if node.optional_vars is not None:
        source.names.enter_target(node.optional_vars, None, scope)
    return scope


def _enter_named(
    source: Any, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar, scope: Scope
) -> Scope:
    if node.name:
        scope.bind(node.name, Binding("other", at=node))
    return scope


def _enter_elsewhere(source: Any, node: ast.Global | ast.Nonlocal, scope: Scope) -> Scope:
    scope.elsewhere.update(node.names)
    return scope


def _enter_import(source: Any, node: ast.Import, scope: Scope) -> Scope:
    source.names.enter_import(node, scope)
    return scope


def _enter_import_from(source: Any, node: ast.ImportFrom, scope: Scope) -> Scope:
    source.names.enter_import_from(node, scope)
    return scope


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    found += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return found


_ENTER: dict[type[ast.AST], Any] = {
    ast.FunctionDef: _enter_function,
    ast.AsyncFunctionDef: _enter_function,
    ast.Lambda: _enter_parameters,
    ast.ClassDef: _enter_class,
    ast.ListComp: _new_scope,
    ast.SetComp: _new_scope,
    ast.DictComp: _new_scope,
    ast.GeneratorExp: _new_scope,
    ast.Call: _enter_call,
    ast.Attribute: _enter_attribute,
    ast.Assign: _enter_assign,
    ast.AnnAssign: _enter_annotated,
    ast.AugAssign: _enter_augmented,
    ast.NamedExpr: _enter_walrus,
    ast.For: _enter_for,
    ast.AsyncFor: _enter_for,
    ast.While: _enter_while,
    ast.comprehension: _enter_generator,
    ast.With: _enter_with_statement,
    ast.withitem: _enter_with,
    ast.ExceptHandler: _enter_named,
    ast.MatchAs: _enter_named,
    ast.MatchStar: _enter_named,
    ast.Global: _enter_elsewhere,
    ast.Nonlocal: _enter_elsewhere,
    ast.Import: _enter_import,
    ast.ImportFrom: _enter_import_from,
}
