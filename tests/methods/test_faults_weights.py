"""Wrong versions of the methods on weights, each of which the battery must catch."""

import numpy as np
import pytest
from contract.kinds import TorchKind

from thinned.methods import targeted, weights
from thinned.methods.draws import Draws

from . import checks_law as law, checks_values as values
from .planted import a_patch_is_caught
from .trying import DOUBLE, FASTEST

TORCH = TorchKind("float64", FASTEST)
noise, keep, select, uniform = Draws.noise, Draws.keep, Draws.select, Draws.uniform
sums, averaged = weights._sums, weights._averaged


def without_scale(patch):
    patch.setattr(Draws, "noise", lambda self, x, **how: noise(self, x, **{**how, "scale": 1.0}))


def without_fill(patch):
    patch.setattr(Draws, "noise", lambda self, x, fill=0.0, **how: noise(self, x, **how))


def one_mask_for_the_batch(patch):
    def shared(self, shape, number=0):
        return np.broadcast_to(keep(self, shape=(1, *shape[1:]), number=number), shape)

    patch.setattr(Draws, "keep", shared)


def a_bias_never_dropped(patch):
    patch.setattr(weights, "_sums", lambda draws, x, w, b: sums(draws, x, w, None) + b)


def evaluation_with_all_connections(patch):
    patch.setattr(weights, "_averaged", lambda draws, x, w, b, *_: x @ w.T + b)


def a_window_ignored(patch):
    patch.setattr(weights, "CONNECTIONS", 15)
    patch.setattr(weights, "_moved", lambda window, first: weights.Window(first))


def rescaled(patch):
    patch.setattr(Draws, "select", lambda self, x, kept: select(self, x, kept, 1.0 / 0.7))


def everything_targeted(patch):
    patch.setattr(Draws, "select", lambda self, x, kept: select(self, x, self.keep()))


def evaluation_unpruned(patch):
    patch.setattr(
        targeted.Draws, "select",
        lambda self, x, kept: select(self, x, kept) if self.training else x,
    )  # fmt: skip


def one_draw_for_all(patch):
    patch.setattr(Draws, "uniform", lambda self, shared=(): uniform(self, (0, 1)))


def the_mirror_forgotten(patch):
    def unmirrored(self, shared=()):
        u = uniform(self, shared)
        return 1.0 - u if self.mirror else u

    patch.setattr(Draws, "uniform", unmirrored)


CAUGHT = [
    (without_scale, "weight_drop", law.moments_are_the_rows, DOUBLE),
    (without_scale, "mixout", law.moments_are_the_rows, DOUBLE),
    (without_fill, "mixout", law.moments_are_the_rows, DOUBLE),
    (one_mask_for_the_batch, "drop_connect", law.draws_are_shared_as_the_row_says, DOUBLE),
    (a_bias_never_dropped, "drop_connect", law.moments_are_the_rows, DOUBLE),
    (evaluation_with_all_connections, "drop_connect", law.evaluation_draws_nothing, DOUBLE),
    (a_window_ignored, "drop_connect", values.windows_give_their_part_of_the_whole, TORCH),
    (rescaled, "targeted_dropout", law.moments_are_the_rows, DOUBLE),
    (everything_targeted, "targeted_dropout", law.moments_are_the_rows, DOUBLE),
    (evaluation_unpruned, "targeted_dropout", law.evaluation_draws_nothing, TORCH),
    (one_draw_for_all, "concrete_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (the_mirror_forgotten, "concrete_dropout", values.a_mirrored_call_is_another, DOUBLE),
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("fault", "name", "check", "kind"), CAUGHT)
def test_a_fault_is_caught(fault, name, check, kind, monkeypatch):
    a_patch_is_caught(fault, name, check, kind, monkeypatch)
