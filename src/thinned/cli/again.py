"""The command that does a fit again, from the parameters that `thinned fit` declares.

Each of them has its value in the result, by its name. One that has not is an error here, and not a
command that quietly leaves it out.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from thinned.fit.rate import spelled
from thinned.fit.results import Result

__all__ = ["command", "shell", "words"]

# Options for where it is computed, where the result goes and what is printed, and for nothing
# in the result; and those of the search, since what it chose is written out.
WITHOUT = frozenset(("tune", "trials", "time_limit", "jobs", "engine", "out", "overwrite", "quiet"))


def command(fit: Callable[..., Any], result: Result) -> list[str]:
    """The command as a shell reads it: words that belong together in one string.

    It names what the first command left open (the target, the epochs).
    """
    own = result.settings.network
    network = () if own is None else (f"{own.path}:{own.function}",)
    data = {
        "data": (*network, result.data.typed),
        "target": result.data.targets,
        "task": result.data.tasks,
    }
    values = data | vars(result.data.choices) | vars(result.settings)
    without = WITHOUT | ({"hidden"} if network else set())
    groups = [["thinned", "fit"], *words(fit, values, without)]
    return [" ".join(map(shell, group)) for group in groups]


def words(
    function: Callable[..., Any], values: Mapping[str, Any], without: frozenset[str] = frozenset()
) -> list[list[str]]:
    """The arguments and options of a command with these values, those of `without` left out.

    Raises
    ------
    KeyError if a parameter that the command declares has no value.
    """
    import typer

    app = typer.Typer(add_completion=False)
    app.command()(function)
    declared = [one for one in typer.main.get_command(app).params if one.name not in without]
    arguments = [one for one in declared if one.param_type_name == "argument"]
    options = [one for one in declared if one.param_type_name == "option"]
    named = [group for one in options if (group := _option(one, values[one.name]))]
    placed = [_texts(values[one.name], one) for one in arguments]
    if any(text.startswith("-") for group in placed for text in group):
        return [*named, ["--"], *placed]  # what comes after it is no option
    return [*placed, *named]


def _option(declared: Any, value: Any) -> list[str]:
    name = max(declared.opts, key=len)
    if value is None or value == ():
        return []
    if declared.is_flag:
        names = declared.opts if value else declared.secondary_opts
        return [max(names, key=len)] if names else []
    if declared.count:
        return [name] * value
    if declared.multiple:
        return [word for one in value for word in _valued(name, _text(one))]
    texts = _texts(value, declared)
    return _valued(name, *texts)


def _valued(name: str, *texts: str) -> list[str]:
    # As one word where it could be taken for an option itself.
    if len(texts) == 1 and texts[0].startswith("-") and name.startswith("--"):
        return [f"{name}={texts[0]}"]
    return [name, *texts]


def _texts(value: Any, declared: Any) -> list[str]:
    """The words that a value is: one, or as many as are declared."""
    if value is None:
        return []
    return [_text(value)] if declared.nargs == 1 else [_text(one) for one in value]


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple) and any(isinstance(one, tuple) for one in value):
        return ",".join(map(spelled, value))  # rates, some of them of single layers
    if isinstance(value, tuple | list):  # "0,0.1": what is one word for the command line
        return ",".join(map(_text, value))
    if isinstance(value, float):
        return _number(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _number(value: float) -> str:
    """As short as a number can be without becoming another one."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def shell(word: str) -> str:
    """A word as a shell reads it back, with nothing in it that a page or a terminal would obey.

    Line ends and tabs stand between plain quotes. Other characters that do not show (escape
    sequences, marks that turn the direction of writing, bytes of a name that are no text) are
    written by their bytes, in the quotes $'' that bash, zsh and ksh know.
    """
    if all(c.isprintable() or c in "\n\t" for c in word):
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(c: str) -> str:
    if c in "\\'":
        return f"\\{c}"
    if c.isprintable():
        return c
    # Octal, since it has a fixed length: a digit may follow.
    return "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogateescape"))
