# ruff: noqa: N801 - a schedule is called, and prints itself, by its lower-case name
"""p over depth, and over time and depth."""

from __future__ import annotations

from dataclasses import dataclass

from thinned import checks
from thinned.foreign_arguments import telling
from thinned.schedules.schedule import Schedule, keep, share_of

__all__ = ["depth_linear", "scheduled_drop_path", "stochastic_depth_rule"]


@telling
@dataclass(frozen=True)
class depth_linear(Schedule):
    """From 0 in the first layer to p in the last: the rule of ConvNeXt's and timm's ViT's DropPath.

    p(l) = linspace(0, p, L)[l]. That is p l / (L - 1), and 0 where there is one layer alone.

    Parameters
    ----------
    p : float in [0, 1]. In the last of several layers.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if it is no number.

    References
    ----------
    Liu et al., 2022, arXiv:2201.03545, in its code.
    """

    p: float

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("depth_linear", self.p))

    @property
    def over(self) -> tuple[str, ...]:
        return ("layers",)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        if layer == layers - 1:
            return self.p if layer else 0.0
        return layer * (self.p / (layers - 1))


@telling
@dataclass(frozen=True)
class stochastic_depth_rule(Schedule):
    """From p / L in the first layer to p in the last: the rule of stochastic depth.

    p(l) = p (l + 1) / L. The paper counts l from 1, and writes (l / L) p_L.

    Parameters
    ----------
    p : float in [0, 1]. In the last layer.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if it is no number.

    References
    ----------
    Huang et al., 2016, arXiv:1603.09382.
    """

    p: float

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("stochastic_depth_rule", self.p))

    @property
    def over(self) -> tuple[str, ...]:
        return ("layers",)

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        return self.p * ((layer + 1) / layers)


@telling
@dataclass(frozen=True)
class scheduled_drop_path(Schedule):
    """DropPath whose p grows over training, more in deep layers: NASNet's ScheduledDropPath.

    p(t, l) = p min(1, t / T) (l + 1) / L. The same as linear(0, 1) * stochastic_depth_rule(p).

    Parameters
    ----------
    p : float in [0, 1]. In the last layer at the end.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if it is no number.

    References
    ----------
    Zoph et al., 2018, arXiv:1707.07012.
    """

    p: float

    def __post_init__(self) -> None:
        keep(self, p=checks.probability("scheduled_drop_path", self.p))

    @property
    def over(self) -> tuple[str, ...]:
        return ("steps", "layers")

    @property
    def relative(self) -> bool:
        return True

    def _p(self, step: int, steps: int | None, layer: int, layers: int) -> float:
        assert steps is not None
        return self.p * share_of(step, steps) * ((layer + 1) / layers)
