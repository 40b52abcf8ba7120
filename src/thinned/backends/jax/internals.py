"""What is taken from JAX's inside: every name without a promise, asked for here once.

Where a release lacks one, a warning says what does not work with it, and thinned goes on.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.interpreters import ad

from thinned.backends.inside import Inside

__all__ = ["NAMES", "jet_rules", "needing_devices", "no_tangent", "outermost_program"]

_inside = Inside("JAX", jax.__version__, "Take an older JAX, or a newer thinned.")
NAMES = _inside.names

# The primitives for which the devices must be known when they are lowered.
needing_devices: Any = _inside.take(
    "jax._src.dispatch:prim_requires_devices_during_lowering",
    "programs for several devices may gather arrays that dropout could leave where they are",
    set(),
)

# The rules of Taylor mode, by primitive.
jet_rules: Any = _inside.take(
    "jax.experimental.jet:jet_rules", "jax.experimental.jet does not go through dropout", {}
)

_trace_context: Any = _inside.take(
    "jax._src.core:trace_ctx",
    "an adopted model of Flax that a traced function closes over cannot count its calls",
    None,
)


def outermost_program() -> Any:
    """What stands for the outermost of the programs that are being traced; None where none is."""
    trace = getattr(_trace_context, "trace", None)
    found = None
    while trace is not None and type(trace).__name__ != "EvalTrace":
        found, trace = trace, getattr(trace, "parent_trace", None)
    return found


def no_tangent(y: Any) -> Any:
    """The tangent of what no derivative goes through."""
    kind: Any = jax.typeof(y)
    return ad.Zero(kind.to_tangent_aval())
