"""Triton's own way to a launch, over a stand-in for the CUDA driver (libcuda.c): kernels are
compiled for sm_90, loaded and given their arguments, and refused where a device would refuse them.
Nothing runs, and nothing is written into arrays."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from triton import knobs
from triton.backends.nvidia import driver as nvidia

HERE = Path(__file__).parent


@cache
def library() -> ctypes.CDLL:
    """The stand-in, built and loaded under the driver's name."""
    folder = Path(mkdtemp())
    file = folder / "libcuda.so.1"
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    include = Path(nvidia.__file__).parent / "include"
    flags = ["-shared", "-fPIC", "-w", f"-I{include}", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *flags, str(HERE / "libcuda.c"), "-o", str(file)], check=True)
    knobs.nvidia.libcuda_path = str(folder)
    return ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)


class Launcher(nvidia.CudaDriver):
    """Triton's driver for CUDA, of one device that stands for an H200."""

    def __init__(self) -> None:
        library()
        self.utils, self.launcher_cls = nvidia.CudaUtils(), nvidia.CudaLauncher

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_capability(self, device: int) -> tuple[int, int]:
        return 9, 0


def launches() -> int:
    """How many kernels were launched so far."""
    return ctypes.c_int.in_dll(library(), "launches").value


def last_grid() -> tuple[int, ...]:
    return tuple((ctypes.c_uint * 3).in_dll(library(), "last_grid"))
