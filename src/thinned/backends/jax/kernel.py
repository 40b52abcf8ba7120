"""The compiled kernel as a foreign function of XLA's, on the CPU."""

from __future__ import annotations

import os
import warnings
from typing import Any

import jax
import numpy as np

from thinned.kernel import _native

__all__ = ["TYPES", "kernel_draw", "kernel_noise", "runs_kernel"]

LAWS = {"bernoulli": 0, "gaussian": 1, "mask": 2, "words": 3, "raw_gaussian": 4}
# The laws of a draw without an array, and the type of what is drawn.
TYPES = {"mask": np.dtype(bool), "words": np.dtype(np.uint32), "gaussian": np.dtype(np.float32)}
_struct: Any = jax.ShapeDtypeStruct
_registered: bool | None = None


def runs_kernel() -> bool:
    """Whether XLA takes the kernel. The first call registers it."""
    global _registered
    if _registered is None:
        try:
            for name in ("noise", "draw"):
                target = getattr(_native, f"xla_{name}")
                jax.ffi.register_ffi_target(f"thinned_{name}", target, platform="cpu")
            _registered = True
        except Exception as error:  # XLA has another major version of the interface
            if os.environ.get("THINNED_KERNEL"):  # the kernel is required
                raise
            warnings.warn(
                f"thinned: this JAX does not take the compiled kernel ({error}); dropout runs as "
                "operations of XLA, several times slower.",
                RuntimeWarning,
                stacklevel=2,
            )
            _registered = False
    return _registered


def _how(law: str, how: Any) -> Any:
    return np.array([LAWS[law], how.mirror, how.batch, *how.strides], np.int64)


def kernel_noise(*operands: Any, how: Any) -> Any:
    """The values of primitives.noise_p."""
    x = operands[0]
    call: Any = jax.ffi.ffi_call("thinned_noise", _struct(x.shape, x.dtype))
    return call(*operands, fill=np.array([how.fill], np.float64), how=_how(how.law, how))


def kernel_draw(words: Any, how: Any) -> Any:
    """The values of primitives.draw_p."""
    law = "raw_gaussian" if how.law == "gaussian" else how.law
    shape = (*words.shape[: how.batch], *how.shape)
    call: Any = jax.ffi.ffi_call("thinned_draw", _struct(shape, TYPES[how.law]))
    return call(words, how=_how(law, how))
