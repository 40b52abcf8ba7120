"""`thinned compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinned.cli.streams import wrapped
from thinned.printable import printable

__all__ = ["compare"]


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR DIR ...", help="Two or more folders that thinned fit wrote."),
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="The measure to compare. Default: what decided in the first run."),
    ] = None,
) -> None:
    """Set runs of thinned fit beside each other, and test each against the first.

    Runs on the same splits of the same rows (the same data, target and seed) are compared in pairs,
    by the test that dropout is judged by.
    """
    from thinned.errors import InputError
    from thinned.fit.folder import recover
    from thinned.fit.runs import compare_runs, load_run

    if len(folders) < 2:
        raise InputError("compare: two folders are needed, to compare one with the other.")
    for folder in folders:
        recover(folder)
    for line in compare_runs([load_run(folder) for folder in folders], metric).split("\n"):
        typer.echo(wrapped(printable(line), "  ") if line.startswith("- ") else printable(line))
