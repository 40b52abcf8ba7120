# ruff: noqa: N801 - a schedule is called, and prints itself, by its lower-case name
"""p over training time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinned import checks
from thinned.checks import message, shown
from thinned.foreign_arguments import telling
from thinned.schedules.schedule import Schedule, in_steps, keep, share_of, time_of, turns_of

__all__ = ["annealed", "constant", "curriculum", "early", "late", "linear", "piecewise"]


@telling
@dataclass(frozen=True)
class constant(Schedule):
    """The same p always.

    p(t) = p.

    Parameters
    ----------
    p : float in [0, 1].

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if it is no number.
    """

    p: float

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("constant", self.p))

    @property
    def over(self) -> tuple[str, ...]:
        return ()

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return self.p


@telling
@dataclass(frozen=True)
class early(Schedule):
    """Dropout at the beginning only: against underfitting.

    p(t) = p for t < until, then 0. With shape="linear", p (1 - t / until) for t < until.

    Parameters
    ----------
    p : float in [0, 1].
    until : float in [0, 1], a fraction of the steps, or int >= 0, a count: the first step without.
    shape : "constant" or "linear".

    Raises
    ------
    ValueError if p or until is out of its range or NaN, or shape is unknown. TypeError if one
    is no number.

    References
    ----------
    Liu et al., 2023, arXiv:2303.01500. Their code reaches 0 on the last step before `until`; here
    the linear shape reaches it at `until`.
    """

    p: float
    until: float | int
    shape: str = "constant"

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("early", self.p), until=time_of(self, "until", self.until))
        checks.one_of("early", "shape", self.shape, ("constant", "linear"))

    @property
    def relative(self) -> bool:
        return isinstance(self.until, float)

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(self.until, steps=steps)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        end = in_steps(self.until, steps)
        if step >= end:
            return 0.0
        return self.p if self.shape == "constant" else self.p * (1.0 - step / end)


@telling
@dataclass(frozen=True)
class late(Schedule):
    """Dropout at the end only: against overfitting.

    p(t) = 0 for t < after, then p.

    Parameters
    ----------
    p : float in [0, 1].
    after : float in [0, 1], a fraction of the steps, or int >= 0, a count: the first step with it.

    Raises
    ------
    ValueError if p or after is out of its range or NaN. TypeError if one is no number.

    References
    ----------
    Liu et al., 2023, arXiv:2303.01500.
    """

    p: float
    after: float | int

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("late", self.p), after=time_of(self, "after", self.after))

    @property
    def relative(self) -> bool:
        return isinstance(self.after, float)

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(self.after, steps=steps)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return self.p if step >= in_steps(self.after, steps) else 0.0


@telling
@dataclass(frozen=True)
class linear(Schedule):
    """A straight line from one p to another, and then that one.

    p(t) = start + (end - start) min(1, t / until).

    Parameters
    ----------
    start, end : float in [0, 1]. p on step 0, and p from `until` on.
    until : float in [0, 1], a fraction of the steps, or int >= 0, a count. With 1.0 the last step,
        steps - 1, is one short of `end`.

    Raises
    ------
    ValueError if one of them is out of its range or NaN. TypeError if one is no number.
    """

    start: float
    end: float
    until: float | int = 1.0

    def __post_init__(self) -> None:
        keep(
            self,
            start=checks.probability("linear", self.start, "start"),
            end=checks.probability("linear", self.end, "end"),
            until=time_of(self, "until", self.until),
        )

    @property
    def relative(self) -> bool:
        return isinstance(self.until, float)

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(self.until, steps=steps)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        share = share_of(step, in_steps(self.until, steps))
        low, high = sorted((self.start, self.end))
        # The sum may be a rounding error outside of its ends.
        return min(max((1.0 - share) * self.start + share * self.end, low), high)


@telling
@dataclass(frozen=True)
class annealed(Schedule):
    """Dropout that decreases to zero: `linear` from p to 0.

    p(t) = p max(0, 1 - t / until).

    Parameters
    ----------
    p : float in [0, 1]. On step 0.
    until : float in [0, 1], a fraction of the steps, or int >= 0, a count: the first step without.

    Raises
    ------
    ValueError if p or until is out of its range or NaN. TypeError if one is no number.

    References
    ----------
    Rennie, Goel and Thomas, 2014, Annealed dropout training of deep networks (SLT 2014).
    """

    p: float
    until: float | int = 1.0

    def __post_init__(self) -> None:
        keep(
            self, p=checks.probability("annealed", self.p), until=time_of(self, "until", self.until)
        )

    @property
    def relative(self) -> bool:
        return isinstance(self.until, float)

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(self.until, steps=steps)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return self.p * (1.0 - share_of(step, in_steps(self.until, steps)))


@telling
@dataclass(frozen=True)
class curriculum(Schedule):
    """Dropout that grows from 0 to p, quickly at first: training begins with the easier task.

    p(t) = p (1 - exp(-gamma t)). In the paper's words the kept share is
    (1 - k) exp(-gamma t) + k, with k = 1 - p.

    Parameters
    ----------
    p : float in [0, 1]. The limit.
    gamma : float > 0, per step, or None for the paper's 10 / steps, which brings p(steps) to within
        a relative 5e-5 of p.

    Raises
    ------
    ValueError if p or gamma is out of its range or NaN. TypeError if one is no number.

    References
    ----------
    Morerio et al., 2017, arXiv:1703.06229.
    """

    p: float
    gamma: float | None = None

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("curriculum", self.p))
        gamma = self.gamma
        if gamma is None:
            return
        gamma = checks.real("curriculum", "gamma", gamma, "a float > 0 or None")
        if not 0.0 < gamma < math.inf:
            raise ValueError(message("curriculum", "gamma", "a float > 0 or None", gamma))
        keep(self, gamma=gamma)

    @property
    def relative(self) -> bool:
        return self.gamma is None

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        if self.gamma is None:
            assert steps is not None
            return -self.p * math.expm1(-10.0 * step / steps)
        return -self.p * math.expm1(-self.gamma * step)


@telling
@dataclass(frozen=True)
class piecewise(Schedule):
    """One p after the other.

    p(t) = p[i], i the number of `starts` that are <= t.

    Parameters
    ----------
    p : tuple of float in [0, 1], one more than `starts`.
    starts : tuple in ascending order, all floats in [0, 1], fractions of the steps, or all ints >=
        0, counts: the step on which p[1], p[2], ... begin.

    Raises
    ------
    ValueError if a number is out of its range or NaN, `starts` does not ascend, or p is not one
    longer. TypeError if one of both is no tuple, a part is no number, or fractions and counts are
    mixed.
    """

    p: tuple[float, ...]
    starts: tuple[float | int, ...]

    def __post_init__(self) -> None:
        for name in ("p", "starts"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list):
                got = shown(value)
                raise TypeError(message("piecewise", name, "a tuple", got))
        starts = tuple(time_of(self, "a start", start) for start in self.starts)
        if len({type(start) for start in starts}) > 1:
            raise TypeError(message("piecewise", "starts", "all fractions or all counts", starts))
        if list(starts) != sorted(starts):
            raise ValueError(message("piecewise", "starts", "in ascending order", starts))
        if len(self.p) != len(starts) + 1:
            requirement = f"one p more than there are starts ({len(starts)})"
            raise ValueError(message("piecewise", "p", requirement, f"{len(self.p)}"))
        keep(self, p=tuple(checks.probability("piecewise", p) for p in self.p), starts=starts)

    @property
    def relative(self) -> bool:
        return any(isinstance(start, float) for start in self.starts)

    def _turns(self, steps: int | None) -> tuple[int, ...]:
        return turns_of(*self.starts, steps=steps)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return self.p[sum(step >= in_steps(start, steps) for start in self.starts)]
