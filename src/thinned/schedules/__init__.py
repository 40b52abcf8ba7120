"""Schedules: p over training time and over depth.

A schedule of time is p(step, steps), a rule of depth p(layer, layers), and one of both p(step,
steps, layer, layers). Steps and layers count from 0. Each is a frozen value whose repr is the
code that makes it, and a function of its arguments alone: a run resumed at step 700 has the p of
step 700.

Where a schedule takes a point of time (`until`, `after`, `starts`), a float in [0, 1] is a fraction
of all steps and an integer counts steps: ``until=1.0`` is the whole run, ``until=1`` its first
step. A fraction is rounded to whole steps, half to even, and needs `steps`.

>>> from thinned.schedules import depth_linear, early
>>> schedule = early(0.1, until=0.2)
>>> schedule
early(p=0.1, until=0.2, shape='constant')
>>> schedule(199, 1000), schedule(200, 1000)
(0.1, 0.0)
>>> both = schedule * depth_linear(1.0)
>>> both(0, 1000, 2, 5)
0.05
"""

from __future__ import annotations

from thinned.schedules.composed import as_schedule, custom, maximum, minimum, product
from thinned.schedules.over_depth import depth_linear, scheduled_drop_path, stochastic_depth_rule
from thinned.schedules.over_time import (
    annealed,
    constant,
    curriculum,
    early,
    late,
    linear,
    piecewise,
)
from thinned.schedules.schedule import Schedule

__all__ = [
    "SCHEDULES",
    "Schedule",
    "annealed",
    "as_schedule",
    "constant",
    "curriculum",
    "custom",
    "depth_linear",
    "early",
    "late",
    "linear",
    "maximum",
    "minimum",
    "piecewise",
    "product",
    "scheduled_drop_path",
    "stochastic_depth_rule",
]

# Those that have a name and numbers for parameters, in the order in which they are listed.
SCHEDULES: tuple[type[Schedule], ...] = (
    constant,
    early,
    late,
    linear,
    annealed,
    curriculum,
    piecewise,
    depth_linear,
    stochastic_depth_rule,
    scheduled_drop_path,
)
