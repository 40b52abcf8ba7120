"""JSON of ours, read with suspicion: what is damaged, or somebody else's, is one sentence.

Python's reader takes more than JSON has (NaN, a key twice) and lets through what nothing here can
work with (1e999, half of a surrogate pair, an integer of thousands of digits).
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from thinned.errors import InputError, quoted

__all__ = ["MOST_BYTES", "MOST_DIGITS", "parsed", "read_bytes", "read_json"]

# A file of ours holds names and numbers, a few megabytes of them where a table is very wide.
MOST_BYTES = 2**30
# More digits than any count or seed has.
MOST_DIGITS = 40


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    InputError, with one sentence that names the file, if it cannot be read or is no such file.
    """
    return parsed(path, read_bytes(path))


def parsed(path: Path, raw: bytes) -> Any:
    """What the content of the JSON file `path` says. Raises as `read_json`."""
    try:
        said = json.loads(
            raw.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_without_doubles,
        )
        json.dumps(said, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    except _JSONError as reason:
        raise InputError(f"{path}: not readable as JSON ({reason}).") from None
    except (ValueError, RecursionError, MemoryError):
        raise InputError(f"{path}: not readable as JSON.") from None
    return said


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file of at most `most` bytes. Raises as `read_json`."""
    try:
        # Not opened before it is known for a file: a pipe would be waited for.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: cannot be read (it is not a file).")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise InputError(
                    f"{path}: {size:,} bytes are more than the {most:,} that it can have."
                )
            return stream.read(most + 1)
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror}).") from None


class _JSONError(ValueError):
    """JSON to Python's reader, but not to us."""


def _no_constant(name: str) -> NoReturn:
    raise _JSONError(f"it holds {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _JSONError(f"it holds {quoted(text)}, which is beyond all numbers")
    return number


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _JSONError(f"it holds a number of {len(text):,} digits")
    return int(text)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _JSONError(f"it says {quoted(name)} twice")
        found[name] = value
    return found
