"""What is taken from JAX's inside: every name without a promise, asked for here once.

Where a release lacks one, a warning says what does not work with it, and thinned goes on.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import jax

__all__ = ["NAMES", "needing_devices"]

# Name -> what does not work without it.
NAMES: dict[str, str] = {}


def _taken(name: str, costs: str, instead: Any) -> Any:
    """What stands behind a name; `instead` where this JAX has no such name.

    name : a module of JAX's, a colon, and an attribute of it.
    costs : what does not work then, as the end of a sentence.
    """
    NAMES[name] = costs
    room, _, attribute = name.partition(":")
    try:
        return getattr(import_module(room), attribute)
    except (ImportError, AttributeError):
        warnings.warn(
            f"thinned: JAX {jax.__version__} has no {name.replace(':', '.')}, and {costs}. "
            "Take an older JAX, or a newer thinned.",
            RuntimeWarning,
            stacklevel=2,
        )
        return instead


# The primitives for which the devices must be known when they are lowered.
needing_devices: Any = _taken(
    "jax._src.dispatch:prim_requires_devices_during_lowering",
    "programs for several devices may gather arrays that dropout could leave where they are",
    set(),
)
