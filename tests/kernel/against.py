"""What a kernel does to an array, and what reference.py says it does.

Outputs are poisoned beforehand and have poison around them, so that an element that was not written
shows, and a byte that was written beside the array shows too.
"""

import ml_dtypes
import numpy as np

import thinned
from thinned import reference
from thinned.backends import Draw
from thinned.backends.numpy import backend
from thinned.window import place

TYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF << 52}
POISON = 0xA5
MARGIN = 256  # bytes of poison on either side
AT = thinned.Address(seed=0x0123456789ABCDEF, site="encoder/drop", step=4000000000, call=40000)
ENDS = (0.0, 1.0)
SOME_P = (0.5, 0.1, 0.9, 0.25, 2.0**-32, 1.0 - 2.0**-32, 1e-5, 1.0 / 3.0)


def draw(shape, p, shared_axes=(), window=None, mirror=False, at=AT):
    placement = place("draw", tuple(shape), shared_axes, window)
    return Draw(at, reference.threshold(p), placement, mirror)


def numbers(shape, dtype, seed=0, strange=True):
    """Ordinary numbers, and among them any others that the type has: NaN, infinities, tiny ones."""
    random = np.random.default_rng(seed)
    x = np.asarray(random.standard_normal(shape)).astype(dtype)
    if strange and x.size:
        bits = x.reshape(-1).view(f"u{x.dtype.itemsize}")
        where = random.random(bits.size) < 0.1
        whole = np.iinfo(bits.dtype).max
        bits[where] = random.integers(0, whole, int(where.sum()), bits.dtype, endpoint=True)
        x = bits.view(x.dtype).reshape(shape)
    return x


def bits_of(x):
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}").reshape(x.shape)


def is_nan(x):
    """By the bits: numpy.isnan of a bfloat16 may warn about the very NaN that it finds."""
    bits = bits_of(x)
    sign = bits.dtype.type(1) << bits.dtype.type(8 * bits.dtype.itemsize - 1)
    return (bits & ~sign) > bits.dtype.type(INFINITY[x.dtype.name])


def assert_same(got, want):
    """The same type, shape and bits; two NaN are the same whatever their bits."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    differ = bits_of(got) != bits_of(want)
    if differ.any():
        differ &= ~(is_nan(got) & is_nan(want))
    where = np.argwhere(differ)
    assert where.size == 0, f"{len(where)} of {got.size} elements differ, the first at {where[0]}"


class Poisoned:
    """An array of poison that lies within poison; `of` has the layout of another array."""

    def __init__(self, of, misaligned=0):
        self.shape, self.dtype = of.shape, of.dtype
        order = sorted(range(of.ndim), key=lambda axis: -abs(of.strides[axis]))
        size = of.size * of.dtype.itemsize
        self.memory = np.full(size + 2 * MARGIN, POISON, np.uint8)
        first = MARGIN + misaligned
        inner = self.memory[first : first + size].view(of.dtype)
        inner = inner.reshape([of.shape[axis] for axis in order])
        self.array = inner.transpose(np.argsort(order))

    def assert_only_the_array_was_written(self):
        word = int.from_bytes([POISON] * self.dtype.itemsize)
        self.array.view(f"u{self.dtype.itemsize}")[...] = word
        assert (self.memory == POISON).all()


def expected(x, d, scale, fill=0.0):
    keep = reference.keep(d.at, d.threshold, d.place, d.mirror)
    return reference.apply(np.asarray(x), keep, scale, fill)


def assert_applied(x, d, scale, fill=0.0, misaligned=0):
    """backend.apply of x: into a new array, into a poisoned one, and in place."""
    backend.require_floating("apply", x)
    before = bits_of(x).copy()
    want = expected(x, d, scale, fill)
    assert_same(backend.apply(x, d, scale, fill, None), want)
    out = Poisoned(x, misaligned)
    assert backend.apply(x, d, scale, fill, out.array) is out.array
    assert_same(out.array, want)
    out.assert_only_the_array_was_written()
    assert (bits_of(x) == before).all(), "x was written"
    inside = Poisoned(x, misaligned)
    inside.array[...] = x
    assert backend.apply(inside.array, d, scale, fill, inside.array) is inside.array
    assert_same(inside.array, want)
    inside.assert_only_the_array_was_written()


def assert_dropped(x, p, shared_axes=(), window=None, mirror=False, misaligned=0):
    """Dropout of x by the backend and by the public function, and the mask that it has."""
    d = draw(x.shape, p, shared_axes, window, mirror)
    assert_applied(x, d, reference.scale_for(p), misaligned=misaligned)
    where = {"shared_axes": shared_axes, "window": window, "mirror": mirror}
    want = expected(x, d, reference.scale_for(p))
    assert_same(thinned.dropout(x, p, AT, **where), want)
    out = Poisoned(x, misaligned)
    assert thinned.dropout(x, p, AT, out=out.array, **where) is out.array
    assert_same(out.array, want)
    out.assert_only_the_array_was_written()
    mask = thinned.keep_mask(x.shape, p, AT, **where)
    want = np.broadcast_to(reference.keep(*d), x.shape)
    assert mask.dtype == np.bool_
    assert (mask.view(np.uint8) == want).all(), "the mask"
    packed = thinned.packed_mask(x.shape, p, AT, **where)
    assert (packed == np.packbits(want, bitorder="little")).all(), "the packed mask"


def assert_drawn(d, x=None, std=0.5):
    """Words, Gaussian draws and Gaussian noise, the last two to 4e-6 before the multiplication."""
    index = reference.indices(d.place)
    words = backend.words(d)
    assert words.dtype == np.uint32
    assert (words == reference.words(d.at, index, d.mirror)).all(), "words"
    z = backend.gaussian(d)
    assert z.dtype == np.float32
    want = reference.gaussian(d.at, index, d.mirror)
    assert (abs(z - want) <= 4e-6).all(), "Gaussian draws"
    if x is None:
        return
    backend.require_floating("noise", x)
    out = Poisoned(x)
    got = backend.apply_gaussian(x, d, std, out.array)
    # Exact given the kernel's own draws, which are near the true ones as said above.
    assert_same(got, reference.apply_gaussian(x, z.astype(np.float64), std))
    out.assert_only_the_array_was_written()
