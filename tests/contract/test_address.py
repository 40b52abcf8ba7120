"""Address: frozen, hashable, equal by what it draws, and readable back from its repr."""

import copy
import dataclasses
import pickle
import zlib

import numpy as np
import pytest

from thinned import Address

EXAMPLES = [
    Address(),
    Address(seed=2**64 - 1, site=2**32 - 1, step=2**32 - 2, call=2**16 - 1),
    Address(seed=5, site="encoder.layers.0.dropout", step=7, call=2),
    Address(site=""),
    Address(site='it\'s a "name"\\'),
    Address(site="层.0\n"),
]

every_example = pytest.mark.parametrize("at", EXAMPLES, ids=repr)


def test_coordinates():
    at = Address(seed=1, site="fc1", step=2, call=3)
    assert (at.seed, at.site, at.step, at.call) == (1, 2887079646, 2, 3)
    assert Address(1, "fc1", 2, 3) == at
    assert Address() == Address(seed=0, site=0, step=0, call=0)


@pytest.mark.parametrize("name", ["seed", "site", "step", "call"])
def test_frozen(name):
    at = Address(seed=1, site="fc1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(at, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(at, name)
    assert at == Address(seed=1, site="fc1")
    assert not hasattr(at, "__dict__")


def test_a_name_equals_its_crc():
    named, numbered = Address(site="fc1"), Address(site=zlib.crc32(b"fc1"))
    assert named == numbered
    assert hash(named) == hash(numbered)
    assert len({named, numbered}) == 1
    assert repr(named) == "Address(seed=0, site='fc1', step=0, call=0)"
    assert repr(numbered) == "Address(seed=0, site=2887079646, step=0, call=0)"


def test_names_are_not_normalised():
    assert Address(site="na\u00efve") != Address(site="nai\u0308ve")


def test_each_coordinate_makes_another_address():
    at = Address(seed=1, site=1, step=1, call=1)
    others = [at.replace(**{name: 2}) for name in ("seed", "site", "step", "call")]
    assert len({at, *others}) == 5
    assert at != (1, 1, 1, 1)


@every_example
def test_the_repr_reads_back(at):
    again = eval(repr(at), {"Address": Address})
    assert again == at
    assert repr(again) == repr(at)


@every_example
@pytest.mark.parametrize(
    "through",
    [copy.copy, copy.deepcopy]
    + [
        lambda at, n=n: pickle.loads(pickle.dumps(at, n))
        for n in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
)
def test_copies(at, through):
    again = through(at)
    assert again == at
    assert hash(again) == hash(at)
    assert repr(again) == repr(at)


def test_replace():
    at = Address(seed=5, site="fc1", step=7, call=2)
    assert at.replace(step=8) == Address(seed=5, site="fc1", step=8, call=2)
    assert repr(at.replace(step=8)) == "Address(seed=5, site='fc1', step=8, call=2)"
    assert repr(at.replace(site="fc2")) == "Address(seed=5, site='fc2', step=7, call=2)"
    assert repr(at.replace(site=3)) == "Address(seed=5, site=3, step=7, call=2)"
    assert at.replace() == at
    assert at.step == 7


def test_fold_in_changes_the_seed_alone():
    at = Address(seed=5, site="fc1", step=7, call=2)
    folded = at.fold_in(3)
    assert folded.seed != at.seed
    assert folded.replace(seed=5) == at
    assert repr(folded) == f"Address(seed={folded.seed}, site='fc1', step=7, call=2)"
    assert len({at.fold_in(n) for n in range(100)}) == 100
    assert at.fold_in(3).fold_in(4) != at.fold_in(4).fold_in(3)


def test_integers_of_numpy_become_plain():
    at = Address(seed=np.uint64(2**64 - 1), site=np.uint32(3), step=np.int16(2), call=np.array(1))
    assert at == Address(seed=2**64 - 1, site=3, step=2, call=1)
    assert {type(v) for v in (at.seed, at.site, at.step, at.call)} == {int}
    assert at.fold_in(np.uint64(2)) == at.fold_in(2)
    assert repr(Address(site=np.str_("fc1"))) == "Address(seed=0, site='fc1', step=0, call=0)"
