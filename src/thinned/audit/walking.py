"""The Python files under some paths, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from thinned.audit.settings import Settings
from thinned.errors import InputError, quoted

__all__ = ["files_under"]

_SUFFIXES = (".py", ".pyi", ".pyw")
_PASSED_OVER = frozenset({"__pycache__", "node_modules", "build", "dist"})


def files_under(paths: Sequence[str], settings: Settings) -> list[str]:
    """Return the files to read: each once, those of a folder sorted by path.

    Folders that begin with a dot, build, dist, node_modules, caches and virtual environments are
    passed over, and links to folders are not followed, so that no loop of them matters. A file that
    is named is read whatever it is called.

    Raises
    ------
    InputError if a path does not exist or is neither a file nor a folder.
    """
    found: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            found.update(dict.fromkeys(_walk(path, settings)))
        elif os.path.isfile(path):
            found[path] = None
        elif os.path.exists(path):
            raise InputError(f"audit: {quoted(path)} is neither a file nor a folder.")
        else:
            raise InputError(f"audit: {quoted(path)} does not exist.")
    return list(found)


def _walk(top: str, settings: Settings) -> Iterator[str]:
    closed: list[str] = []

    def note(error: OSError) -> None:
        closed.append(str(error.filename))

    for folder, names, files in os.walk(top, onerror=note):
        names[:] = sorted(
            name
            for name in names
            if not (name.startswith(".") or name in _PASSED_OVER)
            and not _is_environment(os.path.join(folder, name))
            and not _is_excluded(os.path.join(folder, name), settings)
        )
        for name in sorted(files):
            path = os.path.join(folder, name)
            # A link that leads nowhere has nothing to read; editors leave such as locks.
            is_source = name.endswith(_SUFFIXES) and os.path.exists(path)
            if is_source and not _is_excluded(path, settings):
                yield path
    yield from closed  # reading them says why


def _is_environment(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg"))


def _is_excluded(path: str, settings: Settings) -> bool:
    if not settings.exclude:
        return False
    name = os.path.basename(path)
    try:
        relative = os.path.relpath(path, settings.root).replace(os.sep, "/")
    except ValueError:  # another drive
        relative = path.replace(os.sep, "/")
    patterns = [pattern.rstrip("/") for pattern in settings.exclude]
    return any(fnmatchcase(name, p) or fnmatchcase(relative, p) for p in patterns)
