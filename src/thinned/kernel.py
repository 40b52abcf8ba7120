"""Which kernel makes the masks on this machine, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from thinned.checks import integer
from thinned.foreign_arguments import answering

try:
    from thinned import _native as _native  # from here on it is as set below
except ImportError as error:
    raise ImportError(
        f"thinned: the compiled module does not load ({error}). Install thinned again for this "
        "Python and processor: nothing slower takes its place in silence."
    ) from error

__all__ = ["KernelInfo", "kernel_info", "set_num_threads"]

REFERENCE = "reference"


class KernelInfo(NamedTuple):
    """What `kernel_info` returns.

    name : the kernel in use: "reference", "baseline", "avx2", "avx512" or "neon".
    threads : the most threads that one call uses.
    runnable : the names that THINNED_KERNEL may have on this processor.
    devices : of each accelerator that PyTorch sees, once thinned drew on its tensors or
        thinned.torch was imported, what draws there: "triton" (kernels of ours) or "operations"
        (PyTorch's own, many to a mask). {"cuda:0": "triton"}, say.
    """

    name: str
    threads: int
    runnable: tuple[str, ...]
    devices: dict[str, str] = {}  # noqa: RUF012 (a default of a named tuple is never written into)


_use_reference = False
# Functions for what KernelInfo says of devices: each backend that draws on some adds one here.
_of_devices: list[Callable[[], dict[str, str]]] = []


def kernel_info() -> KernelInfo:
    """The kernel in use, the most threads a call uses, and what else could run here.

    The fastest that the processor can run is chosen when the compiled module is loaded, with the
    first draw or this question. The environment variable THINNED_KERNEL forces another,
    THINNED_NUM_THREADS the number of threads.

    Examples
    --------
    >>> import thinned
    >>> thinned.kernel_info().name in thinned.kernel_info().runnable
    True
    """
    name = REFERENCE if _use_reference else _native.used()
    devices = {device: path for asked in _of_devices for device, path in asked().items()}
    return KernelInfo(name, _native.num_threads(), (REFERENCE, *_native.runnable()), devices)


def tell_devices(paths: Callable[[], dict[str, str]]) -> None:
    """From now on `kernel_info` says of devices what `paths` returns."""
    _of_devices.append(paths)


@answering
def set_num_threads(n: int) -> None:
    """Let one call use at most `n` threads, the calling one among them.

    Results do not depend on it. Arrays of fewer than some hundred thousand elements are always
    done by the calling thread alone.

    Raises
    ------
    ValueError if n is not positive. TypeError if it is no integer.
    """
    _native.set_num_threads(integer("set_num_threads", "n", n, 1, 2**15))


def use_kernel(name: str) -> None:
    """Run this kernel from now on, in the whole process. ValueError if it cannot run here."""
    global _use_reference
    if name != REFERENCE and not _native.use(name):
        built = (REFERENCE, *_native.built())
        why = "cannot run on this processor" if name in built else "is not a kernel of this build"
        raise ValueError(
            f"thinned: THINNED_KERNEL={name} {why}. It can be "
            f"{', '.join((REFERENCE, *_native.runnable()))}; unset it for the fastest."
        )
    _use_reference = name == REFERENCE
    _native.use_reference(_use_reference)


def uses_reference() -> bool:
    """Whether masks are drawn by reference.py instead of a compiled kernel."""
    return _use_reference


def _threads_allowed() -> int:
    """Threads to begin with: THINNED_NUM_THREADS, else OMP_NUM_THREADS, else the processors.

    OMP_NUM_THREADS counts because process pools set it in their workers, so that these do not take
    each other's processors.
    """
    for name in ("THINNED_NUM_THREADS", "OMP_NUM_THREADS"):
        asked = os.environ.get(name, "").strip()
        if asked.isdecimal() and int(asked) > 0:
            return min(int(asked), 2**15 - 1)
        if asked and name == "THINNED_NUM_THREADS":
            raise ValueError(f"thinned: {name} must be a positive integer, got {asked!r}.")
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_native.set_num_threads(_threads_allowed())
if os.environ.get("THINNED_KERNEL"):
    use_kernel(os.environ["THINNED_KERNEL"])
