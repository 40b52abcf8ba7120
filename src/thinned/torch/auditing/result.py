"""What an audit found, as a table and as a page."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from thinned.pages.fragment import paragraph, rows_of
from thinned.printable import printable
from thinned.torch.auditing.cost import Cost
from thinned.torch.auditing.page import page
from thinned.torch.auditing.rules import Finding
from thinned.torch.auditing.sites import SiteRow

__all__ = ["ModelAudit"]

_WIDTHS = (18, 22, 38, 38)
_HEAD = ("site", "finding", "detail", "mend")


@dataclass(frozen=True)
class ModelAudit:
    """What `audit` found. Printed, it is a table.

    Attributes
    ----------
    findings : tuple of Finding: site, kind, detail, mend.
    sites : tuple of SiteRow: site, p, rate, drawn. What dropped in training, and how much.
    steps : int. Training steps that were run.
    cost : Cost or None. What dropout costs; None if it was not measured.
    measure : bool. Whether it was asked for.
    unmeasured : str. Why it was not measured though it was asked for; empty where it was.
    """

    findings: tuple[Finding, ...]
    sites: tuple[SiteRow, ...]
    steps: int
    cost: Cost | None = None
    measure: bool = False
    unmeasured: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def headline(self) -> str:
        """One sentence: how many findings, sites and runs."""
        found = _count(len(self.findings), "finding") if self.findings else "No findings"
        runs = f"{_count(self.steps, 'training step')}, 2 evaluations"
        return f"{found}: {_count(len(self.sites), 'site')}, {runs}."

    @property
    def costs(self) -> list[str]:
        """Sentences on what dropout costs."""
        if self.cost is not None:
            return self.cost.lines()
        return [f"The cost was not measured: {self.unmeasured}."] if self.unmeasured else []

    def __str__(self) -> str:
        parts = [self.headline]
        if self.findings:
            told = (tuple(map(printable, (_shown(f.site), *f[1:]))) for f in self.findings)
            parts.append(_wrapped([_HEAD, *told]))
        if self.sites:
            parts.append(_plain([("site", "p", "dropped", "draws"), *map(_cells, self.sites)]))
        if self.costs:
            parts.append("\n".join(textwrap.fill(line, 100) for line in self.costs))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        parts = [paragraph(self.headline)]
        if self.findings:
            parts.append(rows_of(_HEAD, ((_shown(f.site), *f[1:]) for f in self.findings)))
        if self.sites:
            parts.append(rows_of(("site", "p", "dropped", "draws"), map(_cells, self.sites)))
        return "".join([*parts, *map(paragraph, self.costs)])

    def to_html(self) -> str:
        """The same as a page: one HTML file that loads nothing and runs nothing.

        Returns
        -------
        str. A whole document in the style of the report of `thinned fit`.
        """
        return page(self)


def _cells(row: SiteRow) -> tuple[str, ...]:
    site, *rest = row.cells()
    return (printable(_shown(site)), *rest)


def _shown(site: str) -> str:
    return site or '""'


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _plain(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(rows: list[tuple[str, ...]]) -> str:
    """Cells broken into lines of their column's width, a blank line between two findings."""
    blocks = []
    for row in rows:
        cells = [textwrap.wrap(cell, width) for cell, width in zip(row, _WIDTHS, strict=True)]
        height = max(map(len, cells))
        lines = []
        for i in range(height):
            line = "  ".join(
                (cell[i] if i < len(cell) else "").ljust(width)
                for cell, width in zip(cells, _WIDTHS, strict=True)
            )
            lines.append(line.rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join([blocks[0] + "\n" + blocks[1], *blocks[2:]])
