"""The Python files under some paths, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from thinned.audit.settings import Settings, folders_to, matches
from thinned.errors import InputError, quoted

__all__ = ["files_under", "is_passed_over"]

_SUFFIXES = (".py", ".pyi", ".pyw", ".ipynb")
_PASSED_OVER = frozenset({"__pycache__", "node_modules", "build", "dist"})


def files_under(paths: Sequence[str], settings: Settings) -> list[str]:
    """Return the files to read: each once, those of a folder sorted by path.

    Folders that begin with a dot, build, dist, node_modules, caches and virtual environments are
    passed over, and links to folders are not followed, so that no loop of them matters. A file that
    is named is read whatever it is called, unless force_exclude asks for the same care.

    Raises
    ------
    InputError if a path does not exist or is neither a file nor a folder.
    """
    found: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            if settings.force_exclude and _is_inside_closed(path, settings):
                continue
            found.update(dict.fromkeys(_walk(path, settings)))
        elif os.path.isfile(path):
            if not is_passed_over(path, settings):
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
            name for name in names if not _is_closed(os.path.join(folder, name), settings)
        )
        for name in sorted(files):
            path = os.path.join(folder, name)
            # A link that leads nowhere has nothing to read; editors leave such as locks.
            is_source = name.endswith(_SUFFIXES) and os.path.exists(path)
            if is_source and not matches(path, settings.exclude, settings.root):
                yield path
    yield from closed  # reading them says why


def is_passed_over(path: str, settings: Settings) -> bool:
    """Say whether a file that is named is passed over: only where force_exclude is asked for, and
    then where a folder's search would not come to it."""
    return settings.force_exclude and (
        matches(path, settings.exclude, settings.root) or _is_inside_closed(path, settings)
    )


def _is_inside_closed(path: str, settings: Settings) -> bool:
    around = folders_to(path, settings.root)
    whole = os.path.abspath(path)
    if os.path.isdir(whole) and whole != os.path.abspath(settings.root):
        around.append(whole)
    return any(_is_closed(folder, settings) for folder in around)


def _is_closed(folder: str, settings: Settings) -> bool:
    """Whether a folder is not searched."""
    name = os.path.basename(folder)
    return (
        name.startswith(".")
        or name in _PASSED_OVER
        or _is_environment(folder)
        or matches(folder, settings.exclude, settings.root)
    )


def _is_environment(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg"))
