"""The other files that a file imports, where they stand beside it.

Nothing installed is looked for: only what lies in the package of the file, in its folder, or in a
folder above it up to the root of its project.
"""

from __future__ import annotations

import ast
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from thinned.audit.reading import UnreadableError, may_be_asked, package_of, parse, read

__all__ = ["forget", "imported", "parsed"]

# Parsed files that are kept: a tree takes some hundred bytes for each byte of its file.
_KEPT = 48
# Folders above a file that are searched.
_ABOVE = 5
_ROOTS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_PACKAGES = frozenset(
    {"torch", "torchvision", "tensorflow", "keras", "jax", "flax", "numpy", "scipy", "pandas"}
    | {"haiku", "equinox", "optax", "transformers", "lightning", "pytorch_lightning", "typing"}
    | {"functools", "os", "sys", "math", "dataclasses", "collections", "logging", "re", "abc"}
)


class File(Protocol):
    """A parsed file, as far as imports are asked of it. Who asks says how one is made: `make`, of
    the parsed module, the name of its package, and its path."""

    path: str
    top: str
    on_disk: bool


S = TypeVar("S", bound=File)
Make = Callable[[ast.Module, str, str], S]

_sources: OrderedDict[str, tuple[bytes, Any]] = OrderedDict()
_audited: set[str] = set()


def imported(name: str, source: S, make: Make[S]) -> tuple[S, str] | None:
    """Return the file that holds a dotted name, and what is left of the name; None if not found."""
    top = name.partition(".")[0]
    if not source.on_disk or (top in _PACKAGES and top != source.top):
        return None
    parts = tuple(name.split("."))
    for folder in _folders(os.path.dirname(os.path.abspath(source.path)), source.top):
        found = _file(folder, parts)
        if found is not None:
            path, used = found
            if os.path.abspath(source.path) == path:
                return source, ".".join(parts[used:])
            other = _read(path, make)
            return None if other is None else (other, ".".join(parts[used:]))
    return None


@lru_cache(maxsize=4096)
def _folders(folder: str, top: str) -> tuple[str, ...]:
    """Where the files of absolute imports may stand, the nearest first."""
    found = []
    at = folder
    for _ in range(_ABOVE):
        found.append(at)
        if at == os.path.dirname(at) or os.path.basename(at) in ("site-packages", "src"):
            break
        if any(os.path.exists(os.path.join(at, root)) for root in _ROOTS):
            break
        at = os.path.dirname(at)
    if top:
        at = folder
        while os.path.isfile(os.path.join(at, "__init__.py")):
            at = os.path.dirname(at)
        found = [at, *(f for f in found if f != at)]
    return tuple(found)


@lru_cache(maxsize=2**14)
def _file(folder: str, parts: tuple[str, ...]) -> tuple[str, int] | None:
    """The file of the longest beginning of a dotted name, and how many parts that takes."""
    at, best = folder, None
    for used, part in enumerate(parts, start=1):
        at = os.path.join(at, part)
        if os.path.isfile(f"{at}.py"):
            return f"{at}.py", used
        if not os.path.isdir(at):
            break
        if os.path.isfile(os.path.join(at, "__init__.py")):
            best = os.path.join(at, "__init__.py"), used
    return best


def parsed(code: bytes, package: str, path: str, make: Make[S]) -> S:
    """Return the file of this text: the one that an import led to before, if it is the same.

    Raises
    ------
    UnreadableError if it does not parse.
    """
    full = os.path.abspath(path) if path else ""
    if full in _audited:
        forget()  # a process that lives on, an editor's: files may have changed since
    if os.path.isfile(full):
        _audited.add(full)
    known = _sources.get(full)
    if known is not None and known[0] == code and known[1] is not None:
        kept: S = known[1]
        kept.path = path
        return kept
    made = make(parse(code), package, path)
    if made.on_disk:
        _keep(full, code, made)
    return made


def _keep(path: str, code: bytes, source: File | None) -> None:
    _sources[path] = code, source
    _sources.move_to_end(path)
    if len(_sources) > _KEPT:
        _sources.popitem(last=False)


def _read(path: str, make: Make[S]) -> S | None:
    """Return the file that an import leads to; None where it says nothing of a framework."""
    known = _sources.get(path)
    if known is not None:
        _sources.move_to_end(path)
        found: S | None = known[1]
        return found
    made: S | None = None
    data = b""
    try:
        data = read(path)
        made = make(parse(data), package_of(path), path) if may_be_asked(data) else None
    except (UnreadableError, RecursionError, MemoryError):
        made = None
    _keep(path, data, made)
    return made


def forget() -> None:
    """Drop what was read of other files."""
    _sources.clear()
    _audited.clear()
    _folders.cache_clear()
    _file.cache_clear()
