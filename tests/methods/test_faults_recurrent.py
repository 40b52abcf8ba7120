"""Faults planted in the recurrent methods: each is caught by the check that is there for it."""

import numpy as np
import pytest
import torch
from contract.kinds import TorchKind

from thinned.methods import alpha, recurrent
from thinned.methods.draws import NO_P, Draws
from thinned.torch.compat import recurrence
from thinned.torch.rnn import layer as rnn_layer
from thinned.torch.rnn.masks import CELL, HIDDEN, Masks
from thinned.torch.rnn.sequences import Rows

from . import checks_law as law, checks_values as values, test_rnn
from .planted import a_patch_is_caught
from .trying import DOUBLE, FASTEST, row_named

TORCH = TorchKind("float64", FASTEST)

# ------------------------------------------------------------------------------------------- layers

LOCKED, ZONED = {"input_p": 0.4}, {"zoneout_hidden_p": 0.4, "zoneout_cell_p": 0.2}
CANDIDATE, GAL = {"recurrent_p": 0.4}, {"recurrent_p": 0.4, "recurrent": "gal"}
on_sequence, each_step, all_steps = Masks.on_sequence, Masks.each_step, Masks.all_steps
on_weight = Masks.on_weight


def anew_for_each_step(patch):
    patch.setattr(Masks, "on_sequence", lambda self, x, p, n, locked: on_sequence(self, x, p, n, 0))


def rows_share_a_mask(patch):
    def first_row(self, like, units, p, number):
        return tuple(m[:1].expand(m.shape) for m in each_step(self, like, units, p, number))

    patch.setattr(Masks, "each_step", first_row)


def steps_share_a_mask(patch):
    def first_step(self, like, units, p, number):
        found = each_step(self, like, units, p, number)
        return (found[0],) * len(found)

    patch.setattr(Masks, "each_step", first_step)


def gates_share_a_mask(patch):
    def first_gate(self, like, units, p, numbers):
        found = all_steps(self, like, units, p, numbers)
        return found[:1].expand(found.shape)

    patch.setattr(Masks, "all_steps", first_gate)


def zoneout_of_the_wrong_state(patch):
    patch.setattr(rnn_layer, "HIDDEN", CELL)
    patch.setattr(rnn_layer, "CELL", HIDDEN)


def zoneout_keeps_what_it_should_renew(patch):
    def turned(self, zone, new, old, t):
        return new if zone is None else torch.where(zone[t], old, new)

    patch.setattr(recurrence.CellNoise, "zoned", turned)


def output_of_the_zoned_cell(patch):
    """h' = o tanh(c) with c after its zoneout: what the paper does not do."""

    def loop(x, states, weights, noise, backward):
        (h, c), (w_ih, w_hh, *biases) = states, weights
        found = []
        for t in reversed(range(len(x))) if backward else range(len(x)):
            a = x[t] @ w_ih.T + h @ w_hh.T + sum(biases)
            i, f, g, o = a.chunk(4, 1)
            c = noise.zoned(noise.cell, f.sigmoid() * c + i.sigmoid() * g.tanh(), c, t)
            h = noise.zoned(noise.hidden, o.sigmoid() * c.tanh(), h, t)
            found.append(h)
        return torch.stack(found[::-1] if backward else found), (h, c)

    patch.setattr(rnn_layer.Recurrent.__subclasses__()[0], "step", staticmethod(loop))


def scale_forgotten(patch):
    patch.setattr(Masks, "scale", lambda self, like, p: 1.0)


def memory_dropped_too(patch):
    added = recurrence.CellNoise.added

    def wrong(self, kept, gate, g, t):
        kept = kept if self.candidate is None else torch.where(self.candidate[t], kept, 0.0)
        return added(self, kept, gate, g, t)

    patch.setattr(recurrence.CellNoise, "added", wrong)


def raw_weight_without_gradient(patch):
    patch.setattr(Masks, "on_weight", lambda self, w, p, n: on_weight(self, w.detach(), p, n))


def raw_weight_overwritten(patch):
    def overwritten(self, w, p, n):
        with torch.no_grad():
            w.copy_(on_weight(self, w, p, n))
        return w

    patch.setattr(Masks, "on_weight", overwritten)


def directions_share_masks(patch):
    number_of = rnn_layer.number_of
    patch.setattr(rnn_layer, "number_of", lambda what, layer, way=0: number_of(what, layer))


def packed_rows_in_sorted_order(patch):
    places = Rows._places

    def sorted_places(self):
        step, row = places(self)
        return step, row if self.unsorting is None else self.unsorting[row]

    patch.setattr(Rows, "_places", sorted_places)


def ends_of_sequences_forgotten(patch):
    patch.setattr(Rows, "present", lambda self: None)


def piece_forgotten(patch):
    def made(self, who, at, window, n, steps):
        begin(self, who, at, None, n, steps)

    begin = Masks.__init__
    patch.setattr(Masks, "__init__", made)


def length_enters_the_index(patch):
    patch.setattr(Masks, "_draws", lambda self, x: Draws(self.who, x, NO_P, self._at))


def evaluation_as_training(patch):
    patch.setattr(rnn_layer.Recurrent, "_zoned", lambda self: False)


def slow_loop(kind, options):
    return lambda: test_rnn.check_the_slow_loop(kind, options)


def packed(kind, options):
    return lambda: test_rnn.check_packed(kind, options)


BOTH_WAYS = {"recurrent_p": 0.4, "bidirectional": True}
PLANTED = [
    (anew_for_each_step, slow_loop("LSTM", LOCKED)),
    (anew_for_each_step, slow_loop("GRU", {"output_p": 0.4})),
    (rows_share_a_mask, slow_loop("LSTM", CANDIDATE)),
    (rows_share_a_mask, slow_loop("GRU", {"zoneout_hidden_p": 0.4})),
    (steps_share_a_mask, slow_loop("GRU", CANDIDATE)),
    (gates_share_a_mask, slow_loop("LSTM", GAL)),
    (gates_share_a_mask, slow_loop("GRU", GAL)),
    (zoneout_of_the_wrong_state, slow_loop("LSTM", ZONED)),
    (zoneout_keeps_what_it_should_renew, slow_loop("GRU", {"zoneout_hidden_p": 0.4})),
    (output_of_the_zoned_cell, slow_loop("LSTM", ZONED)),
    (scale_forgotten, slow_loop("LSTM", CANDIDATE)),
    (scale_forgotten, slow_loop("GRU", GAL)),
    (memory_dropped_too, slow_loop("LSTM", CANDIDATE)),
    (memory_dropped_too, slow_loop("GRU", CANDIDATE)),
    (raw_weight_without_gradient, lambda: test_rnn.check_the_raw_weight("LSTM")),
    (raw_weight_overwritten, lambda: test_rnn.check_the_raw_weight("GRU")),
    (directions_share_masks, slow_loop("LSTM", BOTH_WAYS)),
    (packed_rows_in_sorted_order, packed("LSTM", LOCKED)),
    (packed_rows_in_sorted_order, packed("GRU", CANDIDATE)),
    (ends_of_sequences_forgotten, packed("GRU", BOTH_WAYS)),
    (piece_forgotten, lambda: test_rnn.check_pieces("LSTM", CANDIDATE)),
    (piece_forgotten, lambda: test_rnn.check_pieces("GRU", LOCKED, False)),
    (length_enters_the_index, lambda: test_rnn.test_padding_does_not_enter_a_mask("LSTM")),
    (evaluation_as_training, slow_loop("LSTM", ZONED)),
]


@pytest.mark.parametrize(("fault", "check"), PLANTED, ids=[f.__name__ for f, _ in PLANTED])
def test_a_fault_in_a_layer_is_caught(fault, check, monkeypatch):
    check()
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check()


# --------------------------------------------------------------------------------------------- rows

noise = Draws.noise


def time_drawn_too(patch):
    patch.setattr(Draws, "noise", lambda self, x, shared_axes=(), **named: noise(self, x, **named))


def batch_shared(patch):
    patch.setattr(Draws, "noise", lambda self, x, **named: noise(self, x, shared_axes=(0,)))


def time_axis_ignored(patch):
    patch.setattr(recurrent.checks, "integer", lambda *a: 0)


def filled_with_zero(patch):
    patch.setattr(Draws, "noise", lambda self, x, fill=0.0, **named: noise(self, x, **named))


def expectation_forgotten(patch):
    patch.setattr(Draws, "wide", lambda self, x: np.zeros_like(x))


def affine_without_b(patch):
    affine = alpha.affine
    patch.setattr(alpha, "affine", lambda *a: (affine(*a)[0], 0.0))


def not_affine(patch):
    patch.setattr(alpha, "affine", lambda *a: (1.0, 0.0))


def wrong_lowest_value(patch):
    patch.setattr(Draws, "noise", lambda self, x, fill=0.0, **named: noise(self, x, fill=-1.6733,
                                                                            **named))  # fmt: skip


ROWS = [
    (time_drawn_too, "locked_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (time_axis_ignored, "locked_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (batch_shared, "recurrent_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (filled_with_zero, "zoneout", law.moments_are_the_rows, DOUBLE),
    (expectation_forgotten, "zoneout", law.evaluation_draws_nothing, DOUBLE),
    (affine_without_b, "alpha_dropout", law.moments_are_the_rows, DOUBLE),
    (not_affine, "feature_alpha_dropout", law.moments_are_the_rows, DOUBLE),
    (wrong_lowest_value, "alpha_dropout", law.moments_are_the_rows, DOUBLE),
    (time_drawn_too, "feature_alpha_dropout", law.draws_are_shared_as_the_row_says, DOUBLE),
    (filled_with_zero, "alpha_dropout", law.moments_are_the_rows, DOUBLE),
]


@pytest.mark.parametrize(("fault", "name", "check", "kind"), ROWS)
def test_a_fault_in_a_row_is_caught(fault, name, check, kind, monkeypatch):
    a_patch_is_caught(fault, name, check, kind, monkeypatch)


def test_a_gradient_with_another_mask_is_caught(monkeypatch):
    row, calls = row_named("locked_dropout"), []

    def counted(self, x, **named):
        calls.append(1)
        return noise(self, x, **{**named, "number": len(calls)})

    monkeypatch.setattr(Draws, "noise", counted)
    with pytest.raises(AssertionError):
        values.gradients_use_the_forwards_mask(row, TORCH)
