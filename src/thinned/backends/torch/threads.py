"""On whose threads the kernel runs beside PyTorch: on PyTorch's own, where it can be lent them.

PyTorch's threads go on spinning for milliseconds after each of its operations, on the processors
that threads of ours would wake up on: inside of a training step two threads of ours took longer
than one. A second OpenMP would fight the first in the same way. So none is linked here; where
PyTorch brought libgomp, the kernel is handed the function that runs work on its threads.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

from thinned.kernel import _native

__all__ = ["lend", "threads_for"]


def _addresses() -> tuple[int, int]:
    """Where the functions are that run work on PyTorch's threads and that tell a thread's number;
    zeros where PyTorch has no libgomp."""
    if not hasattr(os, "RTLD_NOLOAD") or not torch.backends.openmp.is_available():
        return 0, 0
    package = Path(torch.__file__).parent
    # Only the copy that PyTorch itself loaded: other packages bring their own.
    for folder in (package / "lib", package.parent / "torch.libs"):
        for file in sorted(folder.glob("libgomp*.so*")):
            try:
                loaded = ctypes.CDLL(str(file), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
                functions = loaded.GOMP_parallel, loaded.omp_get_thread_num
            except (OSError, AttributeError):  # not loaded, or without those functions
                continue
            parallel, number = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
            return parallel, number
    return 0, 0


def lend(wanted: bool = True) -> bool:
    """Whether the kernel runs on PyTorch's threads from now on; a forked child starts without."""
    parallel, number = _addresses() if wanted else (0, 0)
    _native.set_team(parallel, number)
    return parallel != 0


def threads_for(n: int) -> int:
    """How many threads noise on n elements is worth, as the kernel counts: lent ones negative."""
    return _native.threads_beside(n, torch.get_num_threads())


lend()
