"""A file that is whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile

from thinned.errors import InputError, quoted

__all__ = ["write_whole"]


def write_whole(path: str, data: bytes) -> None:
    """Put bytes into a file: all of them or none. One that exists keeps its permissions, and a link
    stays one.

    Raises
    ------
    InputError if it cannot be written; what stood there is then untouched.
    """
    target = os.path.realpath(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=".thinned-", dir=os.path.dirname(target))
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, _mode(target))
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"audit: {quoted(path)} could not be written: {reason}.") from None


def _mode(target: str) -> int:
    try:
        return os.stat(target).st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
