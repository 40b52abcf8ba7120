"""What to look for and where: the command line's word, then pyproject.toml's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinned.audit import rules  # noqa: F401  # fills the table
from thinned.audit.rule import RULES, Rule
from thinned.errors import InputError, quoted

__all__ = ["Settings", "chosen", "settings_for"]

_TABLE = "[tool.thinned.audit]"
_KEYS = ("select", "ignore", "exclude")


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
    """

    select: tuple[str, ...] = ("THN",)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    root: str = "."


def chosen(settings: Settings) -> dict[str, Rule]:
    """Return the rules that the settings ask for, by code.

    Raises
    ------
    InputError if a code is the beginning of no rule's.
    """
    if not settings.select:
        raise InputError("audit: select must name at least one code, got none.")
    for name, words in (("select", settings.select), ("ignore", settings.ignore)):
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
) -> Settings:
    """Return the settings for `paths`; what is not None replaces what pyproject.toml says.

    The file is the nearest one, from the folder that all paths share upwards, that has a section
    [tool.thinned.audit].

    Raises
    ------
    InputError if that file cannot be read or says something that is not understood.
    """
    root, said = _nearest(_shared_folder(paths))
    for name, given in (("select", select), ("ignore", ignore), ("exclude", exclude)):
        if given is not None:
            said[name] = tuple(given)
    if exclude is not None:
        root = os.getcwd()
    settings = Settings(
        said.get("select", ("THN",)), said.get("ignore", ()), said.get("exclude", ()), root
    )
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


def _nearest(folder: Path) -> tuple[str, dict[str, tuple[str, ...]]]:
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


def _checked(file: Path, section: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(section, dict):
        raise InputError(f"{file}: {_TABLE} must be a table, got {type(section).__name__}.")
    said: dict[str, tuple[str, ...]] = {}
    for key, value in section.items():
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise InputError(f"{file}: {_TABLE} has the keys {known}, got {quoted(key)}.")
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise InputError(
                f"{file}: {key} in {_TABLE} must be a list of strings, got {quoted(value)}."
            )
        said[key] = tuple(value)
    try:
        chosen(Settings(said.get("select", ("THN",)), said.get("ignore", ())))
    except InputError as error:
        raise InputError(f"{file}: {_TABLE}: {error}") from None
    return said
