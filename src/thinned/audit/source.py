"""A parsed file, and the questions that rules ask of it.

A rule asks for what it starts from, calls of a name or functions, and looks around from there.
"""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from thinned.audit import tree as files
from thinned.audit.entering import BLOCKS, OUTSIDE, enter_tree
from thinned.audit.interpreter import Interpreter
from thinned.audit.names import UNKNOWN, Names, Scope
from thinned.audit.values import (
    KNOWN,
    NOTHING,
    Bound,
    Called,
    Choice,
    ClassInfo,
    Const,
    Definition as Function,
    Dictionary,
    Items,
    Named,
    Value,
)

__all__ = ["Called", "ClassInfo", "Function", "Source"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_WITHIN = (ast.stmt, ast.arguments)


class Source:
    """A parsed file.

    Parameters
    ----------
    tree : ast.Module.
    package : str. The dotted name of the package that the file is in, "" for none.
    path : str. As findings name it.
    """

    def __init__(self, tree: ast.Module, package: str = "", path: str = "") -> None:
        self.tree = tree
        self.path = path
        self.names = Names(package)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.calls: list[ast.Call] = []
        self.functions: list[Function] = []
        self.loops: list[ast.For | ast.AsyncFor | ast.While] = []
        self.withs: list[ast.With] = []
        self.attributes: dict[str, list[ast.Attribute]] = defaultdict(list)
        self.loads: dict[str, list[ast.Name]] = defaultdict(list)
        self.blocks: list[list[ast.stmt]] = []
        self._places: dict[ast.AST, tuple[list[ast.stmt], int]] = {}
        self.classes: dict[ast.ClassDef, ClassInfo] = {}
        self.homes: dict[ast.AST, Scope] = {}  # the scope that each statement stands in
        self.top = package.partition(".")[0]
        self.on_disk = bool(path) and os.path.isfile(path)
        self.renew()
        enter_tree(self)
        self._describe_classes()

    def renew(self) -> None:
        """Begin without answers. Those of another file may be among them."""
        self.interpreter = Interpreter(self)
        self.left_at: dict[int, int] = {}  # by block: where the mode may leave it; see context
        self.met: set[Source] = set()  # the files that were asked for an answer
        self._called: dict[ast.Call, Called] = {}
        self._imported: dict[str, tuple[Source, str] | None] = {}
        self.operations: dict[ast.Call, Any] = {}  # what calls do, as flow has found
        self.answers: dict[Any, Any] = {}  # of `once`
        for name in ("all_called", "_by_name"):
            self.__dict__.pop(name, None)
        for info in self.classes.values():
            info.forget()

    def close(self) -> None:
        """Let go of all that the file holds. What is known of files names them in many circles, and
        the collector would look through each tree several times to see that none is needed."""
        self.__dict__.clear()

    # -- classes -------------------------------------------------------------------------------

    def _describe_classes(self) -> None:
        for node, info in self.classes.items():
            outer = self.scope(node)
            for base in node.bases:
                info.bases.append(self.names.resolve(base, outer))
                if isinstance(base, ast.Name):
                    found = self.names.one(base.id, outer)
                    if found is not None and isinstance(found[1].node, ast.ClassDef):
                        info.local_bases.append(self.classes[found[1].node])
            for statement in node.body:
                if isinstance(statement, _FUNCTIONS):
                    info.methods[statement.name] = statement
        for attributes in self.attributes.values():
            for attribute in attributes:
                if isinstance(attribute.ctx, ast.Store) and is_self(attribute.value):
                    self._note_given(attribute)

    def _note_given(self, attribute: ast.Attribute) -> None:
        owner = self.class_of(attribute)
        if owner is None:
            return
        parent: ast.AST = self.parents[attribute]
        value: ast.expr | None = None
        if isinstance(parent, (ast.Tuple, ast.List)):  # self.a, self.b = A(), B()
            several, parent = parent.elts, self.parents[parent]
            values = parent.value if isinstance(parent, ast.Assign) else None
            if (
                isinstance(values, (ast.Tuple, ast.List))
                and len(values.elts) == len(several)
                and not any(isinstance(e, ast.Starred) for e in (*values.elts, *several))
            ):
                value = values.elts[several.index(attribute)]
        elif (isinstance(parent, ast.Assign) and attribute in parent.targets) or isinstance(
            parent, ast.AnnAssign
        ):
            value = parent.value
        owner.given[attribute.attr].append(value)
        owner.at[attribute.attr].append(attribute)

    # -- around a node -------------------------------------------------------------------------

    def scope(self, node: ast.AST) -> Scope:
        """Return the scope that a node's names are looked up in, a definition's the outer one."""
        home = self if node in self.parents else self.home(node)
        return self._scope_here(node) if home is None else home._scope_here(node)

    def _scope_here(self, node: ast.AST) -> Scope:
        scopes, parents, homes = self.names.scopes, self.parents, self.homes
        child: Any = node
        at: Any = homes.get(node) or parents.get(node)
        while at is not None:
            if type(at) is Scope:
                return at
            found = scopes.get(at)
            if found is not None and not _is_outside(child, at):
                return found
            child, at = at, homes.get(at) or parents.get(at)
        return scopes[self.tree]

    def imported(self, name: str) -> tuple[Source, str] | None:
        """Return the file that holds a dotted name of an import, and what is left of the name."""
        if name not in self._imported:
            self._imported[name] = files.imported(name, self, Source)
        return self._imported[name]

    def home(self, node: ast.AST) -> Source | None:
        """Return the file that a node stands in: this one, or another that was read."""
        if node in self.parents or node is self.tree:
            return self
        found: Source | None = files.holder(node)
        return found

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the parent, its parent, and so on."""
        parents = self.parents
        if node not in parents:
            home = self.home(node)
            parents = parents if home is None else home.parents
        at = parents.get(node)
        while at is not None:
            yield at
            at = parents.get(at)

    def function_of(self, node: ast.AST) -> Function | None:
        """Return the innermost function around a node."""
        return next((a for a in self.above(node) if isinstance(a, _FUNCTIONS)), None)

    def functions_of(self, node: ast.AST) -> list[Function]:
        """Return the functions around a node, the innermost first."""
        return [a for a in self.above(node) if isinstance(a, _FUNCTIONS)]

    def class_of(self, node: ast.AST) -> ClassInfo | None:
        """Return the class that `self` belongs to at a node."""
        for at in self.above(node):
            if isinstance(at, ast.ClassDef):
                home = self if at in self.classes else self.home(at)
                return None if home is None else home.classes[at]
        return None

    def statement_of(self, node: ast.AST) -> ast.stmt | None:
        """Return the statement that a node is part of."""
        if isinstance(node, ast.stmt):
            return node
        return next((a for a in self.above(node) if isinstance(a, ast.stmt)), None)

    def block_of(self, statement: ast.stmt) -> tuple[list[ast.stmt], int]:
        """Return the list of statements that one stands in, and its place there."""
        home = self if statement in self.parents else self.home(statement)
        return (home or self)._place_of(statement)

    def _place_of(self, statement: ast.stmt) -> tuple[list[ast.stmt], int]:
        if statement not in self._places:
            above = self.parents[statement]
            for field in BLOCKS:
                block = getattr(above, field, None)
                if isinstance(block, list):
                    self._places.update((s, (block, i)) for i, s in enumerate(block))
        return self._places[statement]

    def loops_of(self, node: ast.AST) -> list[ast.For | ast.AsyncFor | ast.While]:
        """Return the loops whose body a node is in, within its function, the innermost first."""
        found: list[ast.For | ast.AsyncFor | ast.While] = []
        child = node
        for at in self.above(node):
            if isinstance(at, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
                break
            if isinstance(at, _LOOPS) and self._is_in(child, at.body):
                found.append(at)
            child = at
        return found

    def _is_in(self, child: ast.AST, block: list[ast.stmt]) -> bool:
        return isinstance(child, ast.stmt) and self._place_of(child)[0] is block

    # -- what things stand for -----------------------------------------------------------------

    def resolve(self, node: ast.AST) -> str | None:
        """Return the dotted name that an expression stands for, or None."""
        home = self.home(node) or self
        return home.names.resolve(node, home.scope(node))

    def value(self, node: ast.AST | None) -> Any:
        """Return the constant that an expression is, or UNKNOWN."""
        if isinstance(node, ast.Constant):
            return node.value
        found = self.interpreter.of(node)
        return found.value if isinstance(found, Const) else UNKNOWN

    def called(self, node: ast.Call) -> Called:
        """Return a call with what it calls, and the arguments that stand in partials and dicts."""
        found = self._called.get(node)
        if found is None:
            home = self.home(node)
            if home is not None and home is not self:
                return home.called(node)
            # Entered first, so that a call that asks for itself ends.
            found = self._called[node] = Called(node, None, [], {}, True, NOTHING)
            made = self._called_anew(node)
            found.name, found.args, found.keywords = made.name, made.args, made.keywords
            found.open, found.target = made.open, made.target
        return found

    def _called_anew(self, node: ast.Call) -> Called:
        args: list[ast.expr] = []
        keywords = {k.arg: k.value for k in node.keywords if k.arg is not None}
        is_open = False
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                items = self.interpreter.of(arg.value)
                if isinstance(items, Items) and items.whole:
                    args += items.elements
                    continue
                is_open = True
            args.append(arg)
        for keyword in node.keywords:
            if keyword.arg is None:
                given = self.interpreter.of(keyword.value)
                if isinstance(given, Dictionary):
                    known = {k: v for k, v in given.entries if isinstance(k, str)}
                    keywords = {**known, **keywords}
                    is_open |= not given.whole or len(known) != len(given.entries)
                else:
                    is_open = True
        target = self.target(node.func)
        while isinstance(target, Bound):
            args = [*target.args, *args]
            keywords = {**dict(target.keywords), **keywords}
            is_open |= target.open or any(isinstance(a, ast.Starred) for a in target.args)
            target = target.target
        name = target.name if isinstance(target, Named) else None
        return Called(node, name, args, keywords, is_open, target)

    def target(self, func: ast.expr) -> Value:
        """Return what a call calls; one that may be None as well is called where it is not."""
        name = self.resolve(func)
        if name is not None and (not self.on_disk or name.startswith(KNOWN)):
            return Named(name)
        found = self.interpreter.of(func)
        if isinstance(found, Choice):
            rest = [option for option in found.options if option != Const(None)]
            found = rest[0] if len(rest) == 1 else found
        return found

    @cached_property
    def uses_nnx(self) -> bool:
        """Whether the file imports Flax's nnx, whose models have train() and eval()."""
        top = self.names.scopes[self.tree]
        return any(
            binding.target.startswith("flax.nnx")
            for bindings in top.bindings.values()
            for binding in bindings
        )

    @cached_property
    def holds_tests(self) -> bool:
        """Whether a function is called as tests are: a script may well be named test_model.py."""
        return any(f.name.startswith("test_") for f in self.functions)

    @cached_property
    def all_called(self) -> list[Called]:
        """Every call whose name is known, in the order of the file."""
        found = [self.called(node) for node in self.calls]
        return [called for called in found if called.name is not None]

    @cached_property
    def _by_name(self) -> dict[str, list[Called]]:
        table: dict[str, list[Called]] = defaultdict(list)
        for called in self.all_called:
            if called.name is not None:
                table[called.name].append(called)
        return table

    @cached_property
    def options(self) -> dict[str, ast.expr]:
        """The defaults of the command line's options, by the names that they are read under."""
        found: dict[str, ast.expr] = {}
        for use in self.attributes.get("add_argument", ()):
            call = self.parents[use]
            if not isinstance(call, ast.Call) or call.func is not use:
                continue
            keywords = {k.arg: k.value for k in call.keywords}
            flags = [a.value for a in (keywords.get("dest"), *call.args) if type(a) is ast.Constant]
            names = [f for f in flags if isinstance(f, str) and (f[:2] == "--" or f[:1] != "-")]
            default = keywords.get("default")
            if names and default is not None:
                found[names[0].lstrip("-").replace("-", "_")] = default
        return found

    def calls_of(self, names: Iterable[str]) -> Iterator[Called]:
        """Yield the calls of any of these names."""
        table = self._by_name
        for name in table:
            if name in names:
                yield from table[name]

    def given(self, node: ast.expr) -> ast.expr | None:
        """Return the one expression that a local name or an attribute of self is given."""
        if isinstance(node, ast.Name):
            found = self.names.one(node.id, self.scope(node))
            value = found[1].node if found is not None and found[1].kind == "value" else None
            return value if isinstance(value, ast.expr) else None
        if isinstance(node, ast.Attribute) and is_self(node.value):
            owner = self.class_of(node)
            for info in owner.family() if owner is not None else ():
                if node.attr in info.given:
                    values = info.given[node.attr]
                    return values[0] if len(values) == 1 else None
        return None


def is_self(node: ast.AST) -> bool:
    """Say whether an expression is the name `self`."""
    return isinstance(node, ast.Name) and node.id == "self"


def _is_outside(child: ast.AST, definition: ast.AST) -> bool:
    """Whether a part of a definition is read around it: a decorator, a base."""
    if isinstance(child, _WITHIN):
        return False
    return any(child in getattr(definition, field, ()) for field in OUTSIDE)
