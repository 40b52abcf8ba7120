"""What adopt says it did: a row for each site, and for what it left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from thinned.pages.fragment import paragraph, rows_of
from thinned.torch.adoption.watching import Noticed
from thinned.torch.clock.clock import Clock

__all__ = ["Report", "Row"]


class Row(NamedTuple):
    """A line of a report. p is None where a call in the model's code brings its own, where it is
    learned, and where a module has several of its own.

    Where a site follows a schedule, p is that of step 0. attention: whether all that it is known
    to call is attention. held: the attribute that has p, or the probability to keep, of a module
    which draws by code of its own. by_call: whether p is brought by calls, in which a schedule may
    take its place.
    """

    site: str
    kind: str
    p: float | None
    done: str
    reached: bool = True
    learned: bool = False
    several: bool = False
    attention: bool = False
    held: str = ""
    by_call: bool = False

    @property
    def may_follow(self) -> bool:
        """Whether a schedule can move p. It leaves alone what a configuration holds, which may be
        saved while the training goes on."""
        return self.by_call or (self.p is not None and "." not in self.held)


@dataclass(frozen=True)
class Report:
    """What `adopt` did, as a table when printed.

    The rows are those of now. Dropout that the model's code does not show (a function that is
    looked up while it runs) is addressed too, and has a row from its first call on; so do draws
    that are not reached and that only the first forward in training shows.

    clock : Clock. The model's clock: `tick()` and `piece(start)`.
    read : tuple of Row. What was known before the model ran.
    """

    clock: Clock
    read: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """A Row for each site and for what could not be reached: site, kind, p, done, reached."""
        noticed: Noticed = self.clock.noticed
        known = {row.site for row in self.read if row.reached}
        seen = [name for name in self.clock.drawing() if name not in known]
        done = "calls addressed, seen when they ran"
        rows = [Row(name, noticed.kinds.get(name, ""), None, done) for name in seen]
        for site, why in noticed.told():
            rows.append(Row(site, noticed.kinds.get(site, ""), None, why, reached=False))
        return (*map(self._as_ran, self.read), *rows)

    def _as_ran(self, row: Row) -> Row:
        """A row that was read, with what the first forward in training showed of it."""
        if row.reached or not self.clock.noticed.idle(row.site):
            return row
        return row._replace(done=f"{row.done}: not called in the first training forward")

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites that were adopted."""
        return tuple(row.site for row in self.rows if row.reached)

    @property
    def not_reached(self) -> tuple[Row, ...]:
        """What may be dropout and was left alone."""
        return tuple(row for row in self.rows if not row.reached)

    def __str__(self) -> str:
        if not self.rows:
            return (
                "No dropout so far: no module of it, and no call that the code shows. One that "
                "only a run shows has its row after the first forward in training."
            )
        lines = [_HEAD, *map(_cells, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        return "\n".join(
            "  ".join((*(text.ljust(n) for text, n in zip(line, widths, strict=False)), line[3]))
            for line in lines
        )

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        rows = self.rows
        return rows_of(_HEAD, map(_cells, rows)) if rows else paragraph(str(self))


_HEAD = ("site", "kind", "p", "what was done")


def _cells(row: Row) -> tuple[str, str, str, str]:
    unknown = "learned" if row.learned else "its own" if row.several else "the call's"
    p = unknown if row.p is None else f"{row.p:g}"
    return row.site or '""', row.kind, p if row.reached else "", row.done
