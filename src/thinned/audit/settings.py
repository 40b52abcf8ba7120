"""What to look for and where: the command line's word, then pyproject.toml's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from thinned.audit import rules  # noqa: F401  # fills the table
from thinned.audit.rule import RULES, Rule
from thinned.errors import InputError, quoted

__all__ = [
    "BASELINE",
    "Settings",
    "cache_folder",
    "chosen",
    "folders_to",
    "from_root",
    "ignored_codes",
    "matches",
    "settings_for",
]

_TABLE = "[tool.thinned.audit]"
# Where the command looks for findings that are known, unless the settings say another place.
BASELINE = "thinned-audit-baseline.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What to look for and where.

    Parameters
    ----------
    select : codes, or the beginnings of codes, of the rules to use.
    ignore : those of the rules to leave out; it outweighs select.
    exclude : patterns, as the shell has them, of files and folders to pass over: a name, or a path
        from `root`. They hold for what is found in folders, not for files that are named.
    root : the folder that `exclude` counts from.
    per_file_ignores : pairs of a pattern and of codes, or their beginnings, that files which it
        matches, or a folder that it matches, are not searched for.
    ignores_root : the folder that these patterns count from.
    force_exclude : whether files that are named are passed over too, as if they had been found in
        a folder.
    baseline : the file of known findings.
    """

    select: tuple[str, ...] = ("THN",)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    root: str = "."
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ignores_root: str = "."
    force_exclude: bool = False
    baseline: str = BASELINE


def chosen(settings: Settings) -> dict[str, Rule]:
    """Return the rules that the settings ask for, by code.

    Raises
    ------
    InputError if a code is the beginning of no rule's.
    """
    if not settings.select:
        raise InputError("audit: select must name at least one code, got none.")
    named = [("select", settings.select), ("ignore", settings.ignore)]
    named += [("per-file-ignores", codes) for _, codes in settings.per_file_ignores]
    for name, words in named:
        for word in words:
            if not word or not any(code.startswith(word) for code in RULES):
                raise InputError(
                    f"audit: {name} must name codes or their beginnings, got {quoted(word)}. "
                    "thinned audit --explain all lists the rules."
                )
    return {
        code: rule
        for code, rule in sorted(RULES.items())
        if code.startswith(settings.select) and not code.startswith(settings.ignore or ("-",))
    }


def settings_for(
    paths: Sequence[str],
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    per_file_ignores: Iterable[tuple[str, tuple[str, ...]]] | None = None,
    force_exclude: bool | None = None,
    baseline: str | None = None,
) -> Settings:
    """Return the settings for `paths`; what is not None replaces what pyproject.toml says.

    The file is the nearest one, from the folder that all paths share upwards, that has a section
    [tool.thinned.audit]. Patterns of the command line count from the current folder, those of the
    file from the file's.

    Raises
    ------
    InputError if that file cannot be read or says something that is not understood.
    """
    root, said = _nearest(_shared_folder(paths))
    said["baseline"] = os.path.join(root, said.get("baseline", BASELINE))
    given: dict[str, Any] = {
        "select": select,
        "ignore": ignore,
        "exclude": exclude,
        "per_file_ignores": per_file_ignores,
    }
    said.update({name: tuple(value) for name, value in given.items() if value is not None})
    if force_exclude is not None:
        said["force_exclude"] = force_exclude
    if baseline is not None:
        said["baseline"] = baseline
    here = os.getcwd()
    said["root"] = root if exclude is None else here
    said["ignores_root"] = root if per_file_ignores is None else here
    settings = Settings(**said)
    chosen(settings)
    return settings


def _shared_folder(paths: Sequence[str]) -> Path:
    # A path that only looks absolute on another drive has nothing in common: the first one counts.
    whole = [os.path.abspath(path) for path in paths] or [os.getcwd()]
    try:
        shared = Path(os.path.commonpath(whole))
    except ValueError:
        shared = Path(whole[0])
    return shared if shared.is_dir() else shared.parent


def _nearest(folder: Path) -> tuple[str, dict[str, Any]]:
    for at in (folder, *folder.parents):
        file = at / "pyproject.toml"
        if not file.is_file():
            continue
        section = _section(file)
        if section is not None:
            return str(at), _checked(file, section)
    return str(folder), {}


def _section(file: Path) -> Any:
    import tomllib  # which only this one file has use for

    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    # ValueError: not TOML, not UTF-8, or an integer of more digits than Python reads.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: the file could not be read: {error}.") from None
    tool = content.get("tool")
    ours = tool.get("thinned") if isinstance(tool, dict) else None
    return ours.get("audit") if isinstance(ours, dict) else None


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("a list of strings")
    return tuple(value)


def _ignores(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ValueError("a table of patterns and lists of codes")
    return tuple((pattern, _strings(codes)) for pattern, codes in value.items())


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the name of a file")
    return value


# What the section may hold: the field, and what reads its value.
_KEYS: dict[str, Callable[[Any], Any]] = {
    "select": _strings,
    "ignore": _strings,
    "exclude": _strings,
    "per-file-ignores": _ignores,
    "force-exclude": _switch,
    "baseline": _text,
}


def _checked(file: Path, section: Any) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise InputError(f"{file}: {_TABLE} must be a table, got {type(section).__name__}.")
    said: dict[str, Any] = {}
    for key, value in section.items():
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise InputError(f"{file}: {_TABLE} has the keys {known}, got {quoted(key)}.")
        try:
            said[key.replace("-", "_")] = _KEYS[key](value)
        except ValueError as wanted:
            raise InputError(
                f"{file}: {key} in {_TABLE} must be {wanted}, got {quoted(value)}."
            ) from None
    try:
        chosen(Settings(**said))
    except InputError as error:
        raise InputError(f"{file}: {_TABLE}: {error}") from None
    return said


def cache_folder() -> str:
    """Return where the platform puts caches: THINNED_CACHE_DIR, or a folder of the user's."""
    given = os.environ.get("THINNED_CACHE_DIR")
    if given:
        return os.path.join(given, "audit")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "thinned", "audit")


def matches(path: str, patterns: Iterable[str], root: str) -> bool:
    """Say whether a path is meant by one of some shell patterns: of its name, or of the path from
    `root`."""
    name = os.path.basename(path)
    relative = from_root(path, root)
    bare = [pattern.rstrip("/") for pattern in patterns]
    return any(fnmatchcase(name, p) or fnmatchcase(relative, p) for p in bare)


def from_root(path: str, root: str) -> str:
    """Return a path as it is reached from `root`, with forward slashes."""
    try:
        return os.path.relpath(path, root).replace(os.sep, "/")
    except ValueError:  # another drive
        return path.replace(os.sep, "/")


def folders_to(path: str, root: str) -> list[str]:
    """Return the folders between `root` and a path that is below it, the outermost first."""
    parts = from_root(os.path.abspath(path), root).split("/")
    if parts[0] in ("..", ""):
        return []
    return [os.path.join(root, *parts[:i]) for i in range(1, len(parts))]


def ignored_codes(path: str, settings: Settings) -> tuple[str, ...]:
    """Return the codes, or their beginnings, that per_file_ignores leave out in a file."""
    if not settings.per_file_ignores:
        return ()
    around = [path, *folders_to(path, settings.ignores_root)]
    return tuple(
        code
        for pattern, codes in settings.per_file_ignores
        if any(matches(one, (pattern,), settings.ignores_root) for one in around)
        for code in codes
    )
