"""What a schedule is, and how its fields are checked."""

from __future__ import annotations

import math
import numbers
from typing import Any, ClassVar

from thinned import checks
from thinned.checks import message

__all__ = ["Schedule", "in_steps", "keep", "share_of", "time_of", "turns_of"]

_STEPS = 2**32
_LAYERS = 2**31


class Schedule:
    """p as a function of the training step, of the layer, or of both.

    Called with (step, steps), (layer, layers) or (step, steps, layer, layers), as `over` says.
    `steps` may be left out or None where `relative` is False. Steps beyond the last are allowed: a
    schedule then stays where it ended. A schedule times a schedule, or times a number in [0, 1], is
    their product.

    Attributes
    ----------
    over : tuple of "steps" and "layers", either or both. Empty for a constant, which may be called
        with steps or layers.
    relative : bool. Whether p depends on how many steps there are.

    Raises
    ------
    ValueError if a number is out of range, or `steps` is needed and missing. TypeError for what is
    no integer, and for too many or too few of them.
    """

    # What a * b makes. It is a schedule itself, and defined in composed.py, which says so here.
    _product: ClassVar[Any]

    @property
    def over(self) -> tuple[str, ...]:
        return ("steps",)

    @property
    def relative(self) -> bool:
        return False

    @property
    def name(self) -> str:
        """What it is called, in messages and in `thinned schedule`."""
        return type(self).__name__

    def __call__(self, *place: int | None) -> float:
        wants = self.over or ("steps",)
        if not 2 * len(wants) - (wants == ("steps",)) <= len(place) <= 2 * len(wants):
            names = ", ".join(f"{kind[:-1]}, {kind}" for kind in wants)
            raise TypeError(f"{self.name} is p({names}). Numbers given: {len(place)}.")
        given = dict(zip(wants, (place[:2], place[2:]), strict=False))
        return self.p_at(*given.get("steps", (0,)), **_layer(given.get("layers", ())))

    def p_at(
        self, step: Any = 0, steps: Any = None, *, layer: Any = None, layers: Any = None
    ) -> float:
        """p at `step` of `steps`, in `layer` of `layers`. What it does not run over is ignored."""
        step = checks.integer(self.name, "step", step, 0, _STEPS)
        steps = self._steps(steps)
        if "layers" in self.over:
            layers = checks.integer(self.name, "layers", layers, 1, _LAYERS)
            layer = checks.integer(self.name, "layer", layer, 0, layers)
        return self._p(step, steps, layer, layers)

    def turns(self, steps: int | None = None) -> tuple[int, ...]:
        """Steps that tell what p comes to: between two of them every part only rises or falls.

        So p is 1 on one of them if it ever is, in whatever layer: what a method whose law has no
        member at 1 has to know beforehand. Of a function of your own (`custom`) nothing is known
        but its ends.

        Parameters
        ----------
        steps : int >= 1, or None. How many there are; needed where p is relative to it.

        Returns
        -------
        tuple of ints in ascending order: the first step, each on which a part takes another course
        and the one before it, and the last; without `steps` the last that can be counted.

        Raises
        ------
        ValueError if `steps` is needed and missing, or out of range. TypeError if it is no integer.
        """
        return self._turns(self._steps(steps))

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(steps=steps)

    def _steps(self, steps: Any) -> int | None:
        """The number of all steps, which must be given where p is relative to it."""
        if steps is not None:
            return checks.integer(self.name, "steps", steps, 1, _STEPS)
        if self.relative:
            raise ValueError(
                message(
                    self.name,
                    "steps",
                    "the number of all training steps",
                    None,
                    f"{self!r} is relative to it. Pass it, or count in whole steps.",
                )
            )
        return None

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        raise NotImplementedError

    def __mul__(self, other: Any) -> Schedule:
        if not isinstance(other, Schedule | numbers.Real):
            return NotImplemented
        made: Schedule = self._product(self, other)
        return made

    def __rmul__(self, other: Any) -> Schedule:
        if not isinstance(other, numbers.Real):
            return NotImplemented
        made: Schedule = self._product(other, self)
        return made


def _layer(place: tuple[int | None, ...]) -> dict[str, int | None]:
    return dict(zip(("layer", "layers"), place, strict=False))


def keep(schedule: Schedule, **checked: Any) -> None:
    """Put checked values into a frozen dataclass that is being made."""
    for name, value in checked.items():
        object.__setattr__(schedule, name, value)


def time_of(schedule: Schedule, name: str, value: Any) -> float | int:
    """A point of time: a float in [0, 1], a fraction, or an int >= 0, a count of steps."""
    requirement = "a float in [0, 1] (a fraction of the steps) or an integer >= 0 (a count of them)"
    who = type(schedule).__name__
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if 0 <= int(value) < _STEPS:
            return int(value)
        raise ValueError(message(who, name, requirement, value))
    number = checks.real(who, name, value, requirement)
    if not 0.0 <= number <= 1.0:  # written so that NaN fails
        whole = math.isfinite(number) and number.is_integer() and number > 0.0
        remedy = f"For {number:.0f} steps write {number:.0f}." if whole else ""
        raise ValueError(message(who, name, requirement, value, remedy))
    return number


def in_steps(time: float | int, steps: int | None) -> int:
    """A point of time in whole steps."""
    if isinstance(time, int):
        return time
    assert steps is not None
    return round(time * steps)


def turns_of(*times: float | int, steps: int | None) -> tuple[int, ...]:
    """The first step and the last, and between them each of these points of time."""
    last = _STEPS - 1 if steps is None else steps - 1
    near = {step + i for step in (in_steps(time, steps) for time in times) for i in (-1, 0)}
    return tuple(sorted({0, last, *(step for step in near if 0 <= step <= last)}))


def share_of(step: int, end: int) -> float:
    """How much of the way to `end` is gone, in [0, 1]."""
    return 1.0 if step >= end else step / end
