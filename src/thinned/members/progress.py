"""How far a question is: told to a function, or shown as a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from thinned.checks import message

__all__ = ["columns", "shown"]

Told = Callable[[int, int | None], object]


@contextmanager
def shown(who: str, progress: Any) -> Iterator[Told | None]:
    """What is to be told of each forward: (forwards done, forwards in all, at most).

    progress : True for a bar on stderr, a function to be told, None or False. The number of all
        forwards is None where it is not known.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _bar(who) as told:
            yield told
    elif callable(progress):
        yield progress
    else:
        got = type(progress).__name__
        raise TypeError(message(who, "progress", "True, False, None or a function", got))


@contextmanager
def _bar(who: str) -> Iterator[Told]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{who}: progress=True shows a bar by rich, which is not installed: pip install rich. "
            "Or pass a function of (done, of)."
        ) from error
    with Progress(*columns(), console=Console(stderr=True)) as bar:
        task = bar.add_task("members", total=None)

        def told(done: int, of: int | None) -> None:
            bar.update(task, completed=done, total=of)

        yield told


def columns() -> tuple[Any, ...]:
    """What a bar by rich shows: what is counted, how many are done, time taken and time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
