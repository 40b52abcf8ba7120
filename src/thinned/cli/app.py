"""What can be typed after `thinned`: a file for each family of commands, put together here."""

from __future__ import annotations

from typing import Annotated

import typer

from thinned.cli import audit, fit, methods, schedule
from thinned.version import __version__

__all__ = ["app"]

app = typer.Typer(
    name="thinned",
    help="Dropout and everything that grew from it.",
    no_args_is_help=True,
    add_completion=False,
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
    """Dropout and everything that grew from it."""


for _command in (fit.fit, fit.predict, schedule.schedule, methods.methods, audit.audit):
    app.command()(_command)
