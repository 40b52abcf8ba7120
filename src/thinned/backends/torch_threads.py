"""On whose threads the kernel runs beside PyTorch: on PyTorch's own, where it can be lent them.

PyTorch's threads go on spinning for milliseconds after each of its operations, on the processors
that threads of ours would wake up on: inside of a training step two threads of ours took longer
than one. A second OpenMP would fight the first in the same way. So none is linked here; where
PyTorch brought libgomp, the kernel is handed the one function that runs work on its threads.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

from thinned import _native

__all__ = ["lend", "threads_for"]

# Elements up to which the calling thread does it alone: on PyTorch's threads, which are awake.
SERIAL_LENT = 2**17
# The same on threads of ours, by kernel; the kernels' own cut-off where none is named.
SERIAL = {"avx512": 2**21, "avx2": 2**20}


def _address() -> int:
    """Where the function is that runs work on PyTorch's threads; 0 where it has no libgomp."""
    if not hasattr(os, "RTLD_NOLOAD") or not torch.backends.openmp.is_available():
        return 0
    package = Path(torch.__file__).parent
    # Only the copy that PyTorch itself loaded: other packages bring theirs.
    for folder in (package / "lib", package.parent / "torch.libs"):
        for file in sorted(folder.glob("libgomp*.so*")):
            try:
                loaded = ctypes.CDLL(str(file), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
                return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value or 0
            except (OSError, AttributeError):  # not loaded, or without that function
                continue
    return 0


def lend(wanted: bool = True) -> bool:
    """Whether the kernel runs on PyTorch's threads from now on; a forked child starts without."""
    global _lent
    address = _address() if wanted else 0
    _native.set_team(address)
    _lent = address != 0
    return _lent


def _forked() -> None:
    global _lent
    _lent = False


_lent = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
lend()


def threads_for(n: int) -> int:
    """How many threads noise on n elements is worth, as the kernel is told: lent ones negative."""
    if _lent:
        return 1 if n <= SERIAL_LENT else -torch.get_num_threads()
    return 1 if n <= 2**17 or n <= SERIAL.get(_native.used(), 0) else torch.get_num_threads()
