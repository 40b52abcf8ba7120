"""What is taken from JAX's inside: every name without a promise, asked for here once.

Where a release lacks one, a warning says what does not work with it, and thinned goes on.
"""

from __future__ import annotations

from typing import Any

import jax

from thinned.backends.inside import Inside

__all__ = ["NAMES", "jet_rules", "needing_devices"]

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
