"""The error that the command line prints for input that it cannot use."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["InputError", "StoppedError", "listed", "quoted", "short"]


class InputError(ValueError):
    """Input that cannot be used: one sentence that names the file, column and row where it can."""


class StoppedError(Exception):
    """A run that was interrupted: one sentence on what is left of it."""


def short(text: str) -> str:
    """A text as a sentence can hold it."""
    return text if len(text) <= 60 else text[:57] + "..."


def quoted(value: object) -> str:
    """A name or a cell in double quotes, short, control characters escaped."""
    shown = short(str(value))
    escaped = shown.encode("unicode_escape").decode("ascii") if not shown.isprintable() else shown
    return f'"{escaped}"'


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names in quotes, one after the other; those past the first `most` are counted only."""
    shown = [quoted(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
