"""Window: frozen, hashable, and the same however its numbers were written."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from thinned import Window

EXAMPLES = [
    Window(0),
    Window(2**46),
    Window((3, 0, 0)),
    Window((1, 2), (4, 6)),
    Window(1, (4, 6)),
    Window(()),
]

every_example = pytest.mark.parametrize("window", EXAMPLES, ids=repr)


def test_one_number_stands_for_one_axis():
    assert Window(3) == Window((3,))
    assert Window(3, 8) == Window((3,), (8,))
    assert Window([1, 2], np.array([4, 6])) == Window((1, 2), (4, 6))
    assert Window(np.int64(3)).start == (3,)
    assert Window(3) != Window(4)
    assert Window(3) != Window(3, 8)


@every_example
def test_hashable(window):
    assert len({window, copy.copy(window)}) == 1
    assert len(set(EXAMPLES)) == len(EXAMPLES)


@pytest.mark.parametrize("name", ["start", "global_shape"])
def test_frozen(name):
    window = Window(1, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(window, name, 2)
    assert not hasattr(window, "__dict__")


@every_example
def test_the_repr_reads_back(window):
    again = eval(repr(window), {"Window": Window})
    assert again == window
    assert repr(again) == repr(window)


@every_example
@pytest.mark.parametrize(
    "through",
    [copy.copy, copy.deepcopy]
    + [lambda w, n=n: pickle.loads(pickle.dumps(w, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)],
)
def test_copies(window, through):
    assert through(window) == window
