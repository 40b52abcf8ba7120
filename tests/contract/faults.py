"""Faults that people have made, planted one at a time: each is a function of a monkeypatch.

They reach into the library where the mistake would be made, so that everything above it runs as it
is. Most have a source: a counter cut to 32 bits, a seed and a step added up, a probability kept in
8 bits, a tile repeated down the rows, a mask multiplied instead of selected.
"""

import threading
from dataclasses import replace

import numpy as np

import thinned
from thinned import checks, reference
from thinned.backends import base
from thinned.backends.numpy import NumpyBackend

ENDS = (0, 2**32)


def around(patch, owner, name, change):
    """Replace owner.name by a function that gets the true one first: change(real, ...)."""
    real = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **how: change(real, *args, **how))


def draws(patch, change):
    for name in ("keep_range", "keep_at"):
        around(patch, reference, name, change)


def blocks(patch, change):
    around(patch, reference, "_blocks", change)


def thresholds(patch, change):
    """Change thresholds strictly between the ends."""

    def changed(real, p):
        t = real(p)
        return t if t in ENDS else change(p, t)

    around(patch, reference, "threshold", changed)


def results(patch, change):
    """Replace the arithmetic: change(x, keep, scale) gives y."""

    def changed(x, keep, scale, fill=0.0):
        with np.errstate(all="ignore"):
            return change(x, keep, scale).astype(x.dtype)

    patch.setattr(reference, "apply", changed)


def places(patch, change):
    """Replace the placement: change(real, shape, shared axes, window)."""

    def changed(real, who, shape, shared=(), window=None, *most):
        return change(lambda *a: real(who, *a), shape, checks.axes(who, shared, len(shape)), window)

    around(patch, base, "place", changed)


def moved(place, strides=None, offset=None):
    """The placement with other strides or another offset, its shortcuts switched off."""
    strides = tuple(place.strides if strides is None else strides)
    offset = place.offset if offset is None else offset
    return replace(place, strides=strides, offset=offset, in_order=False, steps=strides)


def applied(patch, change):
    """Replace the backend's step: change(real, x, out)."""

    def changed(real, self, x, draw, scale, fill, out):
        return change(lambda x, out: real(self, x, draw, scale, fill, out), x, out)

    around(patch, NumpyBackend, "apply", changed)


# -------------------------------------------------------------------------------------- the draw


def inverted_mask(patch):
    draws(patch, lambda real, *args: ~real(*args))


def nothing_is_dropped(patch):
    draws(patch, lambda real, *args: np.ones_like(real(*args)))


def dropped_at_the_threshold_too(patch):
    thresholds(patch, lambda p, t: t + 1)


def planes_below_the_sixteenth_ignored(patch):
    thresholds(patch, lambda p, t: t & ~0xFFFF)


def probability_in_eight_bits(patch):
    thresholds(patch, lambda p, t: round(p * 2**8) << 24)


def probability_in_half_precision(patch):
    around(patch, reference, "threshold", lambda real, p: real(float(np.float16(p))))
    around(patch, reference, "scale_for", lambda real, p: real(float(np.float16(p))))


def one_plane_for_all(patch):
    blocks(patch, lambda real, at, b, tag: real(at, b, 0))


def block_number_cut_to_32_bits(patch):
    blocks(patch, lambda real, at, b, tag: real(at, b & np.uint64(2**32 - 1), tag))


def index_cut_to_32_bits(patch):
    around(
        patch,
        reference,
        "keep_range",
        lambda real, at, t, start, *rest: real(at, t, start % 2**32, *rest),
    )
    around(
        patch,
        reference,
        "keep_at",
        lambda real, at, t, index, *rest: real(at, t, index & np.uint64(2**32 - 1), *rest),
    )


def one_tile_repeated(patch):
    blocks(patch, lambda real, at, b, tag: real(at, b & np.uint64(0), tag))


def high_half_of_the_seed_ignored(patch):
    patch.setattr(reference, "key_of", lambda seed: (seed & 0xFFFFFFFF, 0))


def seed_cut_to_16_bits(patch):
    patch.setattr(reference, "key_of", lambda seed: (seed & 0xFFFF, 0))


def call_ignored(patch):
    blocks(patch, lambda real, at, b, tag: real(at.replace(call=0), b, tag))


def site_and_step_swapped(patch):
    blocks(
        patch, lambda real, at, b, tag: real(at.replace(site=at.step, step=at.site % 2**31), b, tag)
    )


def tag_and_call_swapped(patch):
    def swapped(real, at, b, tag):
        counter = (b & 0xFFFFFFFF, (b >> 32) | tag << 8 | at.call << 24, at.site, at.step)
        return reference.philox(counter, (at.seed & 0xFFFFFFFF, at.seed >> 32))

    blocks(patch, swapped)


def coordinates_added_up(patch):
    def added(real, at, b, tag):
        seed = (at.seed + at.site + at.step + at.call) % 2**64
        return real(thinned.Address(seed=seed), b, tag)

    blocks(patch, added)


def another_stream_for_each_p(patch):
    draws(patch, lambda real, at, t, *rest: real(at.fold_in(t), t, *rest))


def a_counter_in_hiding(patch):
    drawn = []

    def counted(real, at, *rest):
        drawn.append(at)
        return real(at.fold_in(len(drawn)), *rest)

    draws(patch, counted)


def a_stream_for_each_thread(patch):
    def by_thread(real, at, *rest):
        main = threading.current_thread() is threading.main_thread()
        return real(at if main else at.fold_in(1), *rest)

    draws(patch, by_thread)


def mirror_ignored(patch):
    around(patch, reference, "_plane", lambda real, at, b, j, mirror: real(at, b, j, False))


def mirror_inverts_the_mask(patch):
    def inverted(real, at, t, where, *rest):
        *count, mirror = rest
        keep = real(at, t, where, *count, False)
        return ~keep if mirror else keep

    draws(patch, inverted)


def keep_mask_says_the_opposite(patch):
    around(patch, NumpyBackend, "keep", lambda real, self, *how: ~real(self, *how))


# ------------------------------------------------------------------------------------- the place


def mask_shared_across_the_batch(patch):
    places(patch, lambda real, shape, shared, window: real(shape, {0, *shared} if shape else ()))


def window_ignored(patch):
    places(patch, lambda real, shape, shared, window: real(shape, shared))


def window_without_the_whole_shape(patch):
    def local(real, shape, shared, window):
        place = real(shape, shared, window)
        return moved(place, strides=real(shape, shared).strides)

    places(patch, local)


def window_moves_shared_axes(patch):
    def shifted(real, shape, shared, window):
        place = real(shape, shared, window)
        extra = 0 if window is None else sum(window.start[axis] for axis in shared)
        return moved(place, offset=place.offset + extra)

    places(patch, shifted)


def column_major_index(patch):
    def columns(real, shape, shared, window):
        whole = shape if window is None or window.global_shape is None else window.global_shape
        start = (0,) * len(shape) if window is None else window.start
        strides = tuple(int(np.prod(whole[:axis])) for axis in range(len(shape)))
        offset = sum(s * n for s, n in zip(start, strides, strict=False))
        return moved(real(shape, shared), strides, offset)

    places(patch, columns)


def shared_axes_ignored(patch):
    places(patch, lambda real, shape, shared, window: real(shape, (), window))


def shared_means_independent(patch):
    def others(real, shape, shared, window):
        rest = tuple(axis for axis in range(len(shape)) if axis not in shared)
        return real(shape, rest if shared else (), window)

    places(patch, others)


def shared_axes_share_everything(patch):
    def all_axes(real, shape, shared, window):
        return real(shape, range(len(shape)) if shared else (), window)

    places(patch, all_axes)


def shared_axes_keep_their_length(patch):
    def long(real, shape, shared, window):
        place = real(shape, (), window)
        strides = [0 if axis in shared else n for axis, n in enumerate(place.strides)]
        return moved(real(shape, shared, window), strides)

    places(patch, long)


def negative_axes_counted_from_the_front(patch):
    around(
        patch,
        base,
        "place",
        lambda real, who, shape, shared=(), window=None, *most: real(
            who,
            shape,
            tuple({max(axis, ~axis) for axis in map(int, np.atleast_1d(shared))}),
            window,
            *most,
        ),
    )


# ------------------------------------------------------------------------------------- the values


def always_zero(patch):
    results(patch, lambda x, keep, scale: np.zeros_like(x))


def missing_scale(patch):
    patch.setattr(reference, "scale_for", lambda p: 1.0)


def scale_a_little_off(patch):
    around(patch, reference, "scale_for", lambda real, p: real(p) * (1.0 + 2.0**-8))


def scaled_in_the_type_of_x(patch):
    results(patch, lambda x, keep, scale: np.where(keep, x * x.dtype.type(scale), x.dtype.type(0)))


def divided_instead_of_multiplied(patch):
    results(
        patch,
        lambda x, keep, scale: np.where(
            keep, x.astype(np.float32) / np.float32(1.0 / scale), np.float32(0.0)
        ),
    )


def multiplied_by_the_mask(patch):
    results(patch, lambda x, keep, scale: x.astype(np.float32) * (keep * np.float32(scale)))


def overflow_clipped(patch):
    def clipped(real, x, *rest):
        largest = np.nextafter(x.dtype.type(np.inf), x.dtype.type(0))
        return np.clip(real(x, *rest), -largest, largest)

    around(patch, reference, "apply", clipped)


def sign_lost(patch):
    around(patch, reference, "apply", lambda real, x, *rest: real(np.abs(x), *rest))


def bias_added(patch):
    around(patch, reference, "apply", lambda real, x, *rest: real(x, *rest) + x.dtype.type(1))


def scalars_never_dropped(patch):
    def kept(real, x, keep, *rest):
        return real(x, np.ones_like(keep) if x.ndim == 0 else keep, *rest)

    around(patch, reference, "apply", kept)


def training_ignored(patch):
    around(
        patch,
        checks,
        "flag",
        lambda real, who, name, value: real(who, name, value) or name == "training",
    )


def evaluation_copies(patch):
    def copied(real, x, *args, **how):
        y = real(x, *args, **how)
        return y.copy() if y is x else y

    around(patch, thinned, "dropout", copied)


# ------------------------------------------------------------------------------------- the layout


def input_overwritten(patch):
    def written(real, x, out):
        y = real(x, out)
        if x.flags.writeable:
            x[...] = y
        return y

    applied(patch, written)


def input_given_back_at_p_zero(patch):
    def aliased(real, x, keep, *rest):
        return x if keep.all() else real(x, keep, *rest)

    around(patch, reference, "apply", aliased)


def memory_order_lost(patch):
    around(patch, reference, "apply", lambda real, x, *rest: real(np.ascontiguousarray(x), *rest))


def memory_read_in_its_own_order(patch):
    around(
        patch,
        reference,
        "apply",
        lambda real, x, *rest: real(x.ravel(order="K").reshape(x.shape), *rest),
    )


def byte_order_lost(patch):
    around(
        patch,
        reference,
        "apply",
        lambda real, x, *rest: real(x.astype(x.dtype.newbyteorder("=")), *rest),
    )


def out_ignored(patch):
    applied(patch, lambda real, x, out: real(x, None))


def out_cleared_before_x_is_read(patch):
    def cleared(real, x, out):
        if out is not None:
            out[...] = 0
        return real(x, out)

    applied(patch, cleared)


def out_written_one_by_one(patch):
    """As a loop without regard to overlap would: y[i] is written before x[i + 1] is read."""

    def one_by_one(real, x, out):
        if out is None or out.ndim != 1:
            return real(x, out)
        scaled = real(np.ones_like(x), None)
        for i in range(x.size):
            out[i] = x[i] * scaled[i]
        return out

    applied(patch, one_by_one)


def out_written_beyond_its_end(patch):
    def beyond(real, x, out):
        if out is not None and out.base is not None:
            out.base[...] = 0
        return real(x, out)

    applied(patch, beyond)


def out_not_filled_in_evaluation(patch):
    patch.setattr(NumpyBackend, "copy", lambda self, x, out: out)


def scalars_become_arrays(patch):
    applied(patch, lambda real, x, out: np.asarray(real(x, out)))
