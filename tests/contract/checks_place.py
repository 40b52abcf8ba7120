"""Where a draw sits: windows, splits, shared axes."""

from itertools import pairwise

import numpy as np

import thinned

from .checks_draw import PLAIN, seen_through_dropout


def spans(length, cuts):
    """[0, length) cut at these places: pairs of start and stop."""
    ends = sorted({0, length, *(cut for cut in cuts if 0 < cut < length)})
    return list(pairwise(ends))


def put_together(kind, shape, cuts, p=0.3, shared=(), mirror=False):
    """Dropout of an array drawn apart, piece by piece, each in its own window."""
    whole = np.full(shape, np.nan)  # an element that no piece writes shows
    axes = [spans(length, cut) for length, cut in zip(shape, cuts, strict=True)]
    x = numbered(shape)
    for choice in np.ndindex(*(len(axis) for axis in axes)):
        where = [axis[n] for axis, n in zip(axes, choice, strict=True)]
        part = tuple(slice(first, stop) for first, stop in where)
        window = thinned.Window(tuple(first for first, _ in where), shape)
        y = thinned.dropout(
            kind.array(x[part]), p, PLAIN, shared_axes=shared, window=window, mirror=mirror
        )
        whole[part] = kind.read(y)
    return whole


def numbered(shape):
    """Small whole numbers other than zero, exact in every type."""
    return (np.arange(np.prod(shape, dtype=int)) % 100 + 1.0).reshape(shape)


def any_split_gives_the_whole(kind, shape, cuts, p=0.3, shared=(), mirror=False):
    y = thinned.dropout(kind.array(numbered(shape)), p, PLAIN, shared_axes=shared, mirror=mirror)
    parts = put_together(kind, shape, cuts, p, shared, mirror)
    np.testing.assert_array_equal(parts, kind.read(y))


# ------------------------------------------------------------------------------------------- checks


def splits_give_the_whole(kind):
    any_split_gives_the_whole(kind, (1000,), [(1, 127, 128, 500)])
    any_split_gives_the_whole(kind, (20, 130), [(3, 8), ()])
    any_split_gives_the_whole(kind, (20, 130), [(), (1, 64, 129)])
    any_split_gives_the_whole(kind, (7, 11, 13), [(2,), (5, 6), (1, 9)])
    any_split_gives_the_whole(kind, (7, 11, 13), [(2,), (5, 6), (1, 9)], mirror=True)
    any_split_gives_the_whole(kind, (6, 9000), [(1, 5), ()], p=0.5)
    any_split_gives_the_whole(kind, (3, 2, 5000), [(1,), (1,), (4500,)])


def large_arrays_are_the_sum_of_small_ones(kind):
    """Large enough for several threads, in parts that one thread does alone."""
    any_split_gives_the_whole(kind, (1_200_007,), [range(100_000, 1_200_000, 100_000)])
    any_split_gives_the_whole(kind, (1100, 900), [range(100, 1100, 100), (450,)], shared=(0,))
    any_split_gives_the_whole(kind, (1100, 900), [range(100, 1100, 100), ()], shared=(1,))


def splits_of_shared_draws_give_the_whole(kind):
    for shared in ((0,), (1,), (0, 2), (1, 2), (0, 1, 2)):
        any_split_gives_the_whole(kind, (6, 8, 10), [(1, 4), (3,), (7,)], shared=shared)


def a_batch_only_needs_to_know_where_it_starts(kind):
    whole = seen_through_dropout(kind, (40, 33), 0.4, PLAIN)
    for start, stop in ((0, 40), (0, 7), (7, 8), (11, 40)):
        for window in (
            thinned.Window(start),
            thinned.Window((start, 0)),
            thinned.Window((start, 0), (40, 33)),
            thinned.Window((start, 0), (10**9, 33)),
        ):
            part = seen_through_dropout(kind, (stop - start, 33), 0.4, PLAIN, window=window)
            np.testing.assert_array_equal(part, whole[start:stop])


def a_mask_goes_by_the_index_alone(kind):
    """C order: an array and its flattened self have the same draws, whatever the shape."""
    flat = seen_through_dropout(kind, (2310,), 0.3, PLAIN)
    for shape in ((2310, 1), (1, 2310), (2, 3, 5, 7, 11), (33, 70), (1, 2310, 1)):
        mask = seen_through_dropout(kind, shape, 0.3, PLAIN)
        np.testing.assert_array_equal(mask.reshape(-1), flat)


def shared_axes_share_one_draw(kind):
    shape = (6, 7, 8)
    for shared in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)):
        mask = seen_through_dropout(kind, shape, 0.4, PLAIN, shared_axes=shared)
        first = mask[tuple(slice(0, 1) if axis in shared else slice(None) for axis in range(3))]
        np.testing.assert_array_equal(mask, np.broadcast_to(first, shape))


def other_axes_do_not_share(kind):
    """Along the other axes stand the draws of an array that has length 1 on the shared ones."""
    shape = (6, 7, 8)
    for shared in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2)):
        mask = seen_through_dropout(kind, shape, 0.4, PLAIN, shared_axes=shared)
        alone = tuple(1 if axis in shared else n for axis, n in enumerate(shape))
        drawn = seen_through_dropout(kind, alone, 0.4, PLAIN)
        np.testing.assert_array_equal(mask, np.broadcast_to(drawn, shape))
        assert 0 < drawn.sum() < drawn.size


def axes_may_be_named_in_any_way(kind):
    def mask(axes):
        return seen_through_dropout(kind, (4, 5, 6), 0.5, PLAIN, shared_axes=axes)

    for same in ((0, 2), (2, 0), (-3, -1), (0, -1), [0, 2], np.array([0, 2])):
        np.testing.assert_array_equal(mask(same), mask((0, 2)))
    np.testing.assert_array_equal(mask(1), mask((1,)))
    np.testing.assert_array_equal(mask(-2), mask((1,)))


def a_window_is_not_looked_at_on_shared_axes(kind):
    mask = seen_through_dropout(kind, (3, 4), 0.5, PLAIN, shared_axes=0)
    for start in (0, 1, 100):
        window = thinned.Window((start, 0), (5, 4))
        moved = seen_through_dropout(kind, (3, 4), 0.5, PLAIN, shared_axes=0, window=window)
        np.testing.assert_array_equal(moved, mask)


def a_window_does_move_the_draw(kind):
    mask = seen_through_dropout(kind, (500,), 0.5, PLAIN)
    for start in (1, 128, 2**32, 2**39, 2**46):
        moved = seen_through_dropout(kind, (500,), 0.5, PLAIN, window=thinned.Window(start))
        assert (moved != mask).any()


CHECKS = [
    splits_give_the_whole,
    splits_of_shared_draws_give_the_whole,
    large_arrays_are_the_sum_of_small_ones,
    a_batch_only_needs_to_know_where_it_starts,
    a_mask_goes_by_the_index_alone,
    shared_axes_share_one_draw,
    other_axes_do_not_share,
    axes_may_be_named_in_any_way,
    a_window_is_not_looked_at_on_shared_axes,
    a_window_does_move_the_draw,
]
