"""Functional dropout and attention in PyTorch: the mode forgotten or fixed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit import drops
from thinned.audit.context import is_guarded, is_in_model, is_module, is_monte_carlo, is_test_code
from thinned.audit.drops import Drop, Verdict, passed_on, short
from thinned.audit.layers import ADDRESSED
from thinned.audit.modes import Says
from thinned.audit.rate import rate
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Source
from thinned.audit.words import words_of

__all__ = ["fixed_mode", "flash", "forgotten_mode", "fused", "judged", "never_drops"]
__all__ += ["through", "unguarded"]

_INFERS = frozenset({"infer", "inference", "decode", "export", "onnx", "predict", "generate"})


def judged(source: Source, code: str) -> Iterator[tuple[Drop, Verdict]]:
    """The calls that drop, here, that are wrong in this way."""
    return ((drop, found) for drop, found in drops.judged(source) if found.code == code)


def through(source: Source, code: str) -> Iterator[tuple[ast.AST, Drop, Verdict]]:
    """The same through calls of the tree's own functions, told where the value is passed.

    A default of the function is told where it is used, unless some call passes what it needs.
    """
    told: set[ast.AST] = set()
    for call, drop, found, passed in passed_on(source):
        if found.code != code:
            continue
        if passed and call not in told:
            told.add(call)
            yield call, drop, found
        elif not passed and drop.source is source and drop.node not in told:
            told.add(drop.node)
            yield drop.node, drop, found


@rule(
    "THN001",
    "functional-dropout-without-training",
    sentence="Functional dropout is called without training=, whose default is True.",
    why="The function knows no module, so that model.eval() does not reach it: it drops in "
    "evaluation too, and every figure measured there is noisy and worse than the model.",
    mend="Pass training=self.training, or use a dropout module, or "
    "thinned.torch.functional, where training must be given.",
    wrong="x = F.dropout(x, 0.5)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def forgotten_mode(source: Source) -> Iterator[Hit]:
    for drop, _ in judged(source, "THN001"):
        of_graphs = (drop.called.name or "").startswith("torch_geometric.utils.")
        if of_graphs and not is_in_model(source, drop.node):
            continue  # a graph that is prepared, once for all
        yield drop.node, f"{drop.label} is called without training=: it drops in evaluation too."
    for node, drop, _ in through(source, "THN001"):
        yield node, f"{drop.label} is reached here without training=: it drops in evaluation too."
    for called in source.calls_of(ADDRESSED):
        if not is_module(source, source.class_of(called.node)) or called.open:
            continue
        facts = ADDRESSED[called.name or ""]
        if called.argument(facts.training, facts.mode) is not None:
            continue
        said = rate(source, called.argument(facts.p, "p"))
        if said in (Says.NEVER, Says.TRAINING, Says.MAYBE) or is_test_code(source, called.node):
            continue
        if not is_guarded(source, called.node) and not is_monte_carlo(source, called.node):
            name = f"thinned.{short(called.name or '')}"
            yield called.node, f"{name} is called without training=: it drops in evaluation too."


@rule(
    "THN002",
    "functional-dropout-always-training",
    sentence="Functional dropout is called with a constant training=True.",
    why="model.eval() cannot reach a constant: the call drops in evaluation too.",
    mend="Pass training=self.training. Where draws in evaluation are meant (Monte Carlo), say so "
    "in the function's name: mc_..., sample_...",
    wrong="x = F.dropout(x, 0.5, training=True)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def fixed_mode(source: Source) -> Iterator[Hit]:
    for drop, _ in judged(source, "THN002"):
        if not _has_address(drop):
            yield drop.node, f"{drop.label} is called with training=True: it drops in evaluation."
    for node, drop, _ in through(source, "THN002"):
        if is_in_model(source, node):  # elsewhere it may be the graph that is trained
            yield node, f"{drop.label} is given training=True here: it drops in evaluation too."


def _has_address(drop: Drop) -> bool:
    """Whether the mask was named: then the draw is meant."""
    return "at" in drop.called.keywords and (drop.called.name or "").startswith("thinned.")


@rule(
    "THN003",
    "functional-dropout-never-drops",
    sentence="Functional dropout never drops: training is False, explicitly or by default.",
    why="The line does nothing, in training too. F.alpha_dropout and F.feature_alpha_dropout have "
    "training=False as default, unlike F.dropout.",
    mend="Pass training=self.training, or delete the line.",
    wrong="x = F.alpha_dropout(x, 0.1)",
    right="x = F.alpha_dropout(x, 0.1, training=self.training)",
)
def never_drops(source: Source) -> Iterator[Hit]:
    for drop, _ in judged(source, "THN003"):
        if drop.mode is None:
            yield drop.node, f"{drop.label} is called without training=, which is False."
        elif not isinstance(drop.mode, ast.Name) and not _never_trains(source, drop.node):
            yield drop.node, f"{drop.label} is called with training=False: nothing is ever dropped."


def _never_trains(source: Source, node: ast.AST) -> bool:
    """Whether a call runs in evaluation alone, by a branch or by the name of its function."""
    return is_guarded(source, node) or any(
        not _INFERS.isdisjoint(words_of(function.name)) for function in source.functions_of(node)
    )


@rule(
    "THN004",
    "attention-dropout-not-guarded",
    sentence="scaled_dot_product_attention is given a dropout_p that does not depend on the mode.",
    why="The function applies dropout_p whatever the mode is: attention drops in evaluation too.",
    mend="Pass dropout_p=self.p if self.training else 0.0.",
    wrong="y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p)",
    right="y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)",
)
def fused(source: Source) -> Iterator[Hit]:
    yield from unguarded(source, "THN004")


@rule(
    "THN005",
    "flash-attention-dropout-not-guarded",
    sentence="Flash or memory-efficient attention is given a probability that does not depend on "
    "the mode.",
    why="These functions apply it whatever the mode is: attention drops in evaluation too.",
    mend="Pass dropout_p=self.p if self.training else 0.0.",
    wrong="y = flash_attn_func(q, k, v, dropout_p=0.1)",
    right="y = flash_attn_func(q, k, v, dropout_p=0.1 if self.training else 0.0)",
)
def flash(source: Source) -> Iterator[Hit]:
    yield from unguarded(source, "THN005")


def unguarded(source: Source, code: str) -> Iterator[Hit]:
    """The calls without a mode of one code, here and through functions of the tree."""
    sentence = "has a probability that does not depend on training."
    for drop, _ in judged(source, code):
        yield drop.node, f"{drop.label} {sentence}"
    for node, drop, _ in through(source, code):
        yield node, f"{drop.label} {sentence}"
