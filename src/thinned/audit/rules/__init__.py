"""The rules, a file for each family. Importing this room fills the table."""

from __future__ import annotations

from thinned.audit.rules import (
    attention,
    evaluation,
    jax_calls,
    keras_calls,
    rates,
    torch_calls,
    torch_mode,
    torch_modules,
    torch_order,
    training,
)

__all__ = [
    "attention",
    "evaluation",
    "jax_calls",
    "keras_calls",
    "rates",
    "torch_calls",
    "torch_mode",
    "torch_modules",
    "torch_order",
    "training",
]
