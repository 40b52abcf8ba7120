"""Keys of JAX: used twice, made of a constant, one for a whole batch."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from thinned.audit.context import is_evaluation, is_test_code
from thinned.audit.flow import operation, producer
from thinned.audit.jax_keys import (
    KEYS,
    MAPS,
    Use,
    handed_on,
    in_training,
    is_key,
    runs_model,
    stores,
    uses_equinox,
    uses_of_keys,
)
from thinned.audit.nodes import walk
from thinned.audit.rule import Hit, rule
from thinned.audit.sharing import (
    layers_of_one_key,
    replicated_keys,
    shared_axes,
    speaks_of_dropout,
    splits_thrown_away,
)
from thinned.audit.source import Called, Function, Source, is_self

__all__ = ["fixed_key", "key_twice", "same_generators", "shared_key"]

_GRADIENTS = frozenset(
    {"grad", "value_and_grad", "filter_grad", "filter_value_and_grad", "filter_vjp", "vjp"}
)
_TRAINING = re.compile(r"(?i)train|(?:^|_)step$|update|loss|^forward$|^__call__$")


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
    yield from layers_of_one_key(source)
    yield from splits_thrown_away(source)
    by_name: dict[tuple[Function | None, str], list[Use]] = defaultdict(list)
    drawn = list(uses_of_keys(source))
    for use in [*drawn, *handed_on(source, drawn)]:
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


def _given_between(source: Source, name: str, first: Use, second: Use) -> bool:
    inside = source.function_of(first.call) or source.tree
    low, high = first.call.lineno, second.call.lineno
    return any(low <= line <= high for line in stores(source, name, inside))


def _apart(source: Source, first: Use, second: Use) -> bool:
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


def _repeats(source: Source, name: str, use: Use) -> bool:
    loops = source.loops_of(use.call)
    return bool(loops) and not stores(source, name, loops[0])


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
    yield from _generators_of_a_call(source)
    for use in uses_of_keys(source):
        function = source.function_of(use.call)
        if is_test_code(source, use.call):
            continue
        loops = source.loops_of(use.call)
        made = use.key if isinstance(use.key, ast.Call) else None
        if isinstance(use.key, ast.Name):
            given = source.given(use.key) or _put_before(source, use.key)
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
        if made is None or source.resolve(made.func) not in KEYS or not made.args:
            continue
        if not isinstance(source.value(made.args[0]), int):
            continue
        if function is not None and is_evaluation(function.name):
            continue  # THN063 tells
        in_step = function is not None and (
            _TRAINING.search(function.name) is not None or in_training(source, use.call)
        )
        if loops or (in_step and made is use.key) or (in_step and _is_inner(source, function)):
            yield use.call, "The key for dropout is the same at each step: so is the mask."


def _generators_of_a_call(source: Source) -> Iterator[Hit]:
    """nnx layers that are given generators of a constant seed where they are called."""
    for call in source.calls:
        rngs = next((k.value for k in call.keywords if k.arg == "rngs"), None)
        if not isinstance(rngs, ast.Call) or source.resolve(rngs.func) != "flax.nnx.Rngs":
            continue
        seeds = [*rngs.args, *(k.value for k in rngs.keywords if k.arg in ("dropout", "default"))]
        found = operation(source, call)
        if found is None or found.built is None or found.name != "flax.nnx.Dropout" or not seeds:
            continue
        if isinstance(source.value(seeds[-1]), int) and not is_test_code(source, call):
            yield call, "The generators begin anew at each call: so does the mask."


def _put_before(source: Source, key: ast.Name) -> ast.expr | None:
    """What an argument of a function is given anew before it is used."""
    made = producer(source, key)
    return made if made is not key else None


def _is_kept(source: Source, key: ast.expr) -> bool:
    """Whether a key is an attribute that is set when the module is built, and never again."""
    info = source.class_of(key)
    if not isinstance(key, ast.Attribute) or not is_self(key.value) or info is None:
        return False
    places = info.at.get(key.attr, [])
    functions = [source.function_of(place) for place in places]
    return bool(places) and all(f is not None and f.name == "__init__" for f in functions)


def _is_of_state(source: Source, use: Use) -> bool:
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
    return not replaced and not stores(source, state, step)


def _is_inner(source: Source, function: Function | None) -> bool:
    """Whether a function is one step, and not a whole training run that holds a loop."""
    return function is not None and not any(
        isinstance(n, (ast.For, ast.While)) for n in walk(function)
    )


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
    yield from replicated_keys(source)
    yield from shared_axes(source)
    if not speaks_of_dropout(source) and not uses_equinox(source):
        return
    for call in source.calls:
        if not isinstance(call.func, ast.Call):
            continue
        mapped = source.called(call.func)
        if mapped.name not in MAPS:
            continue
        if is_test_code(source, call):
            continue
        if _closes_over_key(source, call, mapped):
            yield call, "One key serves all rows of the batch: they share one dropout mask."
            continue
        if not runs_model(mapped):
            continue
        axes = mapped.argument(1, "in_axes")
        if not isinstance(axes, (ast.Tuple, ast.List)):
            continue
        for axis, arg in zip(axes.elts, call.args, strict=False):
            if source.value(axis) is None and is_key(arg):
                yield call, "One key serves all rows of the batch: they share one dropout mask."
                break


def _closes_over_key(source: Source, call: ast.Call, mapped: Called) -> bool:
    """Whether what is mapped in training brings its own key: vmap(lambda x: model(x, key=key))."""
    function = source.function_of(call)
    body = mapped.args[0] if mapped.args else None
    inner: ast.expr | None = body
    own: set[str] = set()
    if isinstance(body, ast.Lambda):
        own = {a.arg for a in (*body.args.args, *body.args.kwonlyargs)}
        inner = body.body
    elif not isinstance(body, ast.Call) or source.called(body).name != "functools.partial":
        return False
    if not isinstance(inner, ast.Call) or function is None or not uses_equinox(source):
        return False
    names = {getattr(n, "attr", getattr(n, "id", "")) for n in walk(function)}
    outer = source.functions_of(call)[-1]
    if is_evaluation(outer.name) or is_evaluation(function.name) or "inference_mode" in names:
        return False
    if not any(_is_training(n) for f in source.functions_of(call) for n in (f, *walk(f))):
        return False
    key = next((k.value for k in inner.keywords if k.arg == "key"), None)
    of_random = (source.resolve(inner.func) or "").startswith("jax.random")
    return isinstance(key, ast.Name) and key.id not in own and not of_random


def _is_training(node: ast.AST) -> bool:
    """Whether a function takes a gradient, or is differentiated by its decorator."""
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name in _GRADIENTS or any(
        isinstance(n, (ast.Name, ast.Attribute))
        and getattr(n, "attr", getattr(n, "id", "")) in _GRADIENTS
        for d in getattr(node, "decorator_list", ())
        for n in (d, *walk(d))
    )


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
        streams = {k.arg: k.value for k in rngs.keywords}
        first = streams.get("dropout", rngs.args[0] if rngs.args else None)
        if first is None or is_test_code(source, called.node):
            continue
        seed = source.value(first)
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
