"""p of a schedule at a traced step: the formulas of `thinned.schedules` in JAX's operations."""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax.numpy as jnp

from thinned import schedules
from thinned.schedules import Schedule
from thinned.schedules.schedule import in_steps

__all__ = ["p_at"]

_JOINED: dict[Any, Any] = {
    schedules.product: jnp.multiply,
    schedules.minimum: jnp.minimum,
    schedules.maximum: jnp.maximum,
}


def p_at(schedule: Schedule, step: Any, steps: int | None, layer: int, layers: int) -> Any:
    """p at a step, which is a traced integer: a traced binary32 number.

    A schedule of the user's own (`custom`) is called with the traced step. So it must be written in
    JAX's operations, without Python's `if` on the step.
    """
    if "steps" not in schedule.over:
        return schedule._p(0, steps, layer, layers)
    time = jnp.asarray(step, jnp.float32)

    def share(end: int) -> Any:
        return jnp.minimum(time / end, 1.0) if end else jnp.float32(1.0)

    def since(start: float | int) -> Any:
        return jnp.asarray(step) >= in_steps(start, steps)

    match schedule:
        case schedules.early(p=p, until=until, shape=shape):
            end = in_steps(until, steps)
            before = p if shape == "constant" or not end else p * (1.0 - time / end)
            return jnp.where(since(until), 0.0, before)
        case schedules.late(p=p, after=after):
            return jnp.where(since(after), p, 0.0)
        case schedules.linear(start=start, end=end, until=until):
            part = share(in_steps(until, steps))
            return jnp.clip((1.0 - part) * start + part * end, min(start, end), max(start, end))
        case schedules.annealed(p=p, until=until):
            return p * (1.0 - share(in_steps(until, steps)))
        case schedules.curriculum(p=p, gamma=gamma):
            if gamma is None:
                assert steps is not None
                gamma = 10.0 / steps
            return -p * jnp.expm1(-gamma * time)
        case schedules.piecewise(p=values, starts=starts):
            number = sum(since(start).astype(jnp.int32) for start in starts)
            return jnp.asarray(values, jnp.float32)[number]
        case schedules.scheduled_drop_path(p=p):
            assert steps is not None
            return p * share(steps) * ((layer + 1) / layers)
        case schedules.custom(function=function):
            return jnp.asarray(function(step, steps), jnp.float32)
    for kind, join in _JOINED.items():
        if isinstance(schedule, kind):
            parts = [p_at(part, step, steps, layer, layers) for part in schedule.parts]
            return reduce(join, parts)
    raise AssertionError(f"{schedule!r} has no course in JAX")
