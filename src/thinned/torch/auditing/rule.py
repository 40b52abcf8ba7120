"""What a rule of the model audit is, and the one table in which every rule stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from thinned.torch.auditing.finding import Finding, Observed

__all__ = ["KINDS", "Check", "Kind", "rule"]

Check = Callable[[Observed], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Parameters
    ----------
    name : str. Stable: it is `Finding.kind`, and what the fixture's `allow` takes.
    observed : str. What a run shows, of any site.
    why : str. What it costs.
    check : function. Finds it in the observed runs.
    """

    name: str
    observed: str
    why: str
    check: Check


# By name, in the order of a report.
KINDS: dict[str, Kind] = {}


def rule(name: str, *, observed: str, why: str) -> Callable[[Check], Check]:
    """Enter the function below into the table of kinds."""

    def enter(check: Check) -> Check:
        if name in KINDS:
            raise ValueError(f"rule: name must be new, got {name!r}.")
        KINDS[name] = Kind(name, observed, why, check)
        return check

    return enter
