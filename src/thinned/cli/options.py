"""What a command's signature says of its options, in words that load nothing.

`app` says the same to Typer, and `plain` reads by it what needs no Typer: an option is written
once, where the command is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from types import NoneType
from typing import Any, get_args, get_type_hints

__all__ = ["Argument", "Option", "Said", "said_of"]


@dataclass(frozen=True)
class Argument:
    """Words without a name. metavar: what help calls them."""

    help: str
    metavar: str


@dataclass(frozen=True)
class Option:
    """An option; by its parameter's name, unless `flag` is another. least, most: of an integer."""

    help: str
    flag: str | None = None
    metavar: str | None = None
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Said:
    """A parameter of a command.

    Attributes
    ----------
    parameter : inspect.Parameter, its annotation evaluated.
    kind : the type of its value where it is given: what is not None in the annotation.
    how : Argument or Option.
    """

    parameter: Parameter
    kind: Any
    how: Argument | Option

    @property
    def flag(self) -> str:
        """What is typed for the option."""
        own = self.how.flag if isinstance(self.how, Option) else None
        return own or f"--{self.parameter.name.replace('_', '-')}"

    def holds(self, n: int) -> bool:
        """Whether the option takes the integer n."""
        how = self.how
        return isinstance(how, Option) and _within(n, how.least, how.most)


def _within(n: int, least: int | None, most: int | None) -> bool:
    return (least is None or n >= least) and (most is None or n <= most)


def said_of(command: Callable[..., Any]) -> list[Said]:
    """The parameters of a command, each annotated as Annotated[type, Argument or Option]."""
    hints = get_type_hints(command, include_extras=True)
    return [
        _said(p.replace(annotation=hints[p.name])) for p in signature(command).parameters.values()
    ]


def _said(parameter: Parameter) -> Said:
    whole, how = get_args(parameter.annotation)
    kinds = [kind for kind in get_args(whole) if kind is not NoneType]
    return Said(parameter, kinds[0] if NoneType in get_args(whole) else whole, how)
