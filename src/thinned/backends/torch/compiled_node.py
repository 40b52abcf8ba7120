"""The compiled part for PyTorch: noise on plain CPU tensors as a node of its autograd in C++.

Built for one minor version of PyTorch (native/pytorch). With another one everything goes the ways
of eager.py, whose results are the same and whose calls on small tensors take some 15 microseconds
more. Where the part was built and does not load, a warning says so. The environment variable
THINNED_TORCH says which: "compiled" (refused where it is not there) or "python".
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from thinned.kernel import _native

__all__ = ["connect", "dropout", "fresh_seed", "is_compiled", "noise"]


def _nothing(*_: Any) -> None:
    """What there is to say where nothing was compiled: let Python do it."""
    return


# dropout(x, p, at, leading, scale) and noise(x, scale, fill, gaussian, seed, site, step, call,
# threshold, mirror, offset, strides), as native/pytorch has them: a tensor, or None for whatever
# is not theirs to do; and fresh_seed(), 64 bits from PyTorch's default generator.
dropout: Callable[..., Any] = _nothing
noise: Callable[..., Any] = _nothing
fresh_seed: Callable[..., Any] = _nothing
# overlook(kinds): for tests of which holders of a gradient keep it from being written into.
overlook: Callable[..., Any] = _nothing


def is_compiled() -> bool:
    """Whether the compiled part is in use."""
    return noise is not _nothing


def connect(noise_elsewhere: Callable[..., Any], dropout_elsewhere: Callable[..., Any]) -> None:
    """Load the compiled part, if there is one; it calls these for tensors that are not plain."""
    global dropout, fresh_seed, noise, overlook
    wanted = os.environ.get("THINNED_TORCH", "")
    if wanted not in ("", "compiled", "python"):
        raise ValueError(f"thinned: THINNED_TORCH must be compiled or python, got {wanted!r}.")
    name = "thinned._torch_" + "_".join(torch.__version__.split(".")[:2])
    if wanted == "python" or find_spec(name) is None:
        if wanted == "compiled":
            raise ImportError(
                f"thinned: THINNED_TORCH=compiled, but no compiled part was built for PyTorch "
                f"{torch.__version__}. Install from the checkout beside PyTorch 2.13 or newer: pip "
                "install --no-build-isolation --force-reinstall --no-deps . ; or unset it."
            )
        return
    try:
        module: Any = import_module(name)
    except ImportError as error:
        # Built beside another build of this minor version. It saves time and nothing else.
        if wanted == "compiled":
            raise
        warnings.warn(
            f"thinned: the compiled part for PyTorch {torch.__version__} does not load ({error}). "
            "Masks are the same without it, and a call on a small tensor takes some 15 "
            "microseconds longer. To build it for this PyTorch, in the checkout: pip install "
            "--no-build-isolation --force-reinstall --no-deps . THINNED_TORCH=python does "
            "without it and without this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    module.connect(_native.entry, noise_elsewhere, dropout_elsewhere)
    dropout, noise = module.dropout, module.noise
    fresh_seed, overlook = module.fresh_seed, module.overlook
