"""The sites of a model as they were seen in training, and the draws that they are read from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from thinned.torch.auditing.draws import Seen, SeenLaw
from thinned.torch.auditing.finding import Observed
from thinned.torch.auditing.observer import Observer

__all__ = ["SiteRow", "by_site", "in_forward", "lines_of", "sites_of_runs"]


class SiteRow(NamedTuple):
    """A site as it was seen in training: p, the part of the draws that dropped, how many draws.

    p and rate are None where they cannot be known: noise of another law, or drawn unseen.
    """

    site: str
    p: float | None
    rate: float | None
    drawn: int

    def cells(self) -> tuple[str, str, str, str]:
        """As a line of a table: texts."""
        p = "" if self.p is None else f"{self.p:g}"
        rate = "" if self.rate is None else f"{self.rate:.4g}"
        return self.site, p, rate, f"{self.drawn:,}" if self.drawn else ""


def by_site(draws: Iterable[Seen]) -> dict[str, list[Seen]]:
    """Draws by the site that made them, in their order."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for one in draws:
        found[one.site].append(one)
    return found


def lines_of(draws: list[Seen]) -> str:
    """The lines of the user's code that some draws were made at, the first three."""
    lines = list(dict.fromkeys(one.line for one in draws if one.line))
    return f" ({', '.join(lines[:3])})" if lines else ""


def in_forward(run: Observer) -> list[Seen]:
    """The draws of a run without those that a checkpoint's recompute made."""
    return [one for one in run.seen if not one.again]


def sites_of_runs(seen: Observed) -> tuple[SiteRow, ...]:
    """Every site that dropped in training, in the order of the first forward."""
    rows = []
    for site, draws in by_site(one for run in seen.trainings for one in in_forward(run)).items():
        masks = [one for one in draws if one.law == SeenLaw.mask and one.p is not None]
        drawn = sum(one.drawn for one in masks)
        p = sum(one.drawn * one.p for one in masks if one.p is not None) / drawn if drawn else None
        if p is None:
            told = {one.p for one in draws}
            p = told.pop() if len(told) == 1 else None
        if p is None and all(one.law == SeenLaw.noise for one in draws):
            continue
        rate = sum(one.dropped for one in masks) / drawn if drawn else None
        rows.append(SiteRow(site, p, rate, drawn))
    return tuple(rows)
