"""The other files that a file imports, where they stand beside it.

Nothing installed is looked for: only what lies in the package of the file, in its folder, or in a
folder above it up to the root of its project.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING

from thinned.audit.reading import UnreadableError, has_framework, package_of, parse, read

if TYPE_CHECKING:
    from thinned.audit.source import Source

__all__ = ["imported", "root_of"]

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

_sources: OrderedDict[str, Source | None] = OrderedDict()


def imported(name: str, source: Source) -> tuple[Source, str] | None:
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
            other = _read(path)
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


def _read(path: str) -> Source | None:
    from thinned.audit.source import Source

    if path in _sources:
        _sources.move_to_end(path)
        return _sources[path]
    try:
        data = read(path)
        made = Source(parse(data), package_of(path), path) if has_framework(data) else None
    except (UnreadableError, RecursionError, MemoryError):
        made = None
    _sources[path] = made
    if len(_sources) > _KEPT:
        _sources.popitem(last=False)
    return made


def root_of(path: str) -> str:
    """Return the farthest folder that imports of the file may lead to."""
    return _folders(os.path.dirname(os.path.abspath(path)), "")[-1]


def forget() -> None:
    """Drop what was read of other files: they may have changed since."""
    _sources.clear()
    _folders.cache_clear()
    _file.cache_clear()
