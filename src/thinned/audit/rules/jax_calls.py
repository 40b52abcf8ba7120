"""Dropout in JAX: keys used twice, keys left out, keys that never change; the mode in Flax."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from thinned.audit.binding import bind
from thinned.audit.contents import drops_inside
from thinned.audit.context import (
    is_evaluation,
    is_guarded,
    is_monte_carlo,
    is_test_code,
    mentions,
)
from thinned.audit.flow import operation
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.rules.torch_calls import unguarded as without_mode
from thinned.audit.source import Called, Function, Source, is_self
from thinned.audit.values import NOTHING, Built, Class, Function as DefinedFunction, Named, Value
from thinned.audit.words import words_of

__all__ = ["always_on", "evaluated_with_dropout", "fixed_key", "key_twice", "no_rngs", "shared_key"]

_KEYS = frozenset({"jax.random.PRNGKey", "jax.random.key"})
_FLAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout"})
_EQUINOX = frozenset({"equinox.nn.Dropout", "equinox.nn.MultiheadAttention"})
_MAPS = frozenset({"jax.vmap", "equinox.filter_vmap"})
_TRAINING = re.compile(r"(?i)train|(?:^|_)step$|update|loss|^forward$|^__call__$")
_APPLY = frozenset({"apply", "apply_fn"})
_HANDS = 3
_JAX = frozenset({"jax", "flax", "equinox", "haiku", "optax", "chex", "jaxtyping", "distrax"})
_MAKES = frozenset(
    {"prepare", "build", "create", "get", "make", "load", "setup", "init", "define", "new"}
    | {"compile", "restore", "construct", "instantiate", "initialize", "from", "select", "wrap"}
)
_WITH_KEY = frozenset({"haiku.dropout", "jax.random.bernoulli"})


@dataclass(frozen=True, slots=True)
class _Use:
    """A key handed to dropout: the expression that is the key, and the call that takes it."""

    key: ast.expr
    call: ast.Call


def _uses(source: Source) -> Iterator[_Use]:
    if source.names.tops.isdisjoint(_JAX):
        return  # without keys there is nothing to use
    named = any(k.arg in ("rngs", "key") for call in source.calls for k in call.keywords)
    if not named and "apply" not in source.attributes and not any(source.calls_of(_WITH_KEY)):
        return
    for call in source.calls:
        rngs = next((k.value for k in call.keywords if k.arg == "rngs"), None)
        if isinstance(rngs, ast.Dict) and not _is_init(call):
            for name, value in zip(rngs.keys, rngs.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == "dropout":
                    yield _Use(value, call)
            continue
        called = source.called(call)
        key: ast.expr | None = None
        if isinstance(call.func, ast.Attribute) and call.func.attr == "apply" and call.args[2:]:
            # Haiku's: the second argument is the key.
            made = call.args[1]
            if isinstance(made, ast.Call) and source.resolve(made.func) in _KEYS:
                key = made if _in_training(source, call) else None
        elif called.name in _WITH_KEY:
            key = called.argument(0, "rng", "key")
        elif isinstance(call.func, ast.Call):
            key = _mapped_key(source, call, call.func)
        elif _draws(source, call, called.target):
            key = next((k.value for k in call.keywords if k.arg == "key"), None)
        if key is not None:
            yield _Use(key, call)


def _mapped_key(source: Source, call: ast.Call, mapping: ast.Call) -> ast.expr | None:
    """The keys that a model of Equinox, mapped over a batch, is given: vmap(model)(x, keys)."""
    mapped = source.called(mapping)
    if mapped.name not in _MAPS or not _uses_equinox(source) or not _runs_model(mapped):
        return None
    if not any(source.calls_of(_EQUINOX)):
        return None
    return next((arg for arg in reversed(call.args) if _is_key(arg)), None)


def _handed_on(source: Source, uses: list[_Use]) -> list[_Use]:
    """Calls of the file's own functions that draw with a key which they are given, at first or
    second hand."""
    draws: dict[ast.AST, set[str]] = defaultdict(set)
    found: list[_Use] = []
    seen: set[ast.AST] = set()
    for _ in range(_HANDS):
        for use in uses:
            if isinstance(use.key, ast.Name):
                for function in source.functions_of(use.call):
                    name = _split_of(use.key.id, function)
                    if not _stores(source, name, function):
                        draws[function].add(name)
        uses = []
        for call in source.calls if draws else ():
            called = source.called(call)
            target = called.target
            if call in seen or not isinstance(target, DefinedFunction):
                continue
            if target.node not in draws:
                continue
            seen.add(call)
            frame = bind(target.node, called, target.skip, None)
            keys = [frame.given.get(name) for name in draws[target.node]] if frame else []
            uses += [_Use(key, call) for key in keys if key is not None]
        found += uses
    return found


def _split_of(name: str, function: Function) -> str:
    """The name of the key that one was split off in a function; itself where it was not."""
    given = [
        node.value
        for node in walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(n, ast.Name) and n.id == name for t in node.targets for n in walk(t))
    ]
    made = given[0] if len(given) == 1 else None
    first = made.args[0] if isinstance(made, ast.Call) and made.args else None
    if isinstance(made, ast.Call) and isinstance(first, ast.Name) and _last(made.func) == "split":
        return first.id
    return name


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def _draws(source: Source, call: ast.Call, target: Value) -> bool:
    """Whether what is called is a module of Equinox that draws: dropout, or one that holds some."""
    if isinstance(target, Built) and isinstance(target.kind, Named):
        return target.kind.name in _EQUINOX
    if isinstance(target, Built):
        return drops_inside(source, target) or _has_field(source, target)
    # self.attn(x, key=key), of which nothing is known but that it is part of a module
    root = call.func
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    info = source.class_of(call)
    return (
        root is not call.func
        and isinstance(root, ast.Name)
        and root.id == "self"
        and info is not None
        and "equinox.Module" in info.bases
        and target is NOTHING
    )


def _has_field(source: Source, value: Built) -> bool:
    """Whether a class of the tree declares a field that drops: dropout: eqx.nn.Dropout."""
    if not isinstance(value.kind, Class):
        return False
    for member in value.kind.info.family():
        for bindings in member.scope.bindings.values():
            for binding in bindings:
                kind = member.source.interpreter.of(binding.annotation)
                if kind == Named("equinox.nn.Dropout"):
                    return True
    return False


def _is_init(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("init", "init_with_output")


@rule(
    "THN060",
    "key-used-twice",
    sentence="One JAX key is used for two draws of dropout.",
    why="Equal keys draw equal masks: the layers, or the steps, drop the same units, and "
    "their noise is not independent.",
    mend="Split it: key1, key2 = jax.random.split(key).",
    wrong="x = self.drop1(x, key=key); x = self.drop2(x, key=key)",
    right="k1, k2 = jax.random.split(key); x = self.drop1(x, key=k1); x = self.drop2(x, key=k2)",
)
def key_twice(source: Source) -> Iterator[Hit]:
    by_name: dict[tuple[Function | None, str], list[_Use]] = defaultdict(list)
    drawn = list(_uses(source))
    for use in [*drawn, *_handed_on(source, drawn)]:
        if isinstance(use.key, ast.Name) and not is_test_code(source, use.call):
            by_name[source.function_of(use.call), use.key.id].append(use)
    for (_, name), uses in by_name.items():
        uses.sort(key=lambda use: (use.call.lineno, use.call.col_offset))
        told = False
        for first, second in pairwise(uses):
            if not _given_between(source, name, first, second) and not _apart(
                source, first, second
            ):
                told = True
                yield second.call, f"The key {name} draws a second mask here: the same one."
                break
        if not told and uses and _repeats(source, name, uses[0]):
            yield uses[0].call, f"The key {name} draws the same mask in each turn of the loop."


def _stores(source: Source, name: str, inside: ast.AST) -> list[int]:
    return [
        node.lineno
        for node in walk(inside)
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
    ]


def _given_between(source: Source, name: str, first: _Use, second: _Use) -> bool:
    inside = source.function_of(first.call) or source.tree
    low, high = first.call.lineno, second.call.lineno
    return any(low <= line <= high for line in _stores(source, name, inside))


def _apart(source: Source, first: _Use, second: _Use) -> bool:
    """Whether only one of the two calls runs: other branches or lambdas, or a return between; or
    they run other parts of a model, whose names Flax folds into the key."""
    parts = [_parts(use.call) for use in (first, second)]
    methods = {
        ast.dump(k.value) for u in (first, second) for k in u.call.keywords if k.arg == "method"
    }
    if len(methods) > 1 or (all(parts) and parts[0].isdisjoint(parts[1])):
        return True
    above = {id(at): at for at in source.above(second.call)}
    child: ast.AST = first.call
    for at in source.above(first.call):
        if isinstance(at, (ast.Lambda, ast.FunctionDef)) and id(at) not in above:
            return True
        if isinstance(at, ast.If) and _leaves(at, child):
            return id(child) not in above
        if id(at) in above:
            return isinstance(at, (ast.If, ast.IfExp, ast.Try, ast.Match)) and not (
                _same_branch(at, child, above)
            )
        child = at
    return False


def _parts(call: ast.Call) -> set[str]:
    """The names of the inputs that a model is given in a dict."""
    return {
        str(key.value)
        for arg in call.args[1:]
        if isinstance(arg, ast.Dict)
        for key in arg.keys
        if isinstance(key, ast.Constant)
    }


def _leaves(branch: ast.If, child: ast.AST) -> bool:
    block = branch.body if child in branch.body else branch.orelse
    return child in block and isinstance(block[-1], (ast.Return, ast.Raise, ast.Continue))


def _same_branch(at: ast.AST, child: ast.AST, above: dict[int, ast.AST]) -> bool:
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        block = getattr(at, name, None)
        members = block if isinstance(block, list) else [block]
        if child in members:
            return any(id(member) in above for member in members)
    return False


def _repeats(source: Source, name: str, use: _Use) -> bool:
    loops = source.loops_of(use.call)
    return bool(loops) and not _stores(source, name, loops[0])


@rule(
    "THN061",
    "flax-apply-without-rngs",
    sentence="A Flax model that has dropout is applied in training without rngs.",
    why="Dropout finds no key: Flax raises an error, in the first training step and not before.",
    mend="Pass rngs={'dropout': key}, with a new key at each step.",
    wrong="logits = model.apply(params, x, train=True)",
    right="logits = model.apply(params, x, train=True, rngs={'dropout': key})",
)
def no_rngs(source: Source) -> Iterator[Hit]:
    if not _has_flax_dropout(source):
        return
    for call in source.calls:
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _APPLY:
            continue
        if any(k.arg is None or k.arg == "rngs" for k in call.keywords):
            continue
        if len(call.args) < 2 or is_test_code(source, call) or _is_bound(source, call):
            continue
        if _in_training(source, call):
            yield call, "The model is applied in training without rngs: dropout has no key."


def _is_bound(source: Source, call: ast.Call) -> bool:
    """Whether apply belongs to a transformation, as jax.tree.apply or optimizer.apply would."""
    func = call.func
    return not isinstance(func, ast.Attribute) or source.resolve(func.value) is not None


def _has_flax_dropout(source: Source) -> bool:
    return any(source.calls_of(("flax.linen.Dropout",)))


def _in_training(source: Source, call: ast.Call) -> bool:
    """Whether the mode is passed as a constant that means training."""
    for keyword in call.keywords:
        value = source.value(keyword.value)
        if keyword.arg in ("train", "training", "is_training") and value is True:
            return True
        if keyword.arg in ("deterministic", "eval", "inference") and value is False:
            return True
    return False


@rule(
    "THN062",
    "constant-dropout-key",
    sentence="The key for dropout is made from a constant at each step.",
    why="Every step then draws the same masks: one thinned network is trained, and no "
    "other ever is.",
    mend="Split the key outside, or fold the step in: jax.random.fold_in(key, step).",
    wrong="logits = model.apply(params, x, rngs={'dropout': jax.random.key(0)})  # in train_step",
    right="logits = model.apply(params, x, rngs={'dropout': jax.random.fold_in(key, step)})",
)
def fixed_key(source: Source) -> Iterator[Hit]:
    for use in _uses(source):
        function = source.function_of(use.call)
        if is_test_code(source, use.call):
            continue
        loops = source.loops_of(use.call)
        made = use.key if isinstance(use.key, ast.Call) else None
        if isinstance(use.key, ast.Name):
            given = source.given(use.key)
            around = source.function_of(given) if given is not None else None
            if isinstance(given, ast.Call) and around in source.functions_of(use.call):
                function = around  # of a loss in it: where the key is made
                made = given
                loops = [loop for loop in loops if loop in source.loops_of(given)]
        if _is_kept(source, use.key):
            yield use.call, "The key for dropout is kept in the module: every call draws one mask."
            continue
        if _is_of_state(source, use):
            yield use.call, "The key of the state is the same at each step: so is the mask."
            continue
        if made is None or source.resolve(made.func) not in _KEYS or not made.args:
            continue
        if not isinstance(source.value(made.args[0]), int):
            continue
        in_step = function is not None and _TRAINING.search(function.name) is not None
        if loops or (in_step and made is use.key) or (in_step and _is_inner(source, function)):
            yield use.call, "The key for dropout is the same at each step: so is the mask."


def _is_kept(source: Source, key: ast.expr) -> bool:
    """Whether a key is an attribute that is set when the module is built, and never again."""
    info = source.class_of(key)
    if not isinstance(key, ast.Attribute) or not is_self(key.value) or info is None:
        return False
    places = info.at.get(key.attr, [])
    functions = [source.function_of(place) for place in places]
    return bool(places) and all(f is not None and f.name == "__init__" for f in functions)


def _is_of_state(source: Source, use: _Use) -> bool:
    """Whether a key is a field of the state that a step of training is given, and the step does not
    put another one there."""
    key = source.given(use.key) if isinstance(use.key, ast.Name) else use.key
    functions = source.functions_of(use.call)
    if not isinstance(key, ast.Attribute) or not isinstance(key.value, ast.Name) or not functions:
        return False
    state, step = key.value.id, functions[-1]
    if state == "self" or state not in {a.arg for a in (*step.args.posonlyargs, *step.args.args)}:
        return False
    calls = [n for n in walk(step) if isinstance(n, ast.Call)]
    if not any(getattr(c.func, "attr", "") == "apply_gradients" for c in calls):
        return False
    replaced = any(k.arg in (key.attr, None) for c in calls for k in c.keywords)
    return not replaced and not _stores(source, state, step)


def _is_inner(source: Source, function: Function | None) -> bool:
    """Whether a function is one step, and not a whole training run that holds a loop."""
    return function is not None and not any(
        isinstance(n, (ast.For, ast.While)) for n in walk(function)
    )


@rule(
    "THN063",
    "dropout-on-in-evaluation",
    sentence="A function that evaluates runs a model with dropout on.",
    why="The figures are those of a model with units missing.",
    mend="Pass deterministic=True (train=False, training=False) there. Where draws are meant, say "
    "so in the function's name: mc_..., sample_...",
    wrong="logits = model.apply(params, x, deterministic=False)  # in eval_step",
    right="logits = model.apply(params, x, deterministic=True)  # in eval_step",
)
def evaluated_with_dropout(source: Source) -> Iterator[Hit]:
    for call in source.calls:
        if not call.keywords:
            continue
        on = _on(source, call)
        function = source.function_of(call)
        if on is None or function is None or not is_evaluation(function.name):
            continue
        if is_monte_carlo(source, call) or is_test_code(source, call) or is_guarded(source, call):
            continue
        if _is_model_call(source, call):
            yield call, f"{function.name} runs the model with {on}: dropout is on in evaluation."


def _on(source: Source, call: ast.Call) -> str | None:
    for keyword in call.keywords:
        if keyword.arg == "deterministic" and source.value(keyword.value) is False:
            return "deterministic=False"
        # self.training is a flag that is set from outside, whatever its first value.
        is_flag = isinstance(keyword.value, ast.Attribute)
        if keyword.arg in ("train", "training", "is_training") and (
            source.value(keyword.value) is True and not is_flag
        ):
            return f"{keyword.arg}=True"
    return None


def _is_model_call(source: Source, call: ast.Call) -> bool:
    """Whether a call applies a model, by the look of it."""
    func = call.func
    if is_self(func):
        return True
    if isinstance(func, ast.Attribute) and func.attr in (*_APPLY, "call", "__call__"):
        return True
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    if set(words_of(name)[:1]) & _MAKES:
        return False  # it builds one
    return mentions(func, re.compile(r"(?i)(?:^|_)(?:model|net|network|encoder|decoder|forward)$"))


@rule(
    "THN064",
    "flax-dropout-always-on",
    sentence="A Flax dropout layer has a constant deterministic=False.",
    why="The layer drops in evaluation too, whatever the model is told.",
    mend="Pass the model's own flag: deterministic=not train.",
    wrong="x = nn.Dropout(0.5, deterministic=False)(x)",
    right="x = nn.Dropout(0.5, deterministic=not train)(x)",
)
def always_on(source: Source) -> Iterator[Hit]:
    for call, _ in _fixed(source, False):
        yield call, "This dropout has deterministic=False for good: it drops in evaluation too."


def _fixed(source: Source, value: bool) -> Iterator[tuple[ast.Call, str]]:
    """Calls of Flax's dropout layers whose deterministic is this constant."""
    for call in source.calls:
        found = operation(source, call)
        if found is None or found.name not in _FLAX or found.built is None:
            continue
        if is_test_code(source, call) or is_monte_carlo(source, call) or is_guarded(source, call):
            continue
        mode = next((k.value for k in call.keywords if k.arg == "deterministic"), None)
        if mode is None and len(call.args) > 1:
            mode = call.args[1]
        # nnx layers carry a switch that eval() sets: built with False is how they should be built.
        if mode is None and found.name == "flax.linen.Dropout":
            mode = found.built.keywords.get("deterministic")
        if mode is not None and source.value(mode) is value:
            yield call, found.name


@rule(
    "THN068",
    "flax-dropout-never-on",
    sentence="A Flax dropout layer has a constant deterministic=True.",
    why="The layer never drops: the model trains without the dropout that its code shows.",
    mend="Pass the model's own flag: deterministic=not train.",
    wrong="x = nn.Dropout(0.5, deterministic=True)(x)",
    right="x = nn.Dropout(0.5, deterministic=not train)(x)",
)
def never_on(source: Source) -> Iterator[Hit]:
    for call, _ in _fixed(source, True):
        function = source.function_of(call)
        if (
            function is not None
            and not is_evaluation(function.name)
            and source.class_of(call) is not None
        ):
            yield call, "This dropout has deterministic=True for good: it never drops."


@rule(
    "THN067",
    "generators-made-anew-for-each-layer",
    sentence="Each nnx layer gets new generators, all of the same seed.",
    why="Streams of one seed draw the same numbers: the layers drop the same units.",
    mend="Make nnx.Rngs once and pass it to every layer.",
    wrong="self.a, self.b = (nnx.Dropout(0.1, rngs=nnx.Rngs(0)) for _ in range(2))",
    right="self.a, self.b = (nnx.Dropout(0.1, rngs=rngs) for _ in range(2))",
)
def same_generators(source: Source) -> Iterator[Hit]:
    seen: set[tuple[ast.AST | None, object]] = set()
    for called in source.calls_of(("flax.nnx.Dropout",)):
        rngs = called.keywords.get("rngs")
        if not isinstance(rngs, ast.Call) or source.resolve(rngs.func) != "flax.nnx.Rngs":
            continue
        if not rngs.args or is_test_code(source, called.node):
            continue
        seed = source.value(rngs.args[0])
        if not isinstance(seed, int):
            continue
        key = source.function_of(called.node), seed
        if key in seen or _in_turns(source, called.node):
            yield called.node, f"nnx.Rngs({seed}) is made anew: this layer's masks are another's."
        seen.add(key)


def _in_turns(source: Source, node: ast.AST) -> bool:
    """Whether a layer is built in each turn of a loop or comprehension."""
    turns = (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)
    return bool(source.loops_of(node)) or any(isinstance(at, turns) for at in source.above(node))


@rule(
    "THN065",
    "haiku-dropout-not-guarded",
    sentence="haiku.dropout is called in every mode.",
    why="The function knows no mode: it drops in evaluation too.",
    mend="Call it only if is_training, or pass rate if is_training else 0.0.",
    wrong="x = hk.dropout(hk.next_rng_key(), 0.5, x)",
    right="x = hk.dropout(hk.next_rng_key(), 0.5 if is_training else 0.0, x)",
)
def haiku_unguarded(source: Source) -> Iterator[Hit]:
    yield from without_mode(source, "THN065")


@rule(
    "THN066",
    "one-key-for-the-whole-batch",
    sentence="A model is mapped over a batch with one dropout key for all rows.",
    why="Every row of the batch then has the same mask, where dropout means one for each.",
    mend="Split the key into one for each row, and map over the keys too.",
    wrong="jax.vmap(model, in_axes=(0, None))(x, key)",
    right="jax.vmap(model)(x, jax.random.split(key, x.shape[0]))",
)
def shared_key(source: Source) -> Iterator[Hit]:
    if not _speaks_of_dropout(source) and not _uses_equinox(source):
        return
    for call in source.calls:
        if not isinstance(call.func, ast.Call):
            continue
        mapped = source.called(call.func)
        if mapped.name not in _MAPS:
            continue
        if is_test_code(source, call) or not _runs_model(mapped):
            continue
        axes = mapped.argument(1, "in_axes")
        if not isinstance(axes, (ast.Tuple, ast.List)):
            continue
        for axis, arg in zip(axes.elts, call.args, strict=False):
            if source.value(axis) is None and _is_key(arg):
                yield call, "One key serves all rows of the batch: they share one dropout mask."
                break


def _runs_model(mapped: Called) -> bool:
    return bool(mapped.args) and mentions(
        mapped.args[0], re.compile(r"(?i)(?:^|_)(?:model|net|network|forward|encoder|decoder|mlp)$")
    )


def _is_key(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and re.search(r"(?i)key|rng", node.id) is not None


def _uses_equinox(source: Source) -> bool:
    """Whether the models are Equinox's, which take a key for dropout and for nothing else."""
    top = source.names.scopes[source.tree]
    return any(b.target == "equinox" for found in top.bindings.values() for b in found)


def _speaks_of_dropout(source: Source) -> bool:
    words = [*source.attributes, *source.loads]
    return any(re.search(r"(?i)dropout", word) for word in words)
