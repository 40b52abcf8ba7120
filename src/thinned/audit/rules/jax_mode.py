"""The mode of models in Flax and Haiku: dropout on in evaluation, never on, or without a key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from thinned.audit.context import is_evaluation, is_guarded, is_monte_carlo, is_test_code, mentions
from thinned.audit.flow import operation
from thinned.audit.jax_keys import in_training
from thinned.audit.rule import Hit, rule
from thinned.audit.rules.torch_calls import unguarded as without_mode
from thinned.audit.source import Source, is_self
from thinned.audit.words import words_of

__all__ = ["always_on", "evaluated_with_dropout", "haiku_unguarded", "never_on", "no_rngs"]

_FLAX = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout"})
_ATTENTION = frozenset(
    f"flax.linen.{kind}"
    for kind in ("MultiHeadDotProductAttention", "MultiHeadAttention", "SelfAttention")
)
_APPLY = frozenset({"apply", "apply_fn"})
_MAKES = frozenset(
    {"prepare", "build", "create", "get", "make", "load", "setup", "init", "define", "new"}
    | {"compile", "restore", "construct", "instantiate", "initialize", "from", "select", "wrap"}
)


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
        if in_training(source, call):
            yield call, "The model is applied in training without rngs: dropout has no key."


def _is_bound(source: Source, call: ast.Call) -> bool:
    """Whether apply belongs to a transformation, as jax.tree.apply or optimizer.apply would."""
    func = call.func
    return not isinstance(func, ast.Attribute) or source.resolve(func.value) is not None


def _has_flax_dropout(source: Source) -> bool:
    return any(source.calls_of(("flax.linen.Dropout",)))


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
    for called in source.calls_of(("keras.backend.set_learning_phase",)):
        function = source.function_of(called.node)
        is_on = bool(called.args) and source.value(called.args[0]) in (1, True)
        if is_on and function is not None and is_evaluation(function.name):
            yield called.node, f"{function.name} runs with the learning phase of training."
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
        if keyword.arg in ("deterministic", "inference") and source.value(keyword.value) is False:
            return f"{keyword.arg}=False"
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
    sentence="A Flax layer that drops has a constant deterministic=False.",
    why="The layer ignores the model's mode, and drops in evaluation too.",
    mend="Pass the model's own flag: deterministic=not train.",
    wrong="x = nn.Dropout(0.5, deterministic=False)(x)",
    right="x = nn.Dropout(0.5, deterministic=not train)(x)",
)
def always_on(source: Source) -> Iterator[Hit]:
    for call, _ in _fixed(source, False):
        yield call, "deterministic is False here for good: the layer drops in evaluation too."


def _fixed(source: Source, value: bool) -> Iterator[tuple[ast.Call, str]]:
    """Calls of Flax's dropout layers whose deterministic is this constant."""
    for call in source.calls:
        found = operation(source, call)
        if found is None or found.built is None:
            continue
        if found.name in _ATTENTION:
            rate = found.built.argument(None, "dropout_rate")
            if rate is None or source.value(rate) == 0:
                continue
        elif found.name not in _FLAX:
            continue
        if is_test_code(source, call) or is_monte_carlo(source, call) or is_guarded(source, call):
            continue
        mode = next((k.value for k in call.keywords if k.arg == "deterministic"), None)
        if mode is None and len(call.args) > 1 and found.name in _FLAX:
            mode = call.args[1]
        # nnx layers carry a switch that eval() sets: built with False is how they should be built.
        if mode is None and found.name.startswith("flax.linen."):
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
