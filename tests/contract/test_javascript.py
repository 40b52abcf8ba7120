"""The mask spec in JavaScript (docs/draw/masks.js), in Node, against the published vectors."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import thinned

from .checks_draw import HARD, MIXED, PLAIN, bits, vectors

NODE = shutil.which("node")
HERE = Path(__file__).parent
MASKS = HERE.parents[1] / "docs" / "draw" / "masks.js"

pytestmark = pytest.mark.skipif(
    NODE is None, reason="no Node on this machine: the JavaScript of the mask spec is not run"
)


def with_long_numbers_as_text(question):
    """JSON's numbers are binary64 in JavaScript, which a seed is not."""
    told = dict(question)
    if "address" in told:
        told["address"] = {**told["address"], "seed": str(told["address"]["seed"])}
    return {key: str(value) if key in {"seed", "n"} else value for key, value in told.items()}


def answers(questions, masks=MASKS):
    """What JavaScript answers to (section, question) pairs."""
    told = [(section, with_long_numbers_as_text(question)) for section, question in questions]
    done = subprocess.run(
        [NODE, HERE / "masks_in_node.js", masks],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


def asked():
    """Every entry of the vectors but the heading, as (section, entry)."""
    for section, entries in vectors().items():
        if section == "site":
            entries = [{"name": name, "number": number} for name, number in entries.items()]
        if section != "spec":
            yield from ((section, entry) for entry in entries)


def packed(answer):
    keep = np.array([bit == "1" for bit in answer], bool)
    return np.packbits(keep, bitorder="little").tobytes().hex()


def stored(answer, dtype):
    """Numbers that came as binary64, in their own type; None where they do not fit it."""
    found = np.frombuffer(bytes.fromhex(answer), "<f8")
    with np.errstate(over="ignore"):
        own = found.astype(dtype)
    if not np.array_equal(own.astype("<f8"), found, equal_nan=True):
        return None
    return own.astype(np.dtype(dtype).newbyteorder("<")).tobytes().hex()


RIGHT = {
    "philox4x32_10": lambda entry, answer: answer == entry["out"],
    "site": lambda entry, answer: answer == entry["number"],
    "fold_in": lambda entry, answer: int(answer) == entry["seed_out"],
    "threshold": lambda entry, answer: answer == entry["threshold"],
    "u32": lambda entry, answer: answer == entry["u"],
    "keep": lambda entry, answer: packed(answer) == entry["keep"],
    "window": lambda entry, answer: packed(answer) == entry["keep"],
    "shared_axes": lambda entry, answer: packed(answer) == entry["keep"],
    "k_of_n": lambda entry, answer: packed(answer) == entry["keep"],
    "word": lambda entry, answer: answer == [entry["word"], entry["uniform24"]],
    "gaussian": lambda entry, answer: answer == pytest.approx(entry["z"], rel=1e-12, abs=1e-12),
    "values": lambda entry, answer: stored(answer, entry["dtype"]) == entry["y"],
}


def wrong(masks=MASKS):
    """The sections of which an answer differs from the vectors."""
    questions = list(asked())
    given = answers(questions, masks)
    return {
        section
        for (section, entry), answer in zip(questions, given, strict=True)
        if not RIGHT[section](entry, answer)
    }


def test_every_vector():
    assert {section for section, _ in asked()} == set(RIGHT)
    assert wrong() == set()


FAULTS = {
    "the high half of a product": (
        "a1 * b1 + Math.floor(middle",
        "a1 * b1 + 1 + Math.floor(middle",
    ),
    "nine rounds": ("round < 10", "round < 9"),
    "a block number of 32 bits": ("Math.floor(b / WORD) + at.call", "0 + at.call"),
    "tag and call exchanged": (
        "at.call * 2 ** 8 + tag * 2 ** 24",
        "tag * 2 ** 8 + at.call * 2 ** 24",
    ),
    "the high half of the seed": ("Number(whole >> 32n)]", "0]"),
    "the last plane first": ("(t >>> (31 - plane)) & 1", "(t >>> plane) & 1"),
    "kept for dropped": ("dropped[k] |= open[k] & ~ones", "dropped[k] |= open[k] & ones"),
    "no mirror": ("mirror ? ~word : word", "word"),
    "ties away from even": ("floor % 2 === 1) ?", "true) ?"),
    "a shared axis that counts": ("shared(axis) ? 0 : stride", "stride"),
    "the start left out": ("+ (start[axis] ?? 0)", ""),
    "sine for cosine": ("r * Math.cos(angle)", "r * Math.sin(angle)"),
    "the smallest words kept": ("its > own ||", "its < own ||"),
    "half precision as single": ("rounded(value, 10, -14, 65504)", "value"),
    "a scale of binary64": ("arithmetic(1 / (1 - p))", "1 / (1 - p)"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.one_in(3)
def test_a_fault_is_caught(fault, tmp_path):
    right, broken = FAULTS[fault]
    text = MASKS.read_text(encoding="utf-8")
    assert text.count(right) == 1
    copy = tmp_path / "masks.js"
    copy.write_text(text.replace(right, broken), encoding="utf-8")
    assert wrong(copy) != set()


def drawn_places():
    """Shapes, windows, shared axes and mirrors that the vectors do not have."""
    random = np.random.default_rng(0)
    for n in range(60):
        at = (PLAIN, HARD, MIXED)[n % 3]
        whole = [int(length) for length in random.integers(1, 9, random.integers(1, 5))]
        shape = [int(random.integers(1, length + 1)) for length in whole]
        start = [int(random.integers(0, w - s + 1)) for w, s in zip(whole, shape, strict=True)]
        yield {
            "address": {c: getattr(at, c) for c in ("seed", "site", "step", "call")},
            "p": float(random.choice([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
            "shape": shape,
            "start": start,
            "global_shape": whole,
            "shared_axes": [axis for axis in range(len(shape)) if random.random() < 0.3],
            "mirror": bool(random.random() < 0.5),
        }


def test_places_that_the_vectors_do_not_have():
    questions = [("mask", question) for question in drawn_places()]
    for (_, q), answer in zip(questions, answers(questions), strict=True):
        expected = thinned.keep_mask(
            tuple(q["shape"]),
            q["p"],
            thinned.Address(**q["address"]),
            shared_axes=tuple(q["shared_axes"]),
            window=thinned.Window(tuple(q["start"]), tuple(q["global_shape"])),
            mirror=q["mirror"],
        )
        np.testing.assert_array_equal(bits(packed(answer), expected.size), expected.ravel())


OUTSIDE = [
    ({"address": {"seed": 2**64}}, "seed"),
    ({"address": {"seed": -1}}, "seed"),
    ({"address": {"seed": 0, "site": 2**32}}, "site"),
    ({"address": {"seed": 0, "step": 2**32 - 1}}, "step"),
    ({"address": {"seed": 0, "step": 0.5}}, "step"),
    ({"address": {"seed": 0, "call": 2**16}}, "call"),
    ({"seed": 0, "n": 2**64}, "n"),
    ({"p": 1.5}, "p"),
    ({"p": -0.1}, "p"),
]


def test_what_is_out_of_range_is_refused():
    given = answers([("refused", question) for question, _ in OUTSIDE])
    for (_, name), sentence in zip(OUTSIDE, given, strict=True):
        assert sentence is not None
        assert re.match(rf"\w+: {name} must be ", sentence), sentence
