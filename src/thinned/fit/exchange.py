"""Two folders trade their names in one step, where the system has such a step.

There is no moment at which either name is missing, whenever the process ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

__all__ = ["exchanged"]

# linux/fcntl.h and linux/fs.h; sys/stdio.h of macOS.
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
# Not in this system, or not on this file system.
_WITHOUT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def exchanged(one: Path, other: Path) -> bool:
    """Whether the two have traded names. False, and nothing is done, where there is no such step.

    Raises
    ------
    OSError for every other failure, with nothing done.
    """
    code = _exchange(os.fsencode(one), os.fsencode(other))
    if code in _WITHOUT:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(other))
    return True


def _exchange(one: bytes, other: bytes) -> int:
    """0, or the number of the error."""
    if sys.platform not in ("linux", "darwin"):
        return errno.ENOSYS
    library = ctypes.CDLL(None, use_errno=True)
    # glibc has it since 2.28, musl since 1.2.4.
    name = "renameat2" if sys.platform == "linux" else "renamex_np"
    if not hasattr(library, name):
        return errno.ENOSYS
    if sys.platform == "linux":
        failed = library.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
    else:
        failed = library.renamex_np(one, other, _RENAME_SWAP)
    return ctypes.get_errno() if failed else 0
