"""`thinned methods`: the catalogue in the terminal."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thinned.methods.table import Method

__all__ = ["methods"]

_RANKS = {"first": "Used today", "second": "Second rank", "classic": "Classic, for study"}


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="One of them, by any name: drop_block, SpatialDropout2D, drop_path_rate.",
            show_default="",
        ),
    ] = None,
) -> None:
    """List every method of the catalogue, or show one: formula, paper, moments, aliases, mask."""
    from rich.console import Console

    from thinned.methods import every, find
    from thinned.methods.table import remark

    console = Console(highlight=False)
    if name is None:
        _list(console, every())
        return
    try:
        row = find(name)
    except KeyError as unknown:
        raise typer.BadParameter(str(unknown.args[0]).removeprefix("find: ")) from None
    if remark(name):
        console.print(remark(name), markup=False)
        console.print()
    _show(console, row)


def _list(console: object, rows: tuple[Method, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    for rank, title in _RANKS.items():
        table = Table(box=None, show_header=False, title=title, title_justify="left")
        table.add_column(no_wrap=True)
        table.add_column()
        for row in rows:
            if row.rank == rank:
                table.add_row(row.name, (row.function.__doc__ or "").partition("\n")[0])
        console.print(table)
        console.print()
    console.print("thinned methods NAME shows one of them.")


def lines_of(row: Method) -> list[tuple[str, str]]:
    """A row as (label, text), for people: what is empty is left out."""
    arguments = {"p": row.parameters["p"].default} if "p" in row.parameters else {}
    arguments |= row.options
    in_torch = (*((row.module,) if row.module else ()), *row.in_torch)
    told = [
        f"{name}={value!r}"
        for name, value in arguments.items()
        if value is not inspect.Parameter.empty
    ]
    from thinned.methods.answers import ANSWERS

    called = [name for answer in ANSWERS if answer.row == row.name for name in answer.names]
    found = [
        ("formula", row.formula),
        ("acts on", row.target),
        ("law", row.law.formula if row.law else ""),
        ("draws shared", row.shared),
        ("scale", row.scale),
        ("fill", row.fill),
        ("evaluation", row.inference),
        ("mean", row.moments.mean),
        ("variance", row.moments.variance),
        ("defaults", ", ".join(told)),
        ("function", row.where),
        ("PyTorch", ", ".join(f"thinned.torch.{name}" for name in in_torch)),
        *((f"in {library}", ", ".join(names)) for library, names in row.aliases.items() if names),
        ("found by", ", ".join(called)),
        *(("paper", str(paper)) for paper in row.papers),
        ("source", row.source),
    ]
    return [(label, text) for label, text in found if text]


def _show(console: object, row: Method) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from thinned.methods.shown import caption, in_characters, without_picture

    assert isinstance(console, Console)
    console.print(Text(f"{row.name}: {row.title} ({_RANKS[row.rank].lower()})"))
    console.print(Text(row.note))
    console.print()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, text in lines_of(row):
        table.add_row(Text(label), Text(text))
    console.print(table)
    picture = in_characters(row)
    if not picture:
        console.print(Text(f"\nNo picture of a mask: {_continued(without_picture(row))}"))
        return
    console.print(Text(f"\n{caption(row, '· dropped')}:\n"))
    console.print(Text(picture), soft_wrap=True)


def _continued(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
