"""The published vectors, through the kernels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)

import thinned
from thinned import reference
from thinned.backends.base import Draw
from thinned.backends.torch.triton import launch, words
from thinned.window import place

VECTORS = json.loads(
    (Path(__file__).parents[2] / "data" / "mask_vectors.json").read_text(encoding="utf-8")
)


def bits(text, count):
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(packed, bitorder="little")[:count].astype(bool)


def by_words(shape, entry, window=None, shared=()):
    """The mask as `mask_words` packs it."""
    where = place("test", shape, shared, window)
    at, t = thinned.Address(**entry["address"]), reference.threshold(entry["p"])
    draw = Draw(at, t, where, entry.get("mirror", False))
    packed = launch.mask_words(where, words.told(draw), torch.device("cpu"))
    assert packed.shape == (*shape[:-1], 4 * -(-shape[-1] // 128))
    unpacked = np.unpackbits(packed.numpy().view(np.uint8), axis=-1, bitorder="little")
    assert not unpacked[..., shape[-1] :].any()
    return unpacked[..., : shape[-1]].astype(bool)


def by_drop(shape, entry, window=None, shared=()):
    x, p, mirror = torch.ones(shape), entry["p"], entry.get("mirror", False)
    at = thinned.Address(**entry["address"])
    y = thinned.dropout(x, p, at, window=window, mirror=mirror, shared_axes=shared)
    return y.numpy() != 0


@pytest.mark.parametrize("mask", [by_words, by_drop])
def test_keep(mask):
    for entry in VECTORS["keep"]:
        n = entry["count"]
        found = mask((n,), entry, thinned.Window(entry["start"]))
        np.testing.assert_array_equal(found, bits(entry["keep"], n))


@pytest.mark.parametrize("mask", [by_words, by_drop])
def test_windows(mask):
    for entry in VECTORS["window"]:
        shape = tuple(entry["shape"])
        window = thinned.Window(tuple(entry["start"]), tuple(entry["global_shape"]))
        expected = bits(entry["keep"], int(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(mask(shape, entry, window), expected)


@pytest.mark.parametrize("mask", [by_words, by_drop])
def test_shared_axes(mask):
    for entry in VECTORS["shared_axes"]:
        shape, shared = tuple(entry["shape"]), tuple(entry["shared_axes"])
        expected = bits(entry["keep"], int(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(mask(shape, entry, None, shared), expected)


# What NumPy says of a number that is too large for a half, and a device does not.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_values():
    for entry in VECTORS["values"]:
        kind = np.dtype(entry["dtype"])
        x = torch.from_numpy(np.frombuffer(bytes.fromhex(entry["x"]), kind).copy())
        y = thinned.dropout(x, entry["p"], thinned.Address(**entry["address"]))
        expected = np.frombuffer(bytes.fromhex(entry["y"]), kind)
        nan = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(y.numpy()), nan)
        assert y.numpy()[~nan].tobytes() == expected[~nan].tobytes()


def test_words_and_normals():
    for kind, name in (("word", "words"), ("gaussian", "gaussian")):
        for entry in VECTORS[kind]:
            at, window = thinned.Address(**entry["address"]), thinned.Window(entry["index"])
            where = place("test", (1,), (), window, 2**42)
            told = words.told(Draw(at, 0, where, entry.get("mirror", False)))
            found = launch.draws_of(where, told, torch.device("cpu"), gaussian=name == "gaussian")
            if kind == "word":
                assert found.item() == entry["word"]
            else:
                assert abs(found.item() - entry["z"]) < 4e-6


def test_k_of_n():
    for entry in VECTORS["k_of_n"]:
        x = torch.ones(entry["shape"])
        at = thinned.Address(**entry["address"])
        y = thinned.k_of_n_dropout(x, entry["p"], at, axis=entry["axis"])
        expected = bits(entry["keep"], x.numel()).reshape(entry["shape"])
        np.testing.assert_array_equal(y.numpy() != 0, expected)
