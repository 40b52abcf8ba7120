"""The parts of an audit: the observed runs, and the findings about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from thinned.torch.auditing.observer import Observer

__all__ = ["Finding", "Observed"]


class Finding(NamedTuple):
    """One thing that is wrong at one site: what, how it shows, and the mend. kind: of KINDS."""

    site: str
    kind: str
    detail: str
    mend: str


@dataclass
class Observed:
    """The runs of one audit.

    awake : names of modules in training mode after model.eval().
    first : a forward in training before the first evaluation, and `numbers` what modules hold after
        it, by attribute; `numbers_after` those after the first one behind the evaluations.
    shapes : of the tensors that modules hold as attributes, after the first training step.
    overwritten : the error of a backward pass whose tensors were overwritten.
    left : names of modules whose mode differed after a forward, and what had happened.
    """

    model: nn.Module
    names: dict[nn.Module, list[str]]
    rows: int
    evaluations: list[Observer] = field(default_factory=list)
    trainings: list[Observer] = field(default_factory=list)
    noisy: list[Observer] = field(default_factory=list)
    still: Observer | None = None
    awake: set[str] = field(default_factory=set)
    left: list[tuple[list[str], str]] = field(default_factory=list)
    refused: Exception | None = None
    overwritten: Exception | None = None
    first: Observer | None = None
    numbers: dict[nn.Module, dict[str, Any]] = field(default_factory=dict)
    numbers_after: dict[nn.Module, dict[str, Any]] = field(default_factory=dict)
    shapes: dict[nn.Module, set[tuple[int, ...]]] = field(default_factory=dict)
