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

from thinned.audit.outline import Outline
from thinned.audit.reading import UnreadableError, package_of, parse, read

__all__ = ["forget", "imported", "parsed"]

# Bytes of parsed files that are kept: a tree takes a hundred times as many. And texts that are.
_KEPT = 3 * 2**20
_OUTLINES = 512
# Folders above a file that are searched.
_ABOVE = 5
_INSTALLED = ("site-packages", "dist-packages")
# Imports of imports that are followed from text to text.
_REMOVES = 4
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
_kept = 0
_audited: set[str] = set()


def imported(name: str, source: S, make: Make[S]) -> tuple[S, str] | None:
    """Return the file that holds a dotted name, and what is left of the name; None if not found."""
    top = name.partition(".")[0]
    if not source.on_disk or (top in _PACKAGES and top != source.top):
        return None
    parts = tuple(name.split("."))
    for folder in _folders(os.path.dirname(os.path.abspath(source.path)), source.top, top):
        found = _file(folder, parts)
        if found is not None:
            path, used = found
            if os.path.abspath(source.path) == path:
                return source, ".".join(parts[used:])
            if not _may_matter(path, parts[used:], source.top):
                return None
            other = _read(path, make)
            return None if other is None else (other, ".".join(parts[used:]))
    return None


def _may_matter(path: str, rest: tuple[str, ...], top: str, depth: int = _REMOVES) -> bool:
    """Whether a file is worth parsing for a name in it, which may be an import once more."""
    outline = _outline(path)
    name = rest[0] if rest else ""
    origin = outline.origin(name)
    if origin is None or depth == 0:
        return outline.may_matter(name) or (
            depth > 0
            and any(_may_matter(path, (base,), top, depth - 1) for base in outline.bases(name))
        )
    dots, dotted = origin
    parts = (*dotted.split("."), *rest[1:])
    folder = os.path.dirname(path)
    if not dots and parts[0] in _PACKAGES and parts[0] != top:
        return True
    for _ in range(dots - 1):
        folder = os.path.dirname(folder)
    for at in [folder] if dots else _folders(folder, top, parts[0]):
        found = _file(at, parts)
        if found is not None and found[0] != path:
            return _may_matter(found[0], parts[found[1] :], top, depth - 1)
    return False


@lru_cache(maxsize=4096)
def _folders(folder: str, top: str, asked: str) -> tuple[str, ...]:
    """Where the files of absolute imports of `asked` may stand, the nearest first, seen from a
    package `top`. What is installed beside it is not read."""
    found = []
    at = folder
    for _ in range(_ABOVE):
        if os.path.basename(at) in _INSTALLED and asked != top:
            break
        found.append(at)
        if at == os.path.dirname(at) or os.path.basename(at) in (*_INSTALLED, "src"):
            break
        if any(os.path.exists(os.path.join(at, root)) for root in _ROOTS):
            break
        at = os.path.dirname(at)
    if top:
        at = folder
        while os.path.isfile(os.path.join(at, "__init__.py")):
            at = os.path.dirname(at)
        if asked == top or os.path.basename(at) not in _INSTALLED:
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
    global _kept
    _drop(path)
    _sources[path] = code, source
    _kept += len(code)
    while _kept > _KEPT and len(_sources) > 1:
        _drop(next(iter(_sources)))


def _drop(path: str) -> None:
    global _kept
    known = _sources.pop(path, None)
    if known is not None:
        _kept -= len(known[0])


@lru_cache(maxsize=_OUTLINES)
def _outline(path: str) -> Outline:
    """The text of a file that an import leads to, empty where it cannot be read."""
    try:
        return Outline(read(path))
    except UnreadableError:
        return Outline(b"")


def _read(path: str, make: Make[S]) -> S | None:
    """Return the file that an import leads to, None where it does not parse."""
    known = _sources.get(path)
    if known is not None:
        _sources.move_to_end(path)
        found: S | None = known[1]
        return found
    data = _outline(path).data
    made: S | None = None
    try:
        made = make(parse(data), package_of(path), path)
    except (UnreadableError, RecursionError, MemoryError):
        made = None
    _keep(path, data, made)
    return made


def forget() -> None:
    """Drop what was read of other files."""
    global _kept
    _sources.clear()
    _kept = 0
    _audited.clear()
    _folders.cache_clear()
    _file.cache_clear()
    _outline.cache_clear()
