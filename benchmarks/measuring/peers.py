"""Dropout as it is had elsewhere, and the plain multiply, all on the same arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch._inductor import config as inductor
from torch.nn import functional

import thinned
from benchmarks.measuring.jax_process import JaxProcess
from benchmarks.measuring.timing import Timer, of_call

__all__ = ["DTYPES", "Arrays", "set_threads", "timers"]

DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
# What is compiled is compiled anew for each run and nothing of it stays behind; and no pool of
# compiling processes stands beside what is measured.
_cache = tempfile.TemporaryDirectory(prefix="thinned-bench-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = _cache.name
inductor.compile_threads = 1


class Arrays:
    """x and the output y, as NumPy sees them and as PyTorch does: the same memory."""

    def __init__(self, n: int, dtype: str) -> None:
        rng = np.random.default_rng(0)
        self.dtype = dtype
        self.x = rng.standard_normal(n, np.float32).astype(DTYPES[dtype])
        self.y = np.zeros_like(self.x)
        self.torch_x, self.torch_y = _as_torch(self.x), _as_torch(self.y)


def _as_torch(a: Any) -> torch.Tensor:
    if a.dtype == np.float32:
        return torch.from_numpy(a)
    return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)


def set_threads(threads: int) -> None:
    """For thinned and PyTorch. NumPy has one thread always, JAX has its processes."""
    thinned.set_num_threads(threads)
    torch.set_num_threads(threads)


def _numpy_lines(a: Arrays, p: float) -> Callable[[], object]:
    """rng.random() >= p, x * keep, / (1 - p): what is written by hand, with no array made anew."""
    rng = np.random.default_rng(0)
    uniform = np.empty(a.x.shape, np.float32)
    keep = np.empty(a.x.shape, np.bool_)
    scale = a.x.dtype.type(1 / (1 - p))

    def lines() -> None:
        rng.random(dtype=np.float32, out=uniform)
        np.greater_equal(uniform, p, out=keep)
        np.multiply(a.x, keep, out=a.y)
        np.multiply(a.y, scale, out=a.y)

    return lines


def _compiled(a: Arrays, p: float) -> Callable[[], object]:
    torch._dynamo.reset()

    def into(x: torch.Tensor, y: torch.Tensor) -> None:
        y.copy_(functional.dropout(x, p, training=True))

    # The copy is fused away: the compiled loop writes y, and no array is made.
    fused = torch.compile(into, dynamic=False, fullgraph=True)
    return lambda: fused(a.torch_x, a.torch_y)


def timers(a: Arrays, p: float, jax: JaxProcess) -> dict[str, Timer]:
    """Everybody, by name, ready to be timed on these arrays."""
    at = thinned.Address(seed=0, site="fc1", step=7)
    scale = a.x.dtype.type(1 / (1 - p))
    return {
        "thinned": of_call(lambda: thinned.dropout(a.x, p, at, out=a.y)),
        "numpy.multiply": of_call(lambda: np.multiply(a.x, scale, out=a.y)),
        "torch.mul": of_call(lambda: torch.mul(a.torch_x, float(scale), out=a.torch_y)),
        "F.dropout": of_call(lambda: functional.dropout(a.torch_x, p, training=True)),
        "compiled": of_call(_compiled(a, p)),
        "jax": jax.timer(a.x.size, a.dtype, p),
        "numpy": of_call(_numpy_lines(a, p)),
    }
