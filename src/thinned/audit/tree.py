"""The other files that a file imports, where they stand beside it.

Nothing installed is looked for: only what lies in the package of the file, in its folder, or in a
folder above it up to the root of its project.
"""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import Any, Protocol, TypeVar

from thinned.audit.outline import Outline
from thinned.audit.reading import UnreadableError, package_of, parse, read

__all__ = ["forget", "holder", "imported", "one_at_a_time", "parsed"]

# Bytes of parsed files that are kept: a tree takes a hundred times as many. And texts that are.
_KEPT = 16 * 2**20
# Bytes of those that imports led to most often, which outlive the others.
_HELD = 5 * 2**20
_OUTLINES = 512
_MANY = 64
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
    tree: ast.Module
    parents: dict[ast.AST, ast.AST]

    def close(self) -> None: ...

    def renew(self) -> None: ...


S = TypeVar("S", bound=File)
Make = Callable[[ast.Module, str, str], S]

# What is kept, the files by path, and all that were made, the last asked ones first.
_sources: dict[str, tuple[bytes, Any]] = {}
_made: list[Any] = []
_asked: Counter[str] = Counter()  # how often an import led to a file
_kept = 0
_audited: set[str] = set()
_turn = RLock()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one thread have the files that are kept, as long as it looks at one of them."""
    with _turn:
        yield


def holder(node: ast.AST) -> Any:
    """Return the file that a node stands in, of those that are kept; None for no such one."""
    for place, source in enumerate(_made):
        if node in source.parents or node is source.tree:
            if place > 4:  # who asks once for a file asks for it again
                _made.insert(0, _made.pop(place))
            return source
    return None


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


@lru_cache(maxsize=2**14)
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
    elif _kept > _KEPT:
        _let_go()
    if os.path.isfile(full):
        _audited.add(full)
    known = _sources.get(full)
    if known is not None and known[0] == code and known[1] is not None:
        kept: S = known[1]
        kept.path = path
        return kept
    made = make(parse(code), package, path)
    _keep(full if made.on_disk else "", code, made)
    return made


def _keep(path: str, code: bytes, source: File | None) -> None:
    global _kept
    if path:
        _sources[path] = code, source
    if source is not None:
        _made.append(source)
        _kept += len(code)


def _let_go() -> None:
    """Drop all files at once, between two audits, as answers of one may name any other. The ones
    that imports lead to over and over stay, without their answers."""
    global _kept
    held: dict[str, tuple[bytes, Any]] = {}
    left = _HELD
    for path, times in _asked.most_common(_MANY):
        known = _sources.get(path)
        if times > 1 and known is not None and known[1] is not None and len(known[0]) <= left:
            held[path] = known
            left -= len(known[0])
    stay = {id(source) for _, source in held.values()}
    for source in _made:
        if id(source) not in stay:
            source.close()
    _start(held)


def _start(held: dict[str, tuple[bytes, Any]]) -> None:
    global _kept
    _sources.clear()
    _sources.update(held)
    _made[:] = [source for _, source in held.values()]
    for source in _made:
        source.renew()
    _kept = sum(len(code) for code, _ in held.values())


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
    _asked[path] += 1
    if known is not None:
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
    with _turn:
        _asked.clear()
        _let_go()
        _audited.clear()
        _folders.cache_clear()
        _file.cache_clear()
        _may_matter.cache_clear()
        _outline.cache_clear()
