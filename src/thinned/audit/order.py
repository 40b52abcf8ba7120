"""The mode of each model along a training loop: train() and eval() in the order in which they run.

A function is walked as it runs: branches apart and joined again, loops twice, and calls of the
tree's own functions from inside, with the models that they are given. What is looked for is a
gradient step of a model that an earlier call has left in evaluation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import replace

from thinned.audit.binding import bind
from thinned.audit.modes import Says, guard, says
from thinned.audit.nodes import children
from thinned.audit.phases import (
    LEARN,
    called_itself,
    decorated,
    is_alternative,
    is_manager,
    is_module_class,
    is_no_grad,
    learns_inputs,
    matters,
    only_method,
    puts_back,
    wrapper_of,
    yields,
)
from thinned.audit.source import Source
from thinned.audit.standing import Context, Fact, Left, Modes, Order
from thinned.audit.trained import (
    among,
    built_in,
    freezes,
    frozen,
    is_optimizer,
    last_name,
    learners,
    loaded_quiet,
    stepping,
    steps_next,
)
from thinned.audit.values import NOTHING, Built, Frame, Function
from thinned.audit.words import words_of

__all__ = ["Left", "Order", "walked"]

_DEPTH = 4
_STEPS = 6000
_SAME = frozenset({"to", "cuda", "cpu", "double", "half", "float", "train", "eval", "unwrap_model"})
# What is done with a model by functions that do not run it, by the words of their names.
_LOOKS = frozenset(
    {"save", "copy", "deepcopy", "checkpoint", "log", "print", "isinstance", "hasattr", "getattr"}
    | {"type", "len", "str", "id", "summary", "count", "dump", "export", "plot", "watch"}
)
# Words of models that follow another one, and take no gradient step themselves.
_FOLLOWING = frozenset({"ema", "swa", "teacher", "averaged", "momentum", "reference", "frozen"})
# Last words of models, of which another may be the one that is trained.
_RIVALS = frozenset(
    {"model", "net", "network", "classifier", "classifiers", "head", "heads", "linear", "decoder"}
    | {"generator", "policy", "actor", "critic", "student", "unet", "adapter", "probe", "encoder"}
)
# Words of what is put around a model, and sets its mode with its own.
_AROUND = frozenset({"parallel", "ddp", "fsdp", "compile", "wrap", "wrapper", "wrapped"})
# Methods of a model that are no forward pass.
_ASIDE = frozenset(
    {"parameters", "named_parameters", "state_dict", "load_state_dict", "zero_grad", "to", "cuda"}
    | {"cpu", "modules", "named_modules", "children", "requires_grad_", "apply", "half", "float"}
    | {"save_pretrained", "no_sync", "buffers", "add_module", "named_children", "train", "eval"}
    | {"save", "load", "generate", "predict", "register_buffer", "items", "keys", "append"}
)


class _Walk:
    def __init__(self, source: Source, owners: dict[str, set[str]], function: ast.AST) -> None:
        self.modes: Modes = {}
        self.used: Modes = {}
        self.learned: set[str] = set()
        self.trained: set[str] = set()
        self.kept: set[str] = set()  # copies, which nothing trains
        self.optimizers = owners
        self.frozen = frozen(source)
        self.owners = {key for keys in owners.values() for key in keys}
        self.loops: list[ast.AST] = []
        self.active: list[ast.AST] = []
        self.found = Order()
        self.entry = 0
        self.left = _STEPS
        self.source = source
        self.function = function

    # -- statements ----------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.stmt], at: Context) -> bool:
        """Walk statements; say whether what follows them is reached."""
        return all(self.statement(statement, at) for statement in statements)

    def statement(self, node: ast.stmt, at: Context) -> bool:
        self.left -= 1
        if self.left <= 0:
            return False
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return True
        if isinstance(node, ast.If):
            return self._if(node, at)
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            return self._loop(node, at)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            return self._with(node, at)
        if isinstance(node, ast.Try):
            reached = self.block(node.body, at)
            for handler in node.handlers:
                kept = self.modes
                self.modes = dict(kept)
                self.block(handler.body, at)
                self.modes = kept
            self.block(node.orelse, at)
            self.block(node.finalbody, at)
            return reached
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield) and at.resume:
            self.block(*at.resume)
            return True
        for child in children(node):
            if isinstance(child, ast.expr):
                self.expression(child, at)
        if isinstance(node, ast.Assign):
            self._assign(node, at)
        return not isinstance(node, (ast.Return, ast.Raise, ast.Break, ast.Continue))

    def _with(self, node: ast.With | ast.AsyncWith, at: Context) -> bool:
        """The body, where the first manager of the tree that sets a mode yields, or by itself."""
        quiet = at.quiet or any(is_no_grad(at.source, i.context_expr) for i in node.items)
        inside = replace(at, quiet=quiet)
        for item in node.items:
            call = item.context_expr
            target = at.source.called(call).target if isinstance(call, ast.Call) else None
            if isinstance(target, Function) and is_manager(target) and at.depth < _DEPTH:
                assert isinstance(call, ast.Call)
                if self._enter(call, target, at, (node.body, inside)):
                    return True
            self.expression(call, at)
        return self.block(node.body, inside)

    def _if(self, node: ast.If, at: Context) -> bool:
        self.expression(node.test, at)
        said = says(at.source, node.test, at.frame)
        if said is Says.ALWAYS or puts_back(at.source, node):
            return self.block(node.body, at)
        if said is Says.NEVER:
            return self.block(node.orelse, at)
        before, used = self.modes, self.used
        ends: list[tuple[Modes, Modes]] = []
        for block in (node.body, node.orelse):
            self.modes, self.used = dict(before), dict(used)
            if self.block(block, at):
                ends.append((self.modes, self.used))
        self.modes, self.used = before, used
        if ends:
            self.modes = _joined(modes for modes, _ in ends)
            self.used = _joined(uses for _, uses in ends)
        return bool(ends)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, at: Context) -> bool:
        self.expression(node.test if isinstance(node, ast.While) else node.iter, at)
        own = at.depth == 0
        if own:
            self.active.append(node)
        for _ in range(2):
            entered = dict(self.modes)
            self.block(node.body, at)
            self.modes = _joined([self.modes]) if self.modes else entered
        if own:
            self.active.pop()
        self.block(node.orelse, at)
        return True

    def _assign(self, node: ast.Assign, at: Context) -> None:
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            return
        name, value = node.targets[0].id, node.value
        while isinstance(value, ast.Call) and value.args:
            if _AROUND.isdisjoint(words_of(last_name(value.func, as_written=True))):
                break
            value = value.args[0]
        key = self.key(value, at)
        if key is not None:
            for keys in (*self.optimizers.values(), self.owners):
                if f"local {name}" in keys:  # what an optimizer of this name has is this model's
                    keys.add(key)
            at.names[name] = key
        elif isinstance(value, ast.Call):
            at.names.pop(name, None)  # another object now: a copy, say
            own = self.key(node.targets[0], at)
            if own is not None and last_name(value.func) in ("deepcopy", "copy"):
                self.kept.add(own)
            if own is not None:
                loaded = not at.depth and loaded_quiet(at.source, value)
                fact: Fact = self._left_by(value, own, at) if loaded else "U"
                self.modes[own] = frozenset({fact})

    # -- expressions ---------------------------------------------------------------------------

    def expression(self, node: ast.expr, at: Context) -> None:
        """Walk the calls of an expression, those inside first."""
        if isinstance(node, ast.Lambda):
            return
        for child in children(node):
            if isinstance(child, ast.expr):
                self.expression(child, at)
            elif isinstance(child, ast.keyword):
                self.expression(child.value, at)
            elif isinstance(child, ast.comprehension):
                self.expression(child.iter, at)
        if isinstance(node, ast.Call):
            self._call(node, at)

    def key(self, node: ast.expr, at: Context) -> str | None:
        """Return a name for the object that an expression is, the same wherever it is met."""
        if isinstance(node, ast.Name):
            if node.id == "self" and at.me:
                return at.me
            known = at.names.get(node.id)
            if known is not None:
                return known
            found = at.source.names.lookup(node.id, at.source.scope(node))
            if found is not None and found[0].owner is at.source.tree:
                return f"global {node.id}"
            if found is not None and found[0].owner is self.function:
                return f"local {node.id}"  # seen from a function inside
            return f"{at.depth}{id(at.function)} {node.id}" if at.depth else f"local {node.id}"
        if isinstance(node, ast.Attribute):
            inner = self.key(node.value, at)
            if inner is None or node.attr == "module":
                return inner
            return f"{inner}.{node.attr}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _SAME
        ):
            if node.func.attr == "unwrap_model" and node.args:
                return self.key(node.args[0], at)
            return self.key(node.func.value, at)
        return None

    def _call(self, node: ast.Call, at: Context) -> None:
        self.left -= 1
        func = node.func
        if isinstance(func, ast.Attribute) and self.left > 0:
            if func.attr in ("train", "eval") and self._set(node, func, at):
                return
            if func.attr == "step" and "scaler" in last_name(func.value):
                self.used = {}
                return
            steps = func.attr == "step" or (func.attr == "update" and at.source.uses_nnx)
            if func.attr in LEARN or (steps and is_optimizer(func.value)):
                self._learn(node, at)
                return
        if isinstance(func, ast.Name) and func.id in at.wrapped:
            inner = at.wrapped[func.id]
            self.block(getattr(inner.function, "body", []), inner)
            return
        target = called_itself(at.source.called(node).target)
        if target is NOTHING and isinstance(func, ast.Attribute):
            target = decorated(at.source, func) or only_method(at.source, func) or target
        if (
            isinstance(target, Function)
            and at.depth < _DEPTH
            and self.left > 0
            and self._enter(node, target, at)
        ):
            return
        self._use(node, target, at)

    def _set(self, node: ast.Call, func: ast.Attribute, at: Context) -> bool:
        """train() or eval() of a model; False for a method of the tree that has this name."""
        key = self.key(func.value, at)
        if key is None or len(node.args) > 1 or is_optimizer(func.value):
            return key is None or is_optimizer(func.value)
        target = at.source.called(node).target
        if isinstance(target, Function) and not is_module_class(target):
            return False
        fact: Fact = "T"
        if func.attr == "eval":
            if node.args or node.keywords:
                return True
            aside = is_alternative(at.source, node) or freezes(at.function, func.value)
            fact = "U" if aside else self._left_by(node, key, at)
        elif node.args or node.keywords:
            mode = node.args[0] if node.args else node.keywords[0].value
            said = says(at.source, mode, at.frame)
            if said is Says.NEVER:
                frozen = freezes(at.function, func.value)
                fact = "U" if frozen else self._left_by(node, key, at)
            elif said is not Says.ALWAYS:
                fact = "U"
        if fact == "T":
            self.trained.add(key)
        for known in {*self.modes, *self.used, key}:
            if known == key or known.startswith(f"{key}."):
                if known == key or known in self.modes:
                    self.modes[known] = frozenset({fact})
                if not isinstance(fact, Left):
                    self.used.pop(known, None)  # what ran before was no part of this step
        return True

    def _left_by(self, node: ast.Call, key: str, at: Context) -> Left:
        chosen = guard(at.source, node, at.frame, around=False) in (
            Says.TRAINING,
            Says.EVALUATION,
        )
        return Left(at.top or node, at.top is None, chosen, key, self.entry if at.depth else 0)

    def _learn(self, node: ast.Call, at: Context) -> None:
        if learns_inputs(at.source, node):
            return
        asked = guard(at.source, node, at.frame, around=False) is not Says.NOTHING
        own = self._own(node, at)
        for key, facts in self.used.items():
            if key in self.kept or not _FOLLOWING.isdisjoint(words_of(key)):
                continue
            if (own and not among(key, own)) or key in self.frozen:
                continue
            lefts = [fact for fact in facts if isinstance(fact, Left)]
            for left in lefts:
                if (left.chosen and asked) or (at.depth and left.entry == self.entry):
                    continue  # within one call: told of the function that is called
                inside = any(loop in self.active for loop in self._loops_of(left.node))
                known = self._is_trained(key) and not self._is_of_another(key)
                if inside and known:
                    self.found.inside.append(left)
                elif (
                    not inside
                    and len(facts) == 1
                    and left.direct
                    and key not in self.trained
                    and (sum(k in self.modes for k in self.used) == 1 or key in self.owners)
                ):
                    self.found.before.append(left)
            if len(lefts) < len(facts):
                self.learned.add(key)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("step", "update"):
            self.used = {}

    def _own(self, node: ast.Call, at: Context) -> set[str]:
        """The models of the optimizer that steps here, or next, where all of it is seen."""
        name = steps_next(at.source, node)
        built = built_in(at.function).get(name)
        if built is not None:
            rooms = [f"{at.depth}{id(at.function)}"] if at.depth else ["local", "global"]
            own = {f"{room} {model}" for room in rooms for model in built}
            return own | {at.names[model] for model in built if model in at.names}
        owned = self.optimizers.get(name, set())
        others = {key for other in self.optimizers for key in self.optimizers[other]} - owned
        # Of several optimizers each has its own: another's models are not trained by this step.
        return owned if others and all(key.startswith("self.") for key in owned) else set()

    def _is_trained(self, key: str) -> bool:
        """Whether a model is trained for sure: by an optimizer, by train(), or as the only one."""
        if key in self.trained or among(key, self.owners):
            return True
        rivals = {other for other in self.used if _RIVALS & set(words_of(other)[-1:])} - {key}
        return key in self.learned and not rivals

    def _is_of_another(self, key: str) -> bool:
        """Whether the optimizers that step in the loop are known, and have other models."""
        if not self.active:
            return False
        owned = [self.optimizers.get(name) for name in stepping(self.active[0])]
        if not owned or not all(owned):
            return False
        return not any(among(key, keys) for keys in owned if keys)

    def _loops_of(self, node: ast.AST) -> list[ast.AST]:
        return list(self.source.loops_of(node))

    def _enter(
        self,
        node: ast.Call,
        target: Function,
        at: Context,
        resume: tuple[Sequence[ast.stmt], Context] | None = None,
    ) -> bool:
        if isinstance(target.node, ast.Lambda) or (yields(target.node) and resume is None):
            return False
        called = at.source.called(node)
        frame = bind(target.node, called, target.skip, at.frame)
        if frame is None:
            frame = Frame(target.node, {}, at.frame)  # its arguments are not seen
        if frame.depth > _DEPTH + 1:
            return False
        names = {}
        for name, given in frame.given.items():
            if at.source.home(given) is at.source:
                key = self.key(given, at)
                if key is not None:
                    names[name] = key
        me = ""
        if target.skip and isinstance(node.func, ast.Attribute):
            me = self.key(node.func.value, at) or "?"
        elif target.skip:
            me = self.key(node.func, at) or "?"  # an object that is called itself
        quiet = at.quiet or any(is_no_grad(target.source, d) for d in target.node.decorator_list)
        inner = Context(
            target.source, target.node, names, me, frame, at.depth + 1, at.top or node, quiet
        )
        inner.resume = resume
        body = target.node.body
        around = wrapper_of(target)
        if around is not None:
            name, wrapper = around
            inner = replace(
                inner, source=wrapper.source, function=wrapper.node, wrapped={name: inner}
            )
            body = getattr(wrapper.node, "body", [])
        elif not matters(target.source, target.node):
            return False
        before = set(self.used)
        if not at.depth:
            self.entry += 1
        self.block(body, inner)
        own = f"{inner.depth}{id(target.node)} "
        for key in set(self.used) - before:
            if key.startswith(own):
                del self.used[key]  # built in there, and gone: no part of a later step
        return True

    def _use(self, node: ast.Call, target: object, at: Context) -> None:
        """A forward pass, or a model handed to a function that is not seen."""
        if at.quiet:
            return
        func = node.func
        if target is NOTHING or isinstance(target, Built):
            key = self.key(func, at) if isinstance(func, (ast.Name, ast.Attribute)) else None
            if key is not None and (key in self.modes or isinstance(func, ast.Name)):
                self._used(key)
            if isinstance(func, ast.Attribute) and func.attr not in _ASIDE:
                inner = self.key(func.value, at)
                if inner is not None and inner in self.modes:
                    self._used(inner)
                elif key is not None and isinstance(func.value, ast.Name):
                    self._used(key)
        if not _LOOKS.isdisjoint(words_of(last_name(func))):
            return
        for arg in (*node.args, *(k.value for k in node.keywords)):
            if isinstance(arg, (ast.Name, ast.Attribute)):
                key = self.key(arg, at)
                if key is not None and key in self.modes:
                    self._used(key)

    def _used(self, key: str) -> None:
        # A module without a mode has the mode of the module that holds it.
        outer = key
        while outer and outer not in self.modes and "." in outer:
            outer = outer.rpartition(".")[0]
        self.used[key] = self.modes.get(outer, frozenset({"U"}))


def _joined(ends: Iterable[Modes]) -> Modes:
    found: Modes = {}
    ends = list(ends)
    for modes in ends:
        for key in modes:
            if key not in found:
                found[key] = frozenset().union(*(m.get(key, frozenset({"U"})) for m in ends))
    return found


def walked(source: Source, function: ast.AST) -> Order:
    """Walk a function, or the top level of a file, and return what left models in evaluation."""
    walk = _Walk(source, learners(source), function)
    method = isinstance(source.parents.get(function), ast.ClassDef)
    at = Context(source, function, {}, "self" if method else "", None, 0, None)
    body = getattr(function, "body", [])
    walk.block(body, at)
    return walk.found
