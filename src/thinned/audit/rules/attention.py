"""Fused attention, which takes a probability to drop and knows no mode."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thinned.audit.context import (
    is_guarded,
    is_mode,
    is_module,
    is_monte_carlo,
    is_test_code,
    mentions_mode,
)
from thinned.audit.layers import FLASH
from thinned.audit.rule import Hit, rule
from thinned.audit.source import Called, Source, is_self

__all__ = ["flash", "fused"]

_FUSED = "torch.nn.functional.scaled_dot_product_attention"
# How the mode comes to an attribute that train() and eval() do not set themselves.
_SETTERS = frozenset({"__init__", "reset_parameters"})


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
    for called in source.calls_of((_FUSED,)):
        if _is_unguarded(source, called, 4, "dropout_p"):
            yield (
                called.node,
                "scaled_dot_product_attention has a dropout_p that does not depend on training.",
            )


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
    for called in source.calls_of(FLASH):
        position, name = FLASH[called.name or ""]
        if _is_unguarded(source, called, position, name):
            function = (called.name or "").rpartition(".")[2]
            yield (
                called.node,
                f"{function} has a {name} that does not depend on training.",
            )


def _is_unguarded(source: Source, called: Called, position: int, name: str) -> bool:
    p = called.argument(position, name)
    if p is None or is_test_code(source, called.node) or is_monte_carlo(source, called.node):
        return False
    if mentions_mode(source, p) or is_mode(source, p) or is_guarded(source, called.node):
        return False
    return _is_above_zero(source, p)


def _is_above_zero(source: Source, p: ast.expr, depth: int = 4) -> bool:
    """Whether p is seen to be a rate that no mode changes: a constant, or a setting of a module."""
    value = source.value(p)
    if isinstance(value, (int, float)):
        return value > 0
    if depth == 0:
        return False
    if isinstance(p, ast.Name):
        made = source.given(p)
        return made is not None and _is_above_zero(source, made, depth - 1)
    if isinstance(p, ast.IfExp):
        return all(_is_above_zero(source, part, depth - 1) for part in (p.body, p.orelse))
    if isinstance(p, ast.Attribute):
        return _is_setting(source, p)
    return False


def _is_setting(source: Source, p: ast.Attribute) -> bool:
    """Whether `self.p`, or `self.drop.p`, was set once, where the module is built."""
    info = source.class_of(p)
    if not is_module(source, info) or info is None:
        return False
    inner = p.value
    if isinstance(inner, ast.Attribute) and is_self(inner.value):
        return p.attr in ("p", "dropout", "dropout_p", "attention_dropout", "attn_pdrop")
    if not is_self(inner):
        return False
    for member in info.family():
        if p.attr in member.methods:
            return False  # a property may ask for the mode
        places = member.at.get(p.attr)
        if places:
            functions = [source.function_of(place) for place in places]
            if not all(f is not None and f.name in _SETTERS for f in functions):
                return False
            values = member.given[p.attr]
            return not any(value is None or source.value(value) == 0 for value in values)
    return False
