"""One run at a time for a folder or a file that is to be written.

The lock is on a file beside it. The system frees it when its process ends, however that happens; a
lock file that was left there locks nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinned.errors import InputError

__all__ = ["beside", "locked"]

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# What file systems without locks answer: some network and parallel ones.
_UNLOCKABLE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


def beside(out: Path, kind: str) -> Path:
    """Where what belongs to `out` stands while it is written: in the same folder, so that a rename
    is one step, and under a short name, for `out`'s own may be as long as names can be.
    """
    out = out.absolute()
    digest = hashlib.sha256(out.name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return out.parent / f".thinned-{digest}.{kind}"


@contextmanager
def locked(out: Path) -> Iterator[bool]:
    """Hold the lock of `out`. False where the file system knows no locks, and nothing is held.

    Raises
    ------
    InputError, at once, if another run holds it.
    """
    path = beside(out, "lock")
    handle = _acquired(out, path)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        if sys.platform == "win32":  # an open file cannot lose its name there
            os.close(handle)
            path.unlink(missing_ok=True)
        else:  # the name goes first: whatever opens it from now on locks another file
            path.unlink(missing_ok=True)
            os.close(handle)


def _acquired(out: Path, path: Path) -> int | None:
    """The open lock file under its name. Who held it before may have taken the name away."""
    while True:
        handle = _opened(out, path)
        try:
            _lock(handle)
            if _names(path, handle):
                return handle
        except OSError as reason:
            os.close(handle)
            if reason.errno in _UNLOCKABLE:
                path.unlink(missing_ok=True)
                return None
            if reason.errno not in _BUSY:
                raise
            raise InputError(
                f"{out}: another run of thinned is writing it; wait until it has ended, or choose "
                "another with --out."
            ) from None
        os.close(handle)


def _opened(out: Path, path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as reason:
        raise InputError(
            f"{out}: this cannot be written ({reason.strerror}); choose another with --out."
        ) from None


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # Not lockf: its locks are the process's, and two threads would both hold one.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _names(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
