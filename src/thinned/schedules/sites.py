"""Schedules in an adopted model: which site follows which, and in which layer it lies."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinned import checks
from thinned.checks import message
from thinned.schedules import Schedule
from thinned.schedules.composed import schedule_of

__all__ = ["EVERYWHERE", "SiteRule", "require_allowed", "rules_of"]

# The pattern that means whatever can follow a schedule, instead of every site there is.
EVERYWHERE = "*"

# A * that stands for a whole part of a name, or for several: "blocks.*", "*.drop", "*/dropout".
_WHOLE = re.compile(r"(?:(?<=[./])|(?<=^))\*(?=[./]|$)")
# What the * at a pattern's end stands for, up to the first number: of "0.drop1" the 0.
_NUMBERED = re.compile(r"(?:.*?[./])??\d+(?=[./]|$)")


@dataclass(frozen=True)
class SiteRule:
    """A site's p as a function of the clock's step alone."""

    schedule: Schedule
    steps: int | None
    layer: int
    layers: int

    def __call__(self, step: int) -> float:
        # Checked when the model was adopted: all but the step, which the clock keeps in range.
        return self.schedule._p(step, self.steps, self.layer, self.layers)

    def __str__(self) -> str:
        if "layers" not in self.schedule.over:
            return repr(self.schedule)
        return f"{self.schedule!r}, layer {self.layer} of 0 to {self.layers - 1}"


def rules_of(schedule: Any, steps: Any, sites: Mapping[str, bool]) -> dict[str, SiteRule]:
    """The rule of each site that a pattern of `schedule` names.

    sites : the model's sites in their order, and whether a schedule can move the p of each.
    """
    if steps is not None:
        steps = checks.integer("adopt", "steps", steps, 1, 2**32 - 1)
    if schedule is None:
        if steps is not None:
            raise ValueError(f"adopt: steps={steps} is of no use without schedule=.")
        return {}
    if not isinstance(schedule, Mapping) or not all(isinstance(key, str) for key in schedule):
        got = f"{schedule!r} ({type(schedule).__name__})"
        remedy = 'For one schedule everywhere: {"*": schedule}.'
        requirement = "a dict from patterns of site names to schedules"
        raise TypeError(message("adopt", "schedule", requirement, got, remedy))
    rules: dict[str, SiteRule] = {}
    by: dict[str, str] = {}
    for pattern, value in schedule.items():
        one = schedule_of(f"adopt: schedule of {pattern!r}", value)
        matched = _matched(pattern, sites)
        for site in matched:
            if site in by:
                raise ValueError(
                    f"adopt: site {site!r} is matched by two patterns of schedule, {by[site]!r} "
                    f"and {pattern!r}. Let one of them match less."
                )
            by[site] = pattern
        if one.relative and steps is None:
            raise ValueError(
                f"adopt: schedule of {pattern!r}: {one!r} is relative to the number of all "
                "training steps. Pass steps= too, or count in whole steps."
            )
        for site, (layer, layers) in _layers(pattern, one, matched).items():
            rules[site] = SiteRule(one, steps, layer, layers)
            rules[site](0)  # a function of the user's own may fail: now, not within an optimizer
    return rules


def require_allowed(site: str, rule: SiteRule, require_p: Callable[[float], None]) -> None:
    """ValueError if the rule comes to a p that the site's module refuses, as far as can be known.

    require_p : raises for such a p.
    """
    for step in rule.schedule.turns(rule.steps):
        try:
            p = rule(step)
        except Exception:
            # A function of the user's own was asked for a step that may never come.
            if rule.steps is None:
                continue
            raise
        try:
            require_p(p)
        except ValueError as error:
            raise ValueError(
                f"adopt: schedule of site {site!r}: {rule} comes to p = {p:g} on step {step}. "
                f"{error} Let it end below."
            ) from None


def _matched(pattern: str, sites: Mapping[str, bool]) -> list[str]:
    matched = [site for site in sites if fnmatch.fnmatchcase(site, pattern)]
    if pattern == EVERYWHERE and any(sites.values()):
        return [site for site in matched if sites[site]]
    if not matched:
        names = ", ".join(repr(site) for site in sites)
        raise ValueError(f"adopt: schedule of {pattern!r} matches no site. The sites are {names}.")
    for site in matched:
        if not sites[site]:
            raise ValueError(
                f"adopt: schedule of {pattern!r} matches site {site!r}, whose p no schedule can "
                "move: it draws a mask by hand, and the code does not show p to be one attribute "
                "of the module itself; or p is learned, or one of several that a module was given "
                "as numbers. Put a module there, such as thinned.torch.Dropout, or let the "
                "pattern match less."
            )
    return matched


def _layers(pattern: str, schedule: Schedule, matched: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Each site's layer, and how many layers there are; the order is the sites'."""
    if "layers" not in schedule.over:
        return dict.fromkeys(matched, (0, 1))
    keys = {site: _layer_of(pattern, site) for site in matched}
    order = list(dict.fromkeys(keys.values()))
    if len(order) == 1:
        raise ValueError(
            f"adopt: schedule of {pattern!r}: {schedule!r} spreads over layers, and the sites that "
            f"match, {', '.join(map(repr, matched))}, are one. Put a * where the layer's number "
            'stands, as in "blocks.*".'
        )
    return {site: (order.index(key), len(order)) for site, key in keys.items()}


def _layer_of(pattern: str, site: str) -> str:
    """The name up to the end of what the pattern's last whole-part * stands for; else all of it."""
    pieces = _WHOLE.split(pattern)
    found = re.fullmatch("(.*?)".join(map(_expression, pieces)), site)
    if len(pieces) == 1 or found is None:  # None: a * within brackets is no * of its own
        return site
    start, end = found.span(found.lastindex or 0)
    if pieces[-1] == "" and (numbered := _NUMBERED.match(site[start:])):
        end = start + numbered.end()
    return site[:end]


def _expression(piece: str) -> str:
    """A piece of a pattern as a regular expression, without the end that fnmatch gives it."""
    whole = fnmatch.translate(piece)
    return whole[: whole.rindex(")") + 1]
