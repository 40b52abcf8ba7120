"""Modules whose calls torch.fx records as wholes, as it does with torch.nn's.

Its Tracer, and those that build on it, ask the module: one whose `__module__` begins with
"torch.nn" is a leaf. So each module that draws has the attribute beside its class's own, which
pickling and all else go by. p and the mode then stay the module's, and nothing is asked at a call.
"""

from __future__ import annotations

from typing import Any, Self

from torch import nn

__all__ = ["LEAF", "Leaf", "leaf", "no_leaf"]

# No name that a compiler, which asks for "torch.nn.", takes for a module of PyTorch's.
LEAF = "torch.nn, and thinned.torch like it"


def leaf(module: nn.Module) -> None:
    """Let torch.fx record the module's calls as wholes."""
    module.__dict__["__module__"] = LEAF


def no_leaf(module: nn.Module) -> None:
    """Undo `leaf`."""
    module.__dict__.pop("__module__", None)


class Leaf:
    """What the modules of the catalogue have in common: each is a leaf, copies and loaded ones too.

    To be named before nn.Module among the bases.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        leaf(made)  # type: ignore[arg-type]  # nn.Module comes next
        return made
