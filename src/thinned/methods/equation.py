"""The one equation, y = f + s m (x - f): where every method ends up."""

from __future__ import annotations

from typing import Any

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import backend_of, known
from thinned.methods.placing import draw_for
from thinned.window import Window

__all__ = ["apply_noise"]


def apply_noise(
    who: str,
    x: Any,
    p: Any,
    at: Address,
    *,
    scale: float | None = None,
    fill: Any = 0.0,
    training: bool = True,
    shared_axes: Any = (),
    window: Window | None = None,
    mirror: bool = False,
    out: Any = None,
) -> Any:
    """y = fill + scale m (x - fill), m ~ Bernoulli(1 - p) drawn at `at`; scale None is 1 / (1 - p).

    x may be sparse or complex, and p an array, where scale is None and fill 0. With
    training=False, x itself; or, where `out` is given, `out` with x copied into it. Every parameter
    is checked in either case, so that a mistake does not wait for training to show.
    """
    if not known(type(x)):
        from thinned.methods import stored  # which most programs have no use for

        if stored.is_sparse(x):
            where = shared_axes, window, mirror, out
            return stored.dropout_of_values(who, x, p, at, training, *where)
    backend = backend_of(who, x)
    if (
        training is True
        and scale is None
        and window is None
        and mirror is False
        and type(shared_axes) is tuple
        and not shared_axes
        and type(fill) is float
        and fill == 0.0
    ):
        y = backend.plain_dropout(x, p, at, out)
        if y is not None:
            return y
    if scale is None:
        how = (who, x, p, at, training, shared_axes, window, mirror, out)
        if backend.is_sparse(x) or backend.of_complex(x):
            from thinned.methods import stored

            if backend.is_sparse(x):
                return stored.dropout_of_values(*how)
            return stored.dropout_of_parts(apply_noise, *how)
        if type(p) is not float and getattr(p, "ndim", False):
            from thinned.methods import varying

            return varying.dropout_at_rates(*how)
    backend.require_floating(who, x)
    if out is not None:
        backend.require_out(who, x, out)
    draw = draw_for(who, backend.shape(x), p, at, shared_axes, window, mirror, backend)
    if training is not True and not checks.flag(who, "training", training):
        return x if out is None else backend.copy(x, out)
    if scale is None:
        traced = type(p) is not float and backend.traced(p)
        scale = backend.rate(p)[1] if traced else reference.scale_for(float(p))
    return backend.apply(x, draw, scale, fill, out)
