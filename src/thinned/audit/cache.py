"""Findings that are kept from one run to the next, by the content that they were found in.

An entry is one small file of JSON, named by a digest of everything that its findings depend on: the
file's bytes and those of the scanned files that it imports, its path, the rules asked for, Python's
version and the code of the audit itself. An entry is therefore never wrong, only unused; those that
are not used for a month are deleted. Entries are written whole or not at all, so that runs at the
same time do no harm, and one that does not read as findings is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

from thinned.audit.finding import Edit, Finding
from thinned.audit.imports import digest

__all__ = ["Cache"]

_UNUSED_DAYS = 30
_DAY = 24 * 3600
_TYPES = (str, int, int, int, str, int, int, str, str, str, int)  # a Finding's fields but edits
_EDIT = (int, int, int, int, str)


@cache
def _version() -> bytes:
    """A digest of the audit's own code and of Python's version, on which parsing depends."""
    here = Path(__file__).parent
    parts = [repr(sys.version_info[:3]).encode()]
    for file in sorted(here.rglob("*.py")):
        parts += [str(file.relative_to(here)).encode(), file.read_bytes()]
    return digest(*parts)


class Cache:
    """A folder of findings.

    Parameters
    ----------
    folder : str. It is made when the first entry is written.
    codes : iterable of str. The rules that are asked for.
    """

    def __init__(self, folder: str, codes: Iterable[str]) -> None:
        self.folder = folder
        self._asked = digest(_version(), *(code.encode() for code in codes))

    def key(self, path: str, content: bytes) -> str:
        """Return the name of a file's entry; `content` is the digest of all that it depends on."""
        places = (path, os.path.abspath(path))
        return digest(
            self._asked, content, *(p.encode("utf-8", "surrogatepass") for p in places)
        ).hex()

    def get(self, key: str) -> list[Finding] | None:
        """Return the findings of an entry; None if there is none that can be read."""
        file = self._file(key)
        try:
            with open(file, "rb") as stream:
                data = stream.read()
        except OSError:
            return None  # as a rule it was never written
        try:
            findings = [_read(entry) for entry in json.loads(data)]
        except (ValueError, TypeError, RecursionError):
            return None  # a damaged entry, which the next put replaces
        with contextlib.suppress(OSError):  # another's folder may well be closed to writing
            if time.time() - os.stat(file).st_mtime > _DAY:
                os.utime(file)
        return findings

    def put(self, key: str, findings: Iterable[Finding]) -> bool:
        """Keep the findings of a file, and say whether that was possible: a full or closed disk
        ends no audit."""
        file = self._file(key)
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=os.path.dirname(file))
        except OSError:
            return False
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                json.dump([astuple(finding) for finding in findings], stream)
            os.replace(temporary, file)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return False
        return True

    def prune(self) -> None:
        """Delete what was not used for a month. Looked for once a day."""
        mark = os.path.join(self.folder, "pruned")
        now = time.time()
        with contextlib.suppress(OSError):
            if now - os.stat(mark).st_mtime < _DAY:
                return
        with contextlib.suppress(OSError):  # another run may delete the same ones
            Path(mark).touch()
            for file in Path(self.folder).glob("??/*"):
                if now - file.stat().st_mtime > _UNUSED_DAYS * _DAY:
                    file.unlink(missing_ok=True)

    def _file(self, key: str) -> str:
        return os.path.join(self.folder, key[:2], f"{key[2:]}.json")


def _read(entry: Any) -> Finding:
    """A finding from its fields.

    Raises
    ------
    ValueError, TypeError if these are none.
    """
    *fields, edits = entry
    made = tuple(Edit(*_typed(edit, _EDIT)) for edit in edits)
    return Finding(*[*_typed(fields, _TYPES), made])


def _typed(values: Any, types: tuple[type, ...]) -> list[Any]:
    if [type(value) for value in values] != list(types):
        raise TypeError("no finding's fields")
    return list(values)
