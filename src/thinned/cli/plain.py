"""A command line that needs no explanation, read without Typer, whose loading takes longer than the
audit of a file.

Plain are words that no option takes, and options by their whole names, once each, with values that
are clear. Everything else is Typer's: help, mistakes and their sentences, beginnings of words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from thinned.cli.options import Argument, Option, Said, said_of

__all__ = ["read"]

# What is read as it stands; other spellings of a number are Typer's to take or to refuse.
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
# Typer expands these on Windows, where no shell does.
_EXPANDED = re.compile(r"[*?\[~$%]")


class _NotPlainError(Exception):
    """Let Typer read it."""


def read(command: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    """The command's arguments by name, as Typer would read them; None where the words are not
    plain.

    Parameters
    ----------
    command : function whose parameters are annotated as `options` says; one is an Argument, a list.
    words : sequence of str. What was typed behind the command's name.
    """
    if any(_EXPANDED.search(word) for word in words):
        return None
    try:
        return _read(said_of(command), words)
    except _NotPlainError:
        return None


def _read(parameters: Sequence[Said], words: Sequence[str]) -> dict[str, Any]:
    options = {one.flag: one for one in parameters if isinstance(one.how, Option)}
    (rest,) = (one for one in parameters if isinstance(one.how, Argument))
    given: dict[str, Any] = {}
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            given.setdefault(rest.parameter.name, []).append(word)
            continue
        flag, equals, value = word.partition("=")
        option = options.get(flag)
        if option is None or option.parameter.name in given or (equals and option.kind is bool):
            raise _NotPlainError
        if option.kind is not bool and not equals:
            value = _behind(left)
        given[option.parameter.name] = _value(option, value)
    return given


def _behind(left: Iterator[str]) -> str:
    value = next(left, None)
    if value is None or value.startswith("-"):
        raise _NotPlainError
    return value


def _value(option: Said, text: str) -> Any:
    if option.kind is bool:
        return True
    if option.kind is str:
        return text
    if option.kind is int and _INTEGER.fullmatch(text) and option.holds(int(text)):
        return int(text)
    if issubclass(option.kind, Enum) and text in {one.value for one in option.kind}:
        return option.kind(text)
    raise _NotPlainError
