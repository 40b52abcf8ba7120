"""Wrong versions of thin execution, each of which the comparison with whole arrays must catch."""

import pytest
import torch
from thin_networks import assert_equal, pair, step

from thinned.torch.thinning import layers
from thinned.torch.thinning.layers import Drawn


def check(name="chain"):
    fast, whole, x = pair(name)
    for _ in range(2):
        assert_equal(step(fast, x), step(whole, x))


def test_without_a_fault():
    check()


def test_the_scale_is_missing(monkeypatch):
    monkeypatch.setattr(Drawn, "on", lambda self, x, axis: x)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_kept_columns_are_taken_in_another_order(monkeypatch, axis):
    right = layers._gathered_fast

    def wrong(weight, rows, columns):
        if axis == 0 and rows is not None:
            rows = rows.flip(0)
        if axis == 1 and columns is not None:
            columns = columns.flip(0)
        return right(weight, rows, columns)

    monkeypatch.setattr(layers, "_gathered_fast", wrong)
    with pytest.raises(AssertionError):
        check()


def test_the_gradient_goes_to_other_rows(monkeypatch):
    right = layers._scattered

    def wrong(grad, rows, columns, shape):
        return right(grad, rows if rows is None else rows.flip(0), columns, shape)

    monkeypatch.setattr(layers, "_scattered", wrong)
    with pytest.raises(AssertionError):
        check()


def test_dropped_rows_are_left_as_they_lay(monkeypatch):
    right = layers._scattered

    def wrong(grad, rows, columns, shape):
        whole = right(grad, rows, columns, shape)
        touched = right(torch.ones_like(grad), rows, columns, shape) > 0
        return torch.where(touched, whole, 1.0)

    monkeypatch.setattr(layers, "_scattered", wrong)
    with pytest.raises(AssertionError):
        check()


def test_the_second_call_takes_the_first_ones_mask(monkeypatch):
    right, kept = layers.kept_of, {}

    def wrong(units, p, at, *rest):
        return kept.setdefault(at.site, right(units, p, at, *rest))

    monkeypatch.setattr(layers, "kept_of", wrong)
    with pytest.raises(AssertionError):
        check()


def test_a_dropped_unit_is_kept(monkeypatch):
    right = layers.kept_of

    def wrong(units, p, at, *rest):
        drawn = right(units, p, at, *rest)
        return drawn._replace(kept=torch.arange(units))

    monkeypatch.setattr(layers, "kept_of", wrong)
    with pytest.raises(AssertionError):
        check()


def test_units_that_stand_for_none_are_not_zero(monkeypatch):
    monkeypatch.setattr(Drawn, "on", lambda self, x, axis: x * self.scale)
    with pytest.raises(AssertionError):
        check("no channel kept")
