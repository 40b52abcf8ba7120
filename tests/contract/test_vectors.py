"""The published vectors, section by section, against the reference and the twin.

Those that say what the public functions give (keep, window, shared_axes, values) are checks of the
contract as well, and run on every kind of array there.
"""

import zlib

import numpy as np
import pytest

import thinned
from thinned import _native, reference

from . import twin
from .checks_draw import address, bits, vectors

SECTIONS = {
    "spec",
    "philox4x32_10",
    "site",
    "fold_in",
    "threshold",
    "u32",
    "keep",
    "window",
    "word",
    "gaussian",
    "shared_axes",
    "k_of_n",
    "values",
}


def each(section):
    return pytest.mark.parametrize("entry", vectors()[section], ids=str)


def test_every_section_is_read_here():
    assert set(vectors()) == SECTIONS
    assert vectors()["spec"] == "thinned mask spec, version 1"


@each("philox4x32_10")
def test_philox(entry):
    expected = tuple(entry["out"])
    assert reference.philox(entry["ctr"], tuple(entry["key"])) == expected
    assert twin.philox(tuple(entry["ctr"]), tuple(entry["key"])) == expected
    assert tuple(_native.philox4x32_10(entry["ctr"], entry["key"])) == expected
    words = [np.full(3, word, np.uint64) for word in entry["ctr"]]
    for word, value in zip(reference.philox(words, tuple(entry["key"])), expected, strict=True):
        np.testing.assert_array_equal(word, np.full(3, value, np.uint64))


def test_site():
    for name, number in vectors()["site"].items():
        assert thinned.Address(site=name) == thinned.Address(site=number)
        assert zlib.crc32(name.encode("utf-8")) == number


@each("fold_in")
def test_fold_in(entry):
    at = thinned.Address(seed=entry["seed"], site="fc1", step=7, call=3)
    assert at.fold_in(entry["n"]) == at.replace(seed=entry["seed_out"])
    assert reference.fold_in(entry["seed"], entry["n"]) == entry["seed_out"]
    assert twin.fold_in(entry["seed"], entry["n"]) == entry["seed_out"]


@each("threshold")
def test_threshold(entry):
    assert reference.threshold(entry["p"]) == entry["threshold"]
    assert twin.threshold(entry["p"]) == entry["threshold"]


def test_u32():
    for entry in vectors()["u32"]:
        assert reference.uniform32(address(entry), entry["index"]) == entry["u"]
        assert twin.uniform(address(entry), entry["index"]) == entry["u"]


def test_keep():
    for entry in vectors()["keep"]:
        at, start, count = address(entry), entry["start"], entry["count"]
        t, mirror = reference.threshold(entry["p"]), entry["mirror"]
        expected = bits(entry["keep"], count)
        drawn = reference.keep_range(at, t, start, count, mirror)
        np.testing.assert_array_equal(drawn, expected)
        index = np.arange(start, start + count, dtype=np.uint64)
        backwards = reference.keep_at(at, t, index[::-1], mirror)
        np.testing.assert_array_equal(backwards[::-1], expected)


def test_word():
    for entry in vectors()["word"]:
        index = np.array([entry["index"]], np.uint64)
        word = reference.words(address(entry), index)
        assert word.tolist() == [entry["word"]]
        assert reference.uniform24(word).tolist() == [entry["uniform24"]]
        assert reference.uniform24(word).dtype == np.float32


def test_word_mirror_flips_the_uniform():
    index = np.arange(5000, dtype=np.uint64)
    at = thinned.Address(seed=3)
    u = reference.uniform24(reference.words(at, index))
    other = reference.uniform24(reference.words(at, index, mirror=True))
    np.testing.assert_array_equal(u + other, np.ones(5000, np.float32))
    assert 0.0 < u.min() < u.max() < 1.0


def test_gaussian():
    for entry in vectors()["gaussian"]:
        index = np.array([entry["index"]], np.uint64)
        z = reference.gaussian(address(entry), index)
        # Both are binary64; what is left is the libraries' last digits of log, sin and cos.
        assert z.tolist() == pytest.approx([entry["z"]], rel=1e-12, abs=1e-12)
        assert reference.gaussian(address(entry), index, mirror=True).tolist() == [-z[0]]


def test_gaussian_moments():
    n = 2**16
    z = reference.gaussian(thinned.Address(seed=5), np.arange(n, dtype=np.uint64))
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z[::2] * z[1::2]).mean()) < 5 / (n / 2) ** 0.5


def test_k_of_n():
    for entry in vectors()["k_of_n"]:
        shape, axis, p = tuple(entry["shape"]), entry["axis"], entry["p"]
        keep = reference.keep_k_of_n(address(entry), p, shape, axis)
        np.testing.assert_array_equal(keep.reshape(-1), bits(entry["keep"], keep.size))
        assert (keep.sum(axis=axis) == shape[axis] - round(p * shape[axis])).all()


def test_k_of_n_breaks_ties_by_the_lower_index(monkeypatch):
    def equal(at, index, mirror=False):
        return np.full(index.shape, 7, np.uint32)

    monkeypatch.setattr(reference, "words", equal)
    keep = reference.keep_k_of_n(thinned.Address(), 0.5, (2, 6), 1)
    np.testing.assert_array_equal(keep, np.array([[True] * 3 + [False] * 3] * 2))


def test_values():
    for entry in vectors()["values"]:
        stored = np.dtype(entry["dtype"]).newbyteorder("<")
        x = np.frombuffer(bytes.fromhex(entry["x"]), stored)
        y = thinned.dropout(x, entry["p"], address(entry))
        assert y.astype(stored).tobytes().hex() == entry["y"]
        keep = reference.keep_range(address(entry), reference.threshold(entry["p"]), 0, x.size)
        plain = reference.apply(x, keep, reference.scale_for(entry["p"]))
        assert plain.astype(stored).tobytes().hex() == entry["y"]


def test_a_fill_is_exact_where_the_scale_rounds_to_one():
    """1 / (1 - 1e-9) is 1 in binary32: a kept element is x itself, not f + (x - f), rounded."""
    x = np.float32([1e-8, 3.0, -7.25])
    keep = np.array([True, True, False])
    y = reference.apply(x, keep, reference.scale_for(1e-9), fill=5.0)
    assert y.tolist() == [x[0], x[1], 5.0]
    assert reference.apply(x, keep, 2.0, fill=1.0).tolist() == pytest.approx([-1.0, 5.0, 1.0])
