"""Functional dropout in PyTorch: the mode forgotten, the mode fixed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit.context import (
    default_of,
    is_guarded,
    is_mode,
    is_module,
    is_monte_carlo,
    is_test_code,
    mentions_mode,
)
from thinned.audit.layers import ADDRESSED, FUNCTIONAL, Functional
from thinned.audit.names import UNKNOWN
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source

__all__ = ["fixed_mode", "forgotten_mode", "never_drops"]


def _functional(source: Source) -> Iterator[tuple[Called, Functional, str]]:
    """Calls of functional dropout, with the short name of the function."""
    for called in source.calls_of(FUNCTIONAL):
        name = called.name or ""
        yield called, FUNCTIONAL[name], _short(name)


def _addressed(source: Source) -> Iterator[tuple[Called, Functional, str]]:
    """Thinned's functions of an address, where a module calls them."""
    for called in source.calls_of(ADDRESSED):
        if is_module(source, source.class_of(called.node)):
            name = called.name or ""
            yield called, ADDRESSED[name], f"thinned.{_short(name)}"


def _short(name: str) -> str:
    last = name.rpartition(".")[2]
    for room, short in (("torch.nn.functional.", "F."), ("torch.", "torch.")):
        if name.startswith(room) and name.count(".") == room.count("."):
            return short + last
    return last


def _p_is_seen(source: Source, called: Called, facts: Functional) -> bool:
    """Whether p may be above 0 in evaluation, as far as the file shows.

    A p that depends on the mode guards the call; one that the caller passes is the caller's.
    """
    p = called.argument(facts.p, "p", "drop_prob", "dropout_p")
    if p is None:
        return True  # the default, 0.5
    if source.value(p) in (0, 1):
        return False  # nothing is left to chance
    if mentions_mode(source, p) or is_mode(source, p):
        return False
    if isinstance(p, ast.Name):
        found = source.names.lookup(p.id, source.scope(p))
        if found is not None and any(b.kind == "parameter" for b in found[1]):
            default = default_of(found[0].owner, p.id)
            value = source.value(default)
            return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return True


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
    for called, facts, name in (*_functional(source), *_addressed(source)):
        if facts.default is not True or called.open:
            continue
        if called.argument(facts.training, facts.mode) is not None:
            continue
        if not _p_is_seen(source, called, facts) or is_test_code(source, called.node):
            continue
        if is_guarded(source, called.node) or is_monte_carlo(source, called.node):
            continue
        yield called.node, f"{name} is called without training=: it drops in evaluation too."


@rule(
    "THN002",
    "functional-dropout-always-training",
    sentence="Functional dropout is called with a constant training=True.",
    why="model.eval() cannot reach a constant: the call drops in evaluation too.",
    mend="Pass training=self.training. Where draws in evaluation are meant (Monte Carlo), say so "
    "in the function's name: mc_..., sample_..., uncertainty_...",
    wrong="x = F.dropout(x, 0.5, training=True)",
    right="x = F.dropout(x, 0.5, training=self.training)",
)
def fixed_mode(source: Source) -> Iterator[Hit]:
    for called, facts, name in _functional(source):
        mode = called.argument(facts.training, facts.mode)
        if mode is None or called.open or source.value(mode) is not True:
            continue
        if not _p_is_seen(source, called, facts) or is_test_code(source, called.node):
            continue
        if _has_address(called) or is_guarded(source, called.node):
            continue
        if not is_monte_carlo(source, called.node):
            yield called.node, f"{name} is called with training=True: it drops in evaluation too."


def _has_address(called: Called) -> bool:
    """Whether the mask was named: then the draw is meant."""
    return "at" in called.keywords and (called.name or "").startswith("thinned.")


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
    for called, facts, name in _functional(source):
        if called.open or is_test_code(source, called.node):
            continue
        p = called.argument(facts.p, "p", "drop_prob", "dropout_p")
        if p is not None and (source.value(p) == 0 or is_mode(source, p)):
            continue
        mode = called.argument(facts.training, facts.mode)
        if mode is None and facts.default is False:
            yield called.node, f"{name} is called without training=, which is False: nothing drops."
        elif mode is not None and _is_false(source, mode) and not _local(source, mode):
            yield called.node, f"{name} is called with training=False: nothing is ever dropped."


def _is_false(source: Source, mode: ast.expr) -> bool:
    value = source.value(mode)
    return value is not UNKNOWN and value is False


def _local(source: Source, mode: ast.expr) -> bool:
    """Whether the constant has a name, which a reader may change: a switch, not a slip."""
    return isinstance(mode, ast.Name) or is_guarded(source, mode)
