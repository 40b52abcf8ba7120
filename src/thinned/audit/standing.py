"""What a walk along a training loop keeps: the modes of models, and where it stands.

A model's mode is a set of facts, one for each way that leads there.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from thinned.audit.source import Source
from thinned.audit.values import Frame

__all__ = ["Context", "Fact", "Left", "Modes", "Order"]


@dataclass(frozen=True, slots=True)
class Left:
    """A call, in the function that is walked, that left a model in evaluation."""

    node: ast.AST
    direct: bool  # eval() itself, and no function that calls it
    chosen: bool  # in a branch that asks for the mode
    key: str = ""
    entry: int = 0  # which call, entered from the function that is walked


Fact = str | Left  # "T": train() was called; "U": unknown
Modes = dict[str, frozenset[Fact]]


@dataclass(slots=True)
class Context:
    source: Source
    function: ast.AST
    names: dict[str, str]
    me: str
    frame: Frame | None
    depth: int
    top: ast.AST | None
    quiet: bool = False  # without gradients
    # The function that a decorator runs, by the name that it has there.
    wrapped: dict[str, Context] = field(default_factory=dict)
    # What runs where a context manager yields.
    resume: tuple[Sequence[ast.stmt], Context] | None = None


@dataclass(slots=True)
class Order:
    """What left models in evaluation: inside a loop that trains, and before one."""

    inside: list[Left] = field(default_factory=list)
    before: list[Left] = field(default_factory=list)
