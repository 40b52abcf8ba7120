"""The battery can fail: faults planted in what all methods draw from are caught by named checks.

Caught means an AssertionError of that check: a fault that merely crashes has shown nothing.
"""

import pytest
from contract.kinds import NumpyKind, TorchKind

pytest.importorskip("torch", reason="torch is not installed")

from thinned.backends.base import Located
from thinned.backends.torch import backend
from thinned.methods import table
from thinned.methods.draws import Draws
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.site import Site

from . import checks_law as law, checks_values as values, test_modules
from .planted import a_patch_is_caught
from .trying import DOUBLE, FASTEST, outputs, row_named

TORCH = TorchKind("float64", FASTEST)
draw, noise, uniform, select = Draws.draw, Draws.noise, Draws.uniform, Draws.select
located = Sited.located


def batch_shared(patch):
    def shared(self, threshold=0, shared_axes=(), *rest, **named):
        return draw(self, threshold, tuple({0, *shared_axes}), *rest, **named)

    patch.setattr(Draws, "draw", shared)


def shared_axes_forgotten(patch):
    patch.setattr(Draws, "noise", lambda self, x, shared_axes=(), **named: noise(self, x, **named))


def scale_forgotten(patch):
    patch.setattr(Draws, "rate", lambda self, p=None: (round(self.p * 2**32), 1.0))


def p_is_to_keep(patch):
    patch.setattr(
        Draws, "rate", lambda self, p=None: (round((1 - self.p) * 2**32), 1 / (1 - self.p))
    )


def half_the_spread(patch):
    patch.setattr(Draws, "uniform", lambda self, *a, **k: 0.25 + uniform(self, *a, **k) / 2)


def window_forgotten(patch):
    patch.setattr(Located, "checked", staticmethod(lambda who, at, window: Located(at, None)))


def mirror_forgotten(patch):
    patch.setattr(Draws, "draw", lambda self, *a, **k: draw(self, *a, **k)._replace(mirror=False))


def a_counter_in_hiding(patch):
    calls = []

    def counted(self, *args, **named):
        calls.append(1)
        found = draw(self, *args, **named)
        return found._replace(at=found.at.fold_in(len(calls)))

    patch.setattr(Draws, "draw", counted)


def always_training(patch):
    def made(self, who, x, p, at, training=True, window=None, mirror=False):
        begin(self, who, x, p, at, True, window, mirror)

    begin = Draws.__init__
    patch.setattr(Draws, "__init__", made)


CAUGHT = [
    (batch_shared, "drop_path", law.draws_are_shared_as_the_row_says, DOUBLE),
    (batch_shared, "uniform_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (shared_axes_forgotten, "drop_path", law.draws_are_shared_as_the_row_says, DOUBLE),
    (scale_forgotten, "drop_path", law.moments_are_the_rows, DOUBLE),
    (p_is_to_keep, "drop_path", law.the_dropped_share_is_p, DOUBLE),
    (half_the_spread, "uniform_dropout", law.moments_are_the_rows, DOUBLE),
    (window_forgotten, "drop_path", values.windows_give_their_part_of_the_whole, DOUBLE),
    (window_forgotten, "gaussian_dropout", values.windows_give_their_part_of_the_whole, TORCH),
    (mirror_forgotten, "uniform_dropout", values.a_mirrored_call_is_another, DOUBLE),
    (a_counter_in_hiding, "drop_path", law.equal_addresses_draw_alike, DOUBLE),
    (a_counter_in_hiding, "uniform_dropout", values.gradients_use_the_forwards_mask, TORCH),
    (always_training, "drop_path", law.evaluation_draws_nothing, DOUBLE),
    (always_training, "stochastic_depth", law.evaluation_draws_nothing, TORCH),
]


@pytest.mark.parametrize(("fault", "name", "check", "kind"), CAUGHT)
def test_a_fault_is_caught(fault, name, check, kind, monkeypatch):
    a_patch_is_caught(fault, name, check, kind, monkeypatch)


def test_a_backend_that_disagrees_is_caught(monkeypatch):
    row = row_named("uniform_dropout")
    uniform = backend.TorchBackend.uniform

    def turned(self, *of):
        return 1.0 - uniform(self, *of)

    monkeypatch.setattr(backend.TorchBackend, "uniform", turned)
    with pytest.raises(AssertionError):
        values.every_backend_agrees(row, TorchKind("float32", FASTEST))
    values.every_backend_agrees(row, NumpyKind("float32", FASTEST))


def step_forgotten(patch):
    def frozen(self, *args):
        at, window, p = at_site(self, *args)
        return at.replace(step=0), window, p

    at_site = Site.located
    patch.setattr(Site, "located", frozen)


def call_forgotten(patch):
    def first(self, *args):
        at, window, p = at_site(self, *args)
        return at.replace(call=0), window, p

    at_site = Site.located
    patch.setattr(Site, "located", first)


def site_forgotten(patch):
    def anywhere(self, *args):
        at, window, p = at_site(self, *args)
        return at.replace(site="somewhere"), window, p

    at_site = Site.located
    patch.setattr(Site, "located", anywhere)


def piece_forgotten(patch):
    def whole(self, *args):
        at, _, p = at_site(self, *args)
        return at, None, p

    at_site = Site.located
    patch.setattr(Site, "located", whole)


@pytest.mark.parametrize(("fault", "test"), [
    (step_forgotten, test_modules.test_adopted_each_draws_at_its_site),
    (call_forgotten, test_modules.test_adopted_each_draws_at_its_site),
    (site_forgotten, test_modules.test_adopted_each_draws_at_its_site),
    (piece_forgotten, test_modules.test_pieces_of_a_batch_draw_the_whole_ones_masks),
])  # fmt: skip
def test_a_fault_of_the_site_is_caught(fault, test, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="differ"):
        test()


def test_a_row_without_noise_is_caught(monkeypatch):
    row = row_named("drop_path")
    monkeypatch.setattr(Draws, "noise", lambda self, x, **named: x)
    outputs.cache_clear()
    with pytest.raises(AssertionError):
        law.moments_are_the_rows(row)
    outputs.cache_clear()


def test_find_knows_every_alias():
    for row in table.every():
        for name in (row.name, row.title, *(a for group in row.aliases.values() for a in group)):
            assert isinstance(table.find(name), table.Method)
    assert table.find("drop-path").name == table.find("timm.layers.DropPath").name == "drop_path"
    with pytest.raises(KeyError, match=r"no method is known as 'drop_bath'\. Did you mean"):
        table.find("drop_bath")
