"""The suite can fail: each planted fault is caught by the check that is named beside it.

Caught means an AssertionError of that check: a fault that merely crashes has shown nothing. The
faults sit in the reference, so it is the reference that draws here; compiled kernels answer to the
same checks.
"""

import pytest

from . import (
    checks_draw as draw,
    checks_law as law,
    checks_layout as layout,
    checks_place as place,
    checks_values as values,
    faults,
)
from .kinds import NumpyKind

SINGLE = NumpyKind("float32")
BRAIN = NumpyKind("bfloat16")
HALF = NumpyKind("float16")
DOUBLE = NumpyKind("float64")

CAUGHT = [
    (faults.inverted_mask, draw.masks_are_the_twins, SINGLE),
    (faults.inverted_mask, law.the_kept_share_is_binomial, SINGLE),
    (faults.nothing_is_dropped, law.the_kept_share_is_binomial, SINGLE),
    (faults.nothing_is_dropped, law.moments_are_those_of_the_law, SINGLE),
    (faults.dropped_at_the_threshold_too, draw.the_boundary_is_strict, SINGLE),
    (faults.planes_below_the_sixteenth_ignored, draw.the_boundary_is_strict, SINGLE),
    (faults.probability_in_eight_bits, law.the_kept_share_is_binomial, SINGLE),
    (faults.probability_in_half_precision, values.p_arrives_at_its_own_precision, SINGLE),
    (faults.one_plane_for_all, law.the_kept_share_is_binomial, SINGLE),
    (faults.block_number_cut_to_32_bits, draw.masks_are_the_twins, SINGLE),
    (faults.block_number_cut_to_32_bits, place.a_window_does_move_the_draw, SINGLE),
    (faults.index_cut_to_32_bits, draw.masks_are_the_twins, SINGLE),
    (faults.index_cut_to_32_bits, place.a_window_does_move_the_draw, SINGLE),
    (faults.one_tile_repeated, law.neighbouring_elements_are_independent, SINGLE),
    (faults.one_tile_repeated, law.rows_are_independent, SINGLE),
    (faults.high_half_of_the_seed_ignored, draw.every_coordinate_counts, SINGLE),
    (faults.high_half_of_the_seed_ignored, law.neighbouring_addresses_are_independent, SINGLE),
    (faults.seed_cut_to_16_bits, draw.every_coordinate_counts, SINGLE),
    (faults.call_ignored, draw.every_coordinate_counts, SINGLE),
    (faults.site_and_step_swapped, draw.masks_are_the_published_ones, SINGLE),
    (faults.window_without_the_whole_shape, draw.windows_are_the_published_ones, SINGLE),
    (faults.shared_axes_keep_their_length, draw.shared_masks_are_the_published_ones, SINGLE),
    (faults.tag_and_call_swapped, draw.masks_are_the_twins, SINGLE),
    (faults.tag_and_call_swapped, draw.mirrored_masks_are_the_twins, SINGLE),
    (faults.coordinates_added_up, draw.every_coordinate_counts, SINGLE),
    (faults.coordinates_added_up, law.neighbouring_addresses_are_independent, SINGLE),
    (faults.another_stream_for_each_p, law.a_larger_p_keeps_a_subset, SINGLE),
    (faults.a_counter_in_hiding, draw.draws_repeat, SINGLE),
    (faults.a_counter_in_hiding, values.the_backward_pass_is_the_same_call, SINGLE),
    (faults.a_stream_for_each_thread, draw.threads_draw_alike, SINGLE),
    (faults.mirror_ignored, draw.mirrored_masks_are_the_twins, SINGLE),
    (faults.mirror_ignored, law.a_mirrored_draw_is_antithetic, SINGLE),
    (faults.mirror_inverts_the_mask, law.a_mirrored_draw_is_antithetic, SINGLE),
    (faults.keep_mask_says_the_opposite, draw.the_mask_is_what_dropout_does, SINGLE),
    (faults.mask_shared_across_the_batch, law.rows_are_independent, SINGLE),
    (faults.mask_shared_across_the_batch, place.a_mask_goes_by_the_index_alone, SINGLE),
    (faults.window_ignored, place.splits_give_the_whole, SINGLE),
    (faults.window_ignored, place.large_arrays_are_the_sum_of_small_ones, SINGLE),
    (faults.window_ignored, place.a_batch_only_needs_to_know_where_it_starts, SINGLE),
    (faults.window_without_the_whole_shape, place.splits_give_the_whole, SINGLE),
    (faults.window_without_the_whole_shape, place.splits_of_shared_draws_give_the_whole, SINGLE),
    (faults.window_moves_shared_axes, place.a_window_is_not_looked_at_on_shared_axes, SINGLE),
    (faults.column_major_index, place.a_mask_goes_by_the_index_alone, SINGLE),
    (faults.column_major_index, place.a_batch_only_needs_to_know_where_it_starts, SINGLE),
    (faults.shared_axes_ignored, place.shared_axes_share_one_draw, SINGLE),
    (faults.shared_means_independent, place.shared_axes_share_one_draw, SINGLE),
    (faults.shared_axes_share_everything, place.other_axes_do_not_share, SINGLE),
    (faults.shared_axes_keep_their_length, draw.shared_masks_are_the_twins, SINGLE),
    (faults.shared_axes_keep_their_length, place.other_axes_do_not_share, SINGLE),
    (faults.negative_axes_counted_from_the_front, place.axes_may_be_named_in_any_way, SINGLE),
    (faults.always_zero, values.values_are_exact, SINGLE),
    (faults.always_zero, values.any_shape_works, SINGLE),
    (faults.missing_scale, values.values_are_the_published_ones, HALF),
    (faults.missing_scale, law.moments_are_those_of_the_law, SINGLE),
    (faults.scale_a_little_off, values.p_zero_gives_the_input, SINGLE),
    (faults.scaled_in_the_type_of_x, values.values_are_exact, BRAIN),
    (faults.scaled_in_the_type_of_x, values.values_are_exact, HALF),
    (faults.divided_instead_of_multiplied, values.values_are_exact, SINGLE),
    (faults.divided_instead_of_multiplied, values.values_are_exact, DOUBLE),
    (faults.multiplied_by_the_mask, values.dropped_nonfinite_numbers_are_zero, SINGLE),
    (faults.multiplied_by_the_mask, values.p_one_gives_zeros, SINGLE),
    (faults.overflow_clipped, values.an_overflow_is_infinity, SINGLE),
    (faults.sign_lost, values.the_backward_pass_is_the_same_call, SINGLE),
    (faults.bias_added, values.dropout_is_linear, SINGLE),
    (faults.scalars_never_dropped, values.any_shape_works, SINGLE),
    (faults.training_ignored, values.evaluation_is_the_identity, SINGLE),
    (faults.evaluation_copies, values.evaluation_is_the_identity, SINGLE),
    (faults.input_overwritten, values.the_input_stays_as_it_was, SINGLE),
    (faults.input_given_back_at_p_zero, layout.inputs_of_any_layout_stay_as_they_were, SINGLE),
    (faults.memory_order_lost, layout.memory_order_is_kept, SINGLE),
    (faults.memory_read_in_its_own_order, layout.any_layout_gives_the_same_values, SINGLE),
    (faults.byte_order_lost, layout.byte_order_is_kept, SINGLE),
    (faults.out_ignored, layout.out_takes_the_result, SINGLE),
    (faults.out_cleared_before_x_is_read, layout.out_may_be_the_input, SINGLE),
    (faults.out_written_one_by_one, layout.out_may_overlap_the_input, SINGLE),
    (faults.out_written_beyond_its_end, layout.out_leaves_the_rest_alone, SINGLE),
    (faults.out_not_filled_in_evaluation, layout.evaluation_fills_out, SINGLE),
    (faults.scalars_become_arrays, layout.scalars_stay_scalars, SINGLE),
]


@pytest.mark.parametrize(
    ("fault", "check", "kind"),
    CAUGHT,
    ids=[f"{fault.__name__}-{check.__name__}-{kind}" for fault, check, kind in CAUGHT],
)
def test_the_fault_is_caught(fault, check, kind, monkeypatch):
    with kind.in_use():
        fault(monkeypatch)
        with pytest.raises(AssertionError):
            check(kind)


def test_every_check_catches_a_fault():
    rooms = (draw, law, place, values, layout)
    checks = {check.__name__ for room in rooms for check in room.CHECKS}
    assert checks - {check.__name__ for _, check, _ in CAUGHT} == set()
