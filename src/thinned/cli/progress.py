"""How far a long job is: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

# The least time between plain lines, so that a log of a long job stays readable.
SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A function to call after each of `total` trainings. Everything is said on stderr.

    Parameters
    ----------
    total : int >= 1.
    quiet : bool. True says nothing.
    """
    if quiet:
        yield lambda: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines(total)
        return
    from rich.progress import Progress

    from thinned.members.progress import columns

    # Trainings differ in length by their p, which come in turn: a long memory evens that out.
    with Progress(*columns(), console=console, speed_estimate_period=60) as bar:
        task = bar.add_task("training", total=total)
        yield lambda: bar.advance(task)


def _lines(total: int) -> Callable[[], None]:
    print(f"{total} networks to train.", file=sys.stderr, flush=True)
    start = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if done == total:
            print(f"{total} networks trained in {now - start:.0f} s.", file=sys.stderr, flush=True)
        elif now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - start) / done * (total - done)
            print(
                f"{done} of {total} networks trained, about {left:.0f} s left.",
                file=sys.stderr,
                flush=True,
            )

    return advance
