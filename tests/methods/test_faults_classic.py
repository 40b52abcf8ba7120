"""Faults planted in the classics: checks of the battery and of their own file catch each."""

import numpy as np
import pytest
from contract.kinds import TorchKind

from thinned.methods.classic import adaptive, attention, information, shaking, spectrum, weights
from thinned.methods.draws import Draws

from . import checks_law as law, checks_values as values, test_classic_shelf as shelf
from .planted import a_patch_is_caught
from .trying import DOUBLE, FASTEST

TORCH = TorchKind("float64", FASTEST)


def around(owner, name, change):
    """A fault: `name` of `owner` called through `change(real, *arguments)`."""
    real = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *a, **k: change(real, *a, **k))


strong_units_dropped = around(
    adaptive, "_standout_dropped", lambda real, xp, s, p, alpha: real(xp, s, p, -alpha)
)
expectation_forgotten = around(Draws, "scaled", lambda real, self, x, scale: x)
evidence_forgotten = around(
    adaptive, "_excitation_dropped", lambda real, xp, e, p: real(xp, xp.ones_like(e), p)
)
evidence_of_the_batch = around(
    adaptive, "_excitation_dropped", lambda real, xp, e, p: real(xp, e[None], p)[0]
)
evidence_spares = around(
    adaptive, "_excitation_dropped", lambda real, xp, e, p: real(xp, 1.0 / e, p)
)
no_reversal = around(weights, "number", lambda *_, **__: 0.0)
norm_not_halved = around(weights, "number", lambda real, *a, **k: 2.0 * real(*a, **k))
scale_of_one = around(Draws, "rate", lambda real, self, p=None: (real(self, p)[0], 1.0))
coefficients_above_zero = around(
    shaking, "_coefficient", lambda real, d, shared, n, low, high: real(d, shared, n, 0.0, high)
)
gradient_of_the_forward = around(shaking, "_with_gradient_of", lambda real, d, value, path: value)
gradient_through_the_scale = around(Draws, "stop_gradient", lambda real, self, x: x)
inference_unscaled = around(shaking, "_mean_factor", lambda real, p, alpha: 1.0)
p_twice = around(Draws, "keep", lambda real, self, p=None, **k: real(self, min(1.0, 2.0 * p), **k))
threshold_doubled = around(spectrum, "number", lambda real, *a: 2.0 * real(*a))
transform_not_orthonormal = around(
    spectrum, "_cosines", lambda real, xp, n, *a: real(xp, n, *a) * 1.1
)
draws_without_window = around(
    Draws, "draw", lambda real, self, *a, **k: _whole(real, self, *a, **k)
)


def _whole(real, self, *arguments, **named):
    at = self._at
    self._at = at._replace(window=None)
    try:
        return real(self, *arguments, **named)
    finally:
        self._at = at


CAUGHT = [
    (strong_units_dropped, "standout", law.moments_are_the_rows, DOUBLE),
    (expectation_forgotten, "standout", law.evaluation_draws_nothing, DOUBLE),
    (draws_without_window, "standout", values.windows_give_their_part_of_the_whole, DOUBLE),
    (evidence_forgotten, "excitation_dropout", law.moments_are_the_rows, DOUBLE),
    (evidence_spares, "excitation_dropout", law.moments_are_the_rows, DOUBLE),
    (evidence_of_the_batch, "excitation_dropout", law.moments_are_the_rows, DOUBLE),
    (no_reversal, "shakeout", law.moments_are_the_rows, DOUBLE),
    (scale_of_one, "shakeout", law.moments_are_the_rows, DOUBLE),
    (norm_not_halved, "bridgeout", law.moments_are_the_rows, DOUBLE),
    (draws_without_window, "bridgeout", values.windows_give_their_part_of_the_whole, DOUBLE),
    (coefficients_above_zero, "shake_drop", law.moments_are_the_rows, DOUBLE),
    (inference_unscaled, "shake_drop", law.evaluation_draws_nothing, DOUBLE),
    (gradient_of_the_forward, "shake_drop", values.gradients_are_those_of_differences, TORCH),
    (
        gradient_through_the_scale,
        "drop_attention",
        values.gradients_are_those_of_differences,
        TORCH,
    ),
    (p_twice, "drop_attention", law.the_dropped_share_is_p, DOUBLE),
    (threshold_doubled, "spectral_dropout", law.moments_are_the_rows, DOUBLE),
    (transform_not_orthonormal, "spectral_dropout", law.moments_are_the_rows, DOUBLE),
]


def called(value):
    """A fault by the name it has here; all others as they show themselves."""
    names = [name for name, known in globals().items() if known is value]
    return names[0] if names else getattr(value, "__name__", str(value))


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("fault", "name", "check", "kind"), CAUGHT, ids=called)
def test_the_battery_catches_it(fault, name, check, kind, monkeypatch):
    a_patch_is_caught(fault, name, check, kind, monkeypatch)


draws_exchanged = around(
    shaking, "_coefficient", lambda real, d, shared, n, *ends: real(d, shared, 1 - n, *ends)
)
backward_takes_the_forwards_draw = around(
    shaking, "_coefficient", lambda real, d, shared, n, *ends: real(d, shared, 1, *ends)
)
one_draw_for_the_batch = around(
    Draws,
    "keep",
    lambda real, self, p=None, shared_axes=(), shape=None: np.broadcast_to(
        real(self, p, (0,), shape), shape
    ),
)
a_draw_for_each_query = around(
    Draws, "keep", lambda real, self, p=None, shared_axes=(), **k: real(self, p, **k)
)
half_the_noise = around(Draws, "gaussian", lambda real, self: real(self) / 2)
cost_from_one = around(information, "number", lambda *_, **__: 1.0)
first_key_spared = around(
    attention.Draws, "keep", lambda real, self, p, **k: _spared(real(self, p, **k))
)


def _spared(kept):
    kept[..., 0] = True
    return kept


OWN = [
    (draws_exchanged, lambda: shelf.test_shake_shake(("shake", "shake"), "image")),
    (draws_exchanged, lambda: shelf.test_shake_shake(("shake", "even"), "batch")),
    (
        backward_takes_the_forwards_draw,
        lambda: [
            shelf.test_shake_drop_backward_is_the_papers_coefficient("image", i) for i in range(4)
        ],
    ),
    (
        gradient_of_the_forward,
        lambda: shelf.test_shake_shake(("shake", "shake"), "image"),
    ),
    (one_draw_for_the_batch, lambda: shelf.test_bridgeout(DOUBLE, 0.25, False)),
    (strong_units_dropped, lambda: shelf.test_standout(TORCH, 0.25)),
    (evidence_of_the_batch, lambda: shelf.test_excitation_dropout(TORCH, 0.25)),
    (no_reversal, lambda: shelf.test_shakeout(TORCH, 0.25, 0.4)),
    (a_draw_for_each_query, lambda: shelf.test_drop_attention(DOUBLE, 0.7, "column", 1)),
    (first_key_spared, lambda: shelf.test_drop_attention(DOUBLE, 0.7, "element", 2)),
    (
        gradient_through_the_scale,
        lambda: shelf.test_drop_attentions_scale_has_no_gradient("element"),
    ),
    (threshold_doubled, lambda: shelf.test_spectral_dropout(DOUBLE, 0.7, "cut")),
    (half_the_noise, lambda: shelf.test_information_dropout(DOUBLE)),
    (half_the_noise, shelf.test_information_dropout_has_the_rows_moments_and_parts),
    (cost_from_one, lambda: shelf.test_information_cost(DOUBLE)),
]


@pytest.mark.parametrize(("fault", "test"), OWN, ids=called)
def test_the_slow_versions_catch_it(fault, test, monkeypatch):
    test()
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        test()
