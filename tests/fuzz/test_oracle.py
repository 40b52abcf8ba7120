"""The second reading of the page, held to the published answers before anything is held to it."""

import json
import struct
from itertools import product
from math import prod
from pathlib import Path

import pytest

from . import oracle

VECTORS = json.loads(
    (Path(__file__).parents[1] / "data" / "mask_vectors.json").read_text(encoding="utf-8")
)
FORMATS = {"float64": "<d", "float32": "<f", "float16": "<e"}


def place(entry):
    return oracle.Place(**entry["address"])


def bits(entry, count):
    packed = bytes.fromhex(entry["keep"])
    return [bool(packed[i >> 3] >> (i & 7) & 1) for i in range(count)]


def numbers(text, dtype):
    raw = bytes.fromhex(text)
    if dtype == "bfloat16":
        pairs = (raw[i : i + 2] for i in range(0, len(raw), 2))
        return [struct.unpack("<f", b"\0\0" + pair)[0] for pair in pairs]
    return [number for (number,) in struct.iter_unpack(FORMATS[dtype], raw)]


def as_bits(values):
    return [struct.pack("<d", value) if value == value else "nan" for value in values]


def answer(section, entry):
    """What the page says, and what was published."""
    at = place(entry) if "address" in entry else None
    match section:
        case "philox4x32_10":
            return list(oracle.philox(entry["ctr"], entry["key"])), entry["out"]
        case "fold_in":
            return oracle.fold_in(entry["seed"], entry["n"]), entry["seed_out"]
        case "threshold":
            return oracle.threshold(entry["p"]), entry["threshold"]
        case "u32":
            return oracle.uniform(at, entry["index"]), entry["u"]
        case "keep":
            first, count = entry["start"], entry["count"]
            found = [
                oracle.kept(at, i, entry["p"], entry["mirror"]) for i in range(first, first + count)
            ]
            return found, bits(entry, count)
        case "window":
            where = oracle.indices(entry["shape"], entry["start"], entry["global_shape"])
            found = [oracle.kept(at, i, entry["p"]) for i in where]
            return found, bits(entry, prod(entry["shape"]))
        case "shared_axes":
            where = oracle.indices(entry["shape"], shared=entry["shared_axes"])
            found = [oracle.kept(at, i, entry["p"]) for i in where]
            return found, bits(entry, prod(entry["shape"]))
        case "word":
            found = oracle.word(at, entry["index"])
            return (found, oracle.uniform24(found)), (entry["word"], entry["uniform24"])
        case "gaussian":
            return oracle.gaussian(at, entry["index"]), pytest.approx(entry["z"], abs=1e-14)
        case "k_of_n":
            shape = tuple(entry["shape"])
            found, _ = oracle.k_of_n(at, shape, entry["p"], entry["axis"])
            return found, bits(entry, prod(shape))
        case "values":
            xs = numbers(entry["x"], entry["dtype"])
            found = [
                oracle.dropped_out(x, oracle.kept(at, i, entry["p"]), entry["p"], entry["dtype"])
                for i, x in enumerate(xs)
            ]
            return as_bits(found), as_bits(numbers(entry["y"], entry["dtype"]))
    raise AssertionError(f"no reading of the section {section}")


SECTIONS = [name for name in VECTORS if name not in ("spec", "site")]


@pytest.mark.parametrize("section", SECTIONS)
def test_reading_gives_published_answers(section):
    assert VECTORS[section]
    for entry in VECTORS[section]:
        found, published = answer(section, entry)
        assert found == published, entry


def test_reading_gives_published_site_numbers():
    found = {name: oracle.site_number(name) for name in VECTORS["site"]}
    assert found == VECTORS["site"]


def test_reading_knows_nothing_of_the_package():
    source = Path(oracle.__file__).read_text(encoding="utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in imports if "thinned" in line or "numpy" in line]


def test_windows_of_the_reading_are_parts_of_its_whole():
    at = oracle.Place(5, 6, 7, 8)
    whole = dict(zip(product(range(5), range(4)), oracle.indices((5, 4)), strict=True))
    part = oracle.indices((2, 3), (3, 1), (5, 4))
    assert part == [whole[i + 3, j + 1] for i in range(2) for j in range(3)]
    assert oracle.kept(at, 3, 0.5) != oracle.kept(at, 3, 0.5, mirror=True)
