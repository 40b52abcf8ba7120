"""Findings that are known and left for later: `--baseline write`, then `--baseline use`.

The file counts findings by path, by code and by the words that they are about, white space apart.
No line stands in it, so that a finding stays known wherever its code moves in the file. A copy of
it elsewhere, or one more of it in the same file, is new.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from thinned.audit.finding import Finding
from thinned.audit.settings import from_root
from thinned.audit.writing import write_whole
from thinned.errors import InputError

__all__ = ["unknown", "write"]

_VERSION = 1
_Known = Counter[tuple[str, str, str]]


def write(file: str, findings: Iterable[Finding]) -> None:
    """Write the findings into a baseline; paths count from its folder.

    Raises
    ------
    InputError if it cannot be written.
    """
    table: dict[str, dict[str, dict[str, int]]] = {}
    for (path, code, words), count in sorted(_counted(file, findings).items()):
        table.setdefault(path, {}).setdefault(code, {})[words] = count
    text = json.dumps({"version": _VERSION, "findings": table}, indent=1) + "\n"
    write_whole(file, text.encode("ascii"))


def unknown(file: str, findings: Sequence[Finding]) -> tuple[list[Finding], int]:
    """Return the findings that a baseline does not know, and how many of its own were not found.

    Of equal findings in one file, the last ones are those that count as new.

    Raises
    ------
    InputError if it is missing or no baseline.
    """
    known = _read(file)
    new = []
    for finding in findings:
        one = _one(file, finding)
        if known[one] > 0:
            known[one] -= 1
        else:
            new.append(finding)
    return new, sum(known.values())


def _counted(file: str, findings: Iterable[Finding]) -> _Known:
    return Counter(_one(file, finding) for finding in findings)


def _one(file: str, finding: Finding) -> tuple[str, str, str]:
    folder = os.path.dirname(os.path.abspath(file))
    words = finding.words or finding.sentence
    return from_root(os.path.abspath(finding.path), folder), finding.code, words


def _read(file: str) -> _Known:
    try:
        with open(file, "rb") as stream:
            whole = json.loads(stream.read())
    except FileNotFoundError:
        raise InputError(
            f"audit: {file} does not exist: thinned audit --baseline write makes the baseline."
        ) from None
    except OSError as error:
        raise InputError(f"audit: {file} could not be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"audit: {file} is no JSON: {error}.") from None
    try:
        if whole["version"] != _VERSION:
            raise InputError(
                f"audit: {file} must be a baseline of version {_VERSION}, but got "
                f"{whole['version']!r}; thinned audit --baseline write makes it anew."
            )
        return Counter(
            {
                (path, code, words): int(count)
                for path, codes in whole["findings"].items()
                for code, found in codes.items()
                for words, count in found.items()
            }
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"audit: {file} is no baseline; thinned audit --baseline write makes one."
        ) from None
