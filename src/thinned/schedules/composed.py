# ruff: noqa: N801 - a schedule is called, and prints itself, by its lower-case name
"""Schedules made of schedules, of numbers and of functions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thinned import checks
from thinned.checks import message, shown
from thinned.foreign_arguments import answering, telling
from thinned.schedules.over_time import constant
from thinned.schedules.schedule import Schedule, keep

__all__ = ["as_schedule", "custom", "maximum", "minimum", "product", "schedule_of"]


@answering
def as_schedule(value: Any) -> Schedule:
    """A schedule as it is, a number as `constant`, a function of (step, steps) as `custom`.

    Parameters
    ----------
    value : Schedule, number in [0, 1], or callable of (step, steps).

    Returns
    -------
    Schedule.

    Raises
    ------
    TypeError for anything else. ValueError if a number is outside [0, 1].
    """
    return schedule_of("as_schedule", value)


def schedule_of(who: str, value: Any) -> Schedule:
    """`as_schedule` for a function whose name errors begin with."""
    if isinstance(value, type) and issubclass(value, Schedule):
        got = f"{value.__name__} itself"
        raise TypeError(message(who, "a schedule", "called first, early(0.1) say", got))
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return constant(checks.probability(who, value))
    if callable(value):
        return custom(value)
    got = shown(value)
    requirement = "a schedule, a number in [0, 1] or a function of (step, steps)"
    raise TypeError(message(who, "a schedule", requirement, got))


@dataclass(frozen=True, init=False, repr=False)
class _Composed(Schedule):
    """Several schedules whose ps become one. Parts of the same kind are taken into it."""

    parts: tuple[Schedule, ...]

    def __init__(self, *parts: Any) -> None:
        if not parts:
            raise TypeError(f"{self.name}: at least one schedule is needed.")
        made: list[Schedule] = []
        for value in parts:
            part = schedule_of(self.name, value)
            made.extend(part.parts if isinstance(part, _Composed) and type(part) is type(self)
                        else (part,))  # fmt: skip
        keep(self, parts=tuple(made))

    @property
    def over(self) -> tuple[str, ...]:
        found = {kind for part in self.parts for kind in part.over}
        return tuple(kind for kind in ("steps", "layers") if kind in found)

    @property
    def relative(self) -> bool:
        return any(part.relative for part in self.parts)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.parts))})"

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return tuple(sorted({step for part in self.parts for step in part._turns(steps)}))

    def _ps(self, *place: Any) -> list[float]:
        return [part._p(*place) for part in self.parts]


class product(_Composed):
    """The product of schedules: a rule of depth times one of time, say. Also written a * b.

    Parameters
    ----------
    *parts : schedules, or what `as_schedule` makes one of.

    Raises
    ------
    TypeError if there is no part, or one is none of these. ValueError if a number is outside
    [0, 1].
    """

    def __repr__(self) -> str:
        if len(self.parts) == 1:
            return super().__repr__()
        return " * ".join(map(repr, self.parts))

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return math.prod(self._ps(step, steps, layer, layers))


Schedule._product = product


class minimum(_Composed):
    """The least of what several schedules say.

    Parameters
    ----------
    *parts : schedules, or what `as_schedule` makes one of.

    Raises
    ------
    TypeError if there is no part, or one is none of these. ValueError if a number is outside
    [0, 1].
    """

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return min(self._ps(step, steps, layer, layers))


class maximum(_Composed):
    """The largest of what several schedules say.

    Parameters
    ----------
    *parts : schedules, or what `as_schedule` makes one of.

    Raises
    ------
    TypeError if there is no part, or one is none of these. ValueError if a number is outside
    [0, 1].
    """

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return max(self._ps(step, steps, layer, layers))


@telling
@dataclass(frozen=True)
class custom(Schedule):
    """A function of your own as a schedule. It must depend on its arguments alone.

    Parameters
    ----------
    function : callable of (step, steps), or of (layer, layers). `steps`, how many there are, is
        None where it was not given. What it returns is checked: a number in [0, 1].
    depends_on : "steps" or "layers".

    Raises
    ------
    TypeError if function cannot be called. ValueError if depends_on is another word; and at a call,
    if what the function returns is outside [0, 1].
    """

    function: Callable[[int, Any], float]
    depends_on: str = "steps"

    def __post_init__(self) -> None:
        if not callable(self.function):
            got = f"{self.function!r} ({type(self.function).__name__})"
            raise TypeError(message("custom", "function", "callable", got))
        checks.one_of("custom", "depends_on", self.depends_on, ("steps", "layers"))

    @property
    def over(self) -> tuple[str, ...]:
        return (self.depends_on,)

    def __repr__(self) -> str:
        # The function's own repr holds its place in memory, which is another in each run.
        shown = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"custom({shown}, depends_on={self.depends_on!r})"

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        place = (step, steps) if self.depends_on == "steps" else (layer, layers)
        return checks.probability(repr(self), self.function(*place), f"what it returns for {place}")
