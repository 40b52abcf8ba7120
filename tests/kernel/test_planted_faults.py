"""The comparison can fail: faults planted in the way to the compiled functions are each caught.

A fault changes what `_native.apply` or `_native.packed` is asked for, or what it has done, as a
mistake in the backend or in the kernel would. Caught means an AssertionError of a comparison that
passes without the fault.
"""

import numpy as np
import pytest

import thinned
from thinned import _native, reference
from thinned.backends.numpy import Law, Op, backend

from .against import (
    AT,
    TYPES,
    assert_applied,
    assert_drawn,
    assert_dropped,
    draw,
    expected,
    numbers,
)

SINGLE, HALF, BRAIN, DOUBLE = (TYPES[n] for n in ("float32", "float16", "bfloat16", "float64"))
NAMES = [
    "x",
    "y",
    "f",
    "law",
    "type",
    "op",
    "scale",
    "fill",
    "seed",
    "site",
    "step",
    "call",
    "threshold",
    "mirror",
    "offset",
    "strides",
    "threads",
]
WHOLE = 2**32


# ------------------------------------------------------------------------------------- comparisons


def plain():
    assert_dropped(numbers((40, 70), SINGLE), 0.3)


def at_half():
    assert_dropped(numbers((40, 70), SINGLE), 0.5)


def at_the_ends():
    for p in (0.0, 1.0):
        assert_dropped(numbers((40, 70), SINGLE), p)


def mirrored():
    assert_dropped(numbers((40, 70), SINGLE), 0.3, mirror=True)


def shared():
    assert_dropped(numbers((40, 70), SINGLE), 0.3, shared_axes=0)


def windowed():
    assert_dropped(numbers((4, 70), SINGLE), 0.3, window=thinned.Window((2, 3), (9, 90)))


def far_away():
    assert_dropped(numbers((4, 70), SINGLE), 0.3, window=thinned.Window((2**34, 3), (2**35, 90)))


def strided():
    assert_dropped(numbers((80, 140), SINGLE)[::2, ::-2], 0.3)


def halves():
    assert_dropped(numbers(3000, HALF), 0.3)


def brains():
    assert_dropped(numbers(3000, BRAIN), 0.3)


def doubles():
    assert_dropped(numbers(3000, DOUBLE), 0.3)


def at_an_elements_own_draw():
    u = reference.uniform32(AT, 17)
    for t in (u, u + 1):
        d = draw((100,), 0.5)._replace(threshold=t)
        assert (backend.keep(d) == reference.keep(*d)).all()


def filled():
    assert_applied(numbers(3000, SINGLE), draw((3000,), 0.3), 1.5, 0.25)


def filled_with_an_array():
    assert_applied(numbers(3000, SINGLE), draw((3000,), 0.3), 1.5, numbers(3000, SINGLE, 1))


def selected():
    assert_applied(numbers(3000, SINGLE), draw((3000,), 0.3), 1.0, 0.25)


def noisy():
    assert_drawn(draw((3000,), 0.3), numbers(3000, SINGLE))


def noisy_mirrored():
    assert_drawn(draw((3000,), 0.3, mirror=True), numbers(3000, SINGLE))


COMPARISONS = [
    plain,
    at_half,
    at_the_ends,
    mirrored,
    shared,
    windowed,
    far_away,
    strided,
    halves,
    brains,
    doubles,
    at_an_elements_own_draw,
    filled,
    filled_with_an_array,
    selected,
    noisy,
    noisy_mirrored,
]


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.__name__)
def test_without_a_fault_the_comparison_passes(comparison):
    comparison()


# ------------------------------------------------------------------------------------------ faults


def asked(**changes):
    """_native.apply with other arguments: each change is a function of all of them, by name."""

    def changed(patch):
        real = _native.apply

        def apply(*arguments):
            given = dict(zip(NAMES, arguments, strict=True))
            real(*{**given, **{k: change(given) for k, change in changes.items()}}.values())

        patch.setattr(_native, "apply", apply)

    return changed


def done(change):
    """_native.apply, and then change(given arguments by name, x as it was before)."""

    def changed(patch):
        real = _native.apply

        def apply(*arguments):
            given = dict(zip(NAMES, arguments, strict=True))
            before = None if given["x"] is None else given["x"].copy()
            real(*arguments)
            if before is not None and given["y"].size:
                with np.errstate(all="ignore"):
                    change(given, before)

        patch.setattr(_native, "apply", apply)

    return changed


def packed_asked(place, change):
    def changed(patch):
        real = _native.packed

        def packed(*arguments):
            arguments = list(arguments)
            arguments[place] = change(arguments[place])
            real(*arguments)

        patch.setattr(_native, "packed", packed)

    return changed


def inside(t, change):
    return t if t in (0, WHOLE) else change(t)


def inverted(given, x):
    y = given["y"]
    kept = y != 0
    y[...] = np.where(kept, 0, x * given["scale"])


def multiplied(given, x):
    y = given["y"]
    y[...] = np.where(y == 0, x * y.dtype.type(0), y)


def first_unwritten(given, x):
    given["y"].flat[0] = x.flat[0] * 3 + 1


def rest_unscaled(given, x):
    y = given["y"].reshape(-1)
    y[-1:] = np.where(y[-1:] == 0, 1, x.reshape(-1)[-1:])


def rounded_down(given, x):
    y = given["y"]
    y[...] = np.nextafter(y, y.dtype.type(0)) if y.dtype.kind == "f" else y & ~np.uint16(1)


CAUGHT = {
    "inverted mask": (done(inverted), [plain, at_half, mirrored, shared, windowed, strided]),
    "the other share dropped": (
        asked(threshold=lambda a: inside(a["threshold"], lambda t: WHOLE - t)),
        [plain, shared, halves, brains, doubles, filled, selected],
    ),
    "threshold in four bits": (
        asked(threshold=lambda a: inside(a["threshold"], lambda t: t & ~0x0FFFFFFF)),
        [plain, shared, filled],
    ),
    "threshold one off": (
        asked(threshold=lambda a: inside(a["threshold"], lambda t: t - 1)),
        [at_an_elements_own_draw],
    ),
    "dropped at the threshold too": (
        asked(threshold=lambda a: inside(a["threshold"], lambda t: t + 1)),
        [at_an_elements_own_draw],
    ),
    "ends not settled": (
        asked(threshold=lambda a: {0: 2**31, WHOLE: 2**31}.get(a["threshold"], a["threshold"])),
        [at_the_ends],
    ),
    "missing scale": (asked(scale=lambda a: 1.0), [plain, halves, brains, doubles, filled, noisy]),
    "scale a little off": (
        asked(scale=lambda a: float(np.nextafter(np.float32(a["scale"]), np.float32(9)))),
        [plain, at_half, doubles, filled_with_an_array, noisy],
    ),
    "scale in single precision": (asked(scale=lambda a: float(np.float32(a["scale"]))), [doubles]),
    "mirror the other way": (
        asked(mirror=lambda a: not a["mirror"]),
        [plain, at_half, mirrored, noisy, noisy_mirrored],
    ),
    "mirror ignored": (asked(mirror=lambda a: False), [mirrored, noisy_mirrored]),
    "window ignored": (asked(offset=lambda a: 0), [windowed, far_away]),
    "window one off": (asked(offset=lambda a: a["offset"] + 1), [plain, windowed, noisy]),
    "offset cut to 32 bits": (asked(offset=lambda a: a["offset"] % WHOLE), [far_away]),
    "strides of the whole ignored": (asked(strides=lambda a: None), [windowed, shared, far_away]),
    "strides of the whole the other way": (
        asked(strides=lambda a: a["strides"] and a["strides"][::-1]),
        [windowed, shared],
    ),
    "high half of the seed ignored": (asked(seed=lambda a: a["seed"] % WHOLE), [plain, noisy]),
    "site and step swapped": (
        asked(site=lambda a: a["step"], step=lambda a: a["site"]),
        [plain, noisy],
    ),
    "call ignored": (asked(call=lambda a: 0), [plain, noisy]),
    "call cut to 8 bits": (asked(call=lambda a: a["call"] % 256), [plain, noisy]),
    "fill forgotten": (
        asked(op=lambda a: Op.scale if a["op"] is Op.affine else a["op"]),
        [filled, selected],
    ),
    "fill kept, not shifted": (asked(fill=lambda a: a["fill"] * 2), [filled, selected]),
    "fill read from x": (
        asked(f=lambda a: a["x"] if a["f"] is not None else None),
        [filled_with_an_array],
    ),
    "array of fills ignored": (
        asked(op=lambda a: Op.affine if a["op"] is Op.affine_array else a["op"]),
        [filled_with_an_array],
    ),
    "one half type for the other": (
        asked(
            type=lambda a: {
                _native.Type.float16: _native.Type.bfloat16,
                _native.Type.bfloat16: _native.Type.float16,
            }.get(a["type"], a["type"])
        ),
        [halves, brains],
    ),
    "multiplied by the mask": (done(multiplied), [plain, at_half, strided, doubles]),
    "first element not written": (done(first_unwritten), [plain, halves, doubles, noisy]),
    "last element not scaled": (done(rest_unscaled), [plain, doubles]),
    "rounded towards zero": (done(rounded_down), [plain, halves, brains, doubles, noisy]),
    "nothing written": (
        lambda patch: patch.setattr(_native, "apply", lambda *arguments: None),
        [plain, filled, noisy],
    ),
    "x written": (
        done(lambda given, x: given["x"].__setitem__(Ellipsis, 0) if given["x"].size else None),
        [plain, halves, noisy],
    ),
    "bits of the draws, not of the noise": (
        asked(law=lambda a: Law.bernoulli if a["law"] is Law.gaussian else a["law"]),
        [noisy],
    ),
    "packed elsewhere": (packed_asked(8, lambda offset: offset + 1), [plain, at_half]),
    "packed without the mirror": (packed_asked(7, lambda mirror: False), [mirrored]),
    "packed too short": (packed_asked(1, lambda n: max(n - 1, 0)), [at_the_ends]),
}
PAIRS = [(fault, comparison) for fault, (_, found_by) in CAUGHT.items() for comparison in found_by]


@pytest.mark.parametrize(
    ("fault", "comparison"), PAIRS, ids=[f"{fault}-{c.__name__}" for fault, c in PAIRS]
)
def test_the_fault_is_caught(fault, comparison, monkeypatch, kernel_name):
    CAUGHT[fault][0](monkeypatch)
    with pytest.raises(AssertionError):
        comparison()


def test_every_comparison_catches_a_fault():
    assert {comparison for _, comparison in PAIRS} == set(COMPARISONS)


def test_a_byte_beside_the_array_is_seen(monkeypatch):
    real = _native.apply

    def apply(x, y, *rest):
        real(x, y, *rest)
        root = y
        while root.base is not None:
            root = root.base
        if root.dtype == np.uint8:
            root[-1] = 0

    monkeypatch.setattr(_native, "apply", apply)
    with pytest.raises(AssertionError):
        plain()


def test_expected_is_not_what_the_kernel_says():
    # With the compiled functions out of the way the reference gives the same.
    x, d = numbers(3000, SINGLE), draw((3000,), 0.3)
    before = expected(x, d, 1.5)
    backend.require_floating("apply", x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "apply", None)
        patch.setattr(_native, "packed", None)
        assert (expected(x, d, 1.5).tobytes()) == before.tobytes()
