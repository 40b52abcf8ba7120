"""What the user says about the table: kinds of columns, what is missing, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinned.errors import InputError, listed, quoted, short

__all__ = ["KINDS", "Choices", "read_encoding", "read_missing", "read_types"]

# What --type takes, and what it makes of a column.
KINDS = {
    "number": "a number; what is none is missing, and a lone mark is a decimal one",
    "grouped": "a number with marks between groups of three digits; what is none is missing",
    "date": "a date or a time of day; what is none is missing",
    "day/month/year": "a date whose day stands first; what is none is missing",
    "month/day/year": "a date whose month stands first; what is none is missing",
    "duration": "a length of time, as 1:30:00; what is none is missing",
    "text": "a text, exactly as it stands",
}


@dataclass(frozen=True)
class Choices:
    """Options about the columns.

    types : as typed, "column=kind".
    missing : texts that count as missing besides those that pandas knows.
    keep, drop : columns that are learned from, or not, whatever they hold.
    groups : the column whose equal cells mark rows that must stay together.
    time : the column that puts the rows in order.
    weights : the column that says how much each row counts.
    encoding : of separated text, a name that Python knows; None finds it out.
    """

    types: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    groups: str | None = None
    time: str | None = None
    weights: str | None = None
    encoding: str | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column that has one."""
        return dict(_pair(one) for one in self.types)


def read_types(typed: Sequence[str]) -> tuple[str, ...]:
    """The arguments of --type, each one "column=kind" with a kind that is known."""
    seen = set()
    for one in typed:
        name, kind = _pair(one)
        if not name or kind not in KINDS:
            raise InputError(
                f"--type: {short(one) or 'an empty text'} is not COLUMN=KIND; "
                f"kinds are {', '.join(KINDS)}."
            )
        if name in seen:
            raise InputError(f"--type: the column {quoted(name)} is given two kinds.")
        seen.add(name)
    return tuple(typed)


def _pair(typed: str) -> tuple[str, str]:
    # A column's name may have an equals sign, a kind has none.
    name, _, kind = typed.rpartition("=")
    return name, kind


def read_missing(text: str | None) -> tuple[str, ...]:
    """The texts of "?,-"."""
    if text is None:
        return ()
    marks = tuple(mark.strip() for mark in text.split(","))
    if not all(marks):
        raise InputError('--missing: an empty place is no text; write "?,-" for two texts.')
    return marks


def read_encoding(name: str | None) -> str | None:
    """The name of --encoding, if there is a codec of it that makes texts of bytes."""
    if name is None:
        return None
    try:
        b"a".decode(name)
    except (LookupError, ValueError):
        raise InputError(
            f"--encoding: there is no encoding {quoted(name)}; some are utf-8, utf-16, cp1250 "
            "(Central Europe), cp1251 (Cyrillic), cp1252 (Western Europe), gb18030 (Chinese), "
            "shift_jis (Japanese) and euc_kr (Korean)."
        ) from None
    return name


def check_names(option: str, names: Sequence[str], there: Sequence[str]) -> None:
    """Every name that an option was given is a column's."""
    for name in names:
        if name not in there:
            raise InputError(
                f"{option}: there is no column {quoted(name)}; the columns are {listed(there)}."
            )
