"""The whole command line, put together for Typer, with what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Annotated, Any

import typer

from thinned.cli import audit, compare, fit, lsp, methods, schedule
from thinned.cli.options import Argument, Said, said_of
from thinned.version import __version__

__all__ = ["app"]

app = typer.Typer(
    name="thinned",
    help="Dropout and the methods derived from it.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"thinned {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Dropout and the methods derived from it."""


def _for_typer(command: Callable[..., int]) -> Callable[..., int]:
    """The same command, its options said in Typer's words."""

    @wraps(command)
    def run(**given: Any) -> int:
        return command(**given)

    told: Any = run  # what Typer reads a command by
    parameters = [
        one.parameter.replace(
            annotation=Annotated[one.parameter.annotation.__origin__, _typed(one)]
        )
        for one in said_of(command)
    ]
    told.__signature__ = signature(command).replace(parameters=parameters)
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _typed(one: Said) -> Any:
    how = one.how
    if isinstance(how, Argument):
        return typer.Argument(metavar=how.metavar, help=how.help, show_default=False)
    return typer.Option(one.flag, metavar=how.metavar, help=how.help, min=how.least, max=how.most)


for _command in (
    fit.fit,
    fit.predict,
    fit.export,
    compare.compare,
    schedule.schedule,
    methods.methods,
    _for_typer(audit.audit),
    lsp.lsp,
):
    app.command()(_command)
