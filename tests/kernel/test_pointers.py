"""The compiled functions themselves: pointers for other array libraries, and what they refuse."""

import numpy as np
import pytest

from thinned import _native, reference
from thinned.backends.numpy import FLOATING, Law, Op, Type

from .against import AT, TYPES, Poisoned, assert_same, bits_of, draw, expected, numbers

over_types = pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)

# The known answers that come with Random123 (Salmon et al., 2011): counter, key, block.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, block):
    counter, key, block = (
        [int(word, 16) for word in text.split()] for text in (counter, key, block)
    )
    assert _native.philox4x32_10(counter, key) == block
    assert list(reference.philox(counter, tuple(key))) == block


def coordinates(d):
    at = d.at
    return at.seed, at.site, at.step, at.call, d.threshold, d.mirror, d.place.offset, d.place.steps


def at_pointers(x, y, f, law, op, scale, fill, d, threads=0):
    def pointer(a):
        return 0 if a is None else a.__array_interface__["data"][0]

    def strides(a):
        return () if a is None else a.strides

    kind = Type.float32 if x is None else FLOATING[x.dtype.name]
    _native.apply_at(
        pointer(x), pointer(y), pointer(f), y.shape, strides(x), strides(y), strides(f),
        law, kind, op, scale, fill, *coordinates(d), threads,
    )  # fmt: skip


@over_types
@pytest.mark.parametrize("shape", [(), (3000,), (20, 33), (3, 4, 50), (5, 0)], ids=str)
def test_pointers_do_what_arrays_do(kernel_name, dtype, shape):
    x, f = numbers(shape, dtype), numbers(shape, dtype, seed=1)
    for shared in ((), tuple(range(len(shape)))[:1]):
        d = draw(shape, 0.4, shared)
        for array in (x, x.copy(order="F"), x[..., ::-1] if shape else x):
            for op, scale, fill in [
                (Op.scale, 2.0, 0.0),
                (Op.affine, 2.0, 0.5),
                (Op.select, 1.0, 0.5),
                (Op.affine_array, 2.0, f),
                (Op.select_array, 1.0, f),
            ]:
                of_fill = fill if isinstance(fill, np.ndarray) else None
                number = 0.0 if of_fill is not None else fill
                want = expected(array, d, scale, fill)
                out = Poisoned(array)
                at_pointers(array, out.array, of_fill, Law.bernoulli, op, scale, number, d)
                assert_same(out.array, want)
                out.assert_only_the_array_was_written()
                inside = Poisoned(array)
                inside.array[...] = array
                at_pointers(
                    inside.array, inside.array, of_fill, Law.bernoulli, op, scale, number, d, 2
                )
                assert_same(inside.array, want)


def test_pointers_to_draws_alone(kernel_name):
    d = draw((40, 50), 0.3, 1)
    mask = Poisoned(np.empty((40, 50), np.bool_))
    at_pointers(None, mask.array, None, Law.mask, Op.scale, 1.0, 0.0, d)
    assert (mask.array == reference.keep(*d)).all()
    mask.assert_only_the_array_was_written()
    words = Poisoned(np.empty((40, 50), np.uint32))
    at_pointers(None, words.array, None, Law.words, Op.scale, 1.0, 0.0, d)
    assert (words.array == reference.words(d.at, reference.indices(d.place))).all()
    words.assert_only_the_array_was_written()


def apply(x, y, f, d, op=Op.scale):
    _native.apply(x, y, f, Law.bernoulli, Type.float32, op, 2.0, 0.0, *coordinates(d), 0)


def test_arrays_that_do_not_fit_are_refused():
    d = draw((4, 5), 0.5)
    x, y = np.ones((4, 5), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match="arrays of one shape"):
        apply(x[:3], y, None, d)
    with pytest.raises(ValueError, match="arrays of one shape"):
        apply(x.reshape(20), y, None, d)
    with pytest.raises(ValueError, match="arrays of one shape"):
        apply(x, y, x[0], d, Op.affine_array)
    d = d._replace(place=draw((3, 4, 5), 0.5, 0).place)
    with pytest.raises(ValueError, match="one index stride for each axis"):
        apply(x, y, None, d)
    assert not y.any()
    y.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match=r"read-only|writable"):
        apply(x, y, None, draw((4, 5), 0.5))


def test_elements_of_another_size_are_refused():
    d = draw((8,), 0.5)
    x, y, wide = np.ones(8, np.float32), np.zeros(8, np.float32), np.zeros(8, np.float64)
    for arrays in [(wide, y, None), (x, wide, None), (x, y, wide), (x, y.view(np.uint8)[:8], None)]:
        with pytest.raises(ValueError, match="the size that its type says"):
            apply(*arrays, d, Op.affine_array if arrays[2] is not None else Op.scale)
    arguments = (Type.float32, Op.scale, 1.0, 0.0, *coordinates(d), 0)
    for law, out in [(Law.mask, y), (Law.words, wide), (Law.raw_gaussian, wide)]:
        with pytest.raises(ValueError, match="the size that its type says"):
            _native.apply(None, out, None, law, *arguments)
    assert not y.any()


def test_strides_that_do_not_fit_are_refused():
    y = np.zeros((4, 5), np.float32)
    arguments = (Law.mask, Type.float32, Op.scale, 1.0, 0.0, *coordinates(draw((4, 5), 0.5)), 0)
    with pytest.raises(ValueError, match="one stride for each"):
        _native.apply_at(0, y.ctypes.data, 0, (4, 5), (), (20,), (), *arguments)
    with pytest.raises(ValueError, match="one stride for each"):
        _native.apply_at(y.ctypes.data, y.ctypes.data, 0, (4, 5), (20,), (20, 4), (), *arguments)
    assert not y.any()


def test_a_packed_mask_needs_room():
    at = AT.seed, AT.site, AT.step, AT.call
    out = np.full(3, 0xA5, np.uint8)
    for n in (17, 24):
        _native.packed(out, n, *at, 2**31, False, 0, 0)
    with pytest.raises(ValueError, match="too short"):
        _native.packed(out, 25, *at, 2**31, False, 0, 0)
    assert (out == np.packbits(reference.keep_range(AT, 2**31, 0, 24), bitorder="little")).all()


def test_numbers_outside_their_words_are_refused():
    x = np.ones(4, np.float32)
    d = draw((4,), 0.5)
    for name, value in [("seed", 2**64), ("site", 2**32), ("step", -1), ("call", 2**32)]:
        names = ["seed", "site", "step", "call"]
        words = list(coordinates(d))
        words[names.index(name)] = value
        with pytest.raises(TypeError):
            _native.apply(
                x, x.copy(), None, Law.bernoulli, Type.float32, Op.scale, 2.0, 0.0, *words, 0
            )
    assert (bits_of(x) == bits_of(np.ones(4, np.float32))).all()
