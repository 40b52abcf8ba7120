"""The one equation, y = f + s m (x - f): where every method ends up."""

from __future__ import annotations

from typing import Any

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import backend_of, known
from thinned.checks import message
from thinned.methods.draws import Draws
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
            return _by_draws(who, x, p, at, training, shared_axes, window, mirror, out)
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
    differs = type(p) is not float and getattr(p, "ndim", False)
    if scale is None and (differs or backend.is_sparse(x) or backend.of_complex(x)):
        return _by_draws(who, x, p, at, training, shared_axes, window, mirror, out)
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


def _by_draws(
    who: str, x: Any, p: Any, at: Any, training: Any, shared_axes: Any, window: Any, mirror: Any,
    out: Any,
) -> Any:  # fmt: skip
    """Dropout of an x that is sparse or complex, or with a rate for each element."""
    draws = Draws(who, x, p, at, training, window, mirror)
    shared = checks.axes(who, shared_axes, len(draws.shape))
    if out is not None and (draws.stored is not None or draws.is_complex):
        kind = "a sparse x" if draws.is_complex is False else "complex numbers"
        remedy = "Take what is returned."
        raise TypeError(message(who, "out", f"None for {kind}", "an array", remedy))
    if out is not None:
        draws.backend.require_out(who, x, out)
    y = draws.noise(x, shared_axes=shared) if draws.training else x
    return y if out is None else draws.backend.copy(y, out)
