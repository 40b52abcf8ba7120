"""Random addresses, shapes, windows and shared axes: the library against the naive twin."""

import pytest
from hypothesis import given, settings, strategies as st

import thinned
from thinned import reference

from . import twin
from .checks_draw import agrees_with_twin
from .checks_place import any_split_gives_the_whole
from .kinds import INSTALLED

# The same examples on every machine and every day; the twin is slow by intent.
steady = settings(derandomize=True, database=None, deadline=None, max_examples=60)

addresses = st.builds(
    thinned.Address,
    seed=st.integers(0, 2**64 - 1),
    site=st.one_of(st.integers(0, 2**32 - 1), st.text(st.characters(codec="utf-8"))),
    step=st.integers(0, 2**32 - 2),
    call=st.integers(0, 2**16 - 1),
)
# Numbers with few planes, with all of them, and the neighbours of both ends.
rates = st.one_of(
    st.floats(0.0, 1.0),
    st.integers(0, 2**32).map(lambda t: t / 2**32),
    st.sampled_from([0.0, 2.0**-33, 2.0**-32, 0.1, 0.25, 0.5, 0.75, 1 - 2.0**-32, 1.0]),
)
kinds = st.sampled_from(INSTALLED)


@pytest.mark.long
@steady
@given(kinds, addresses, rates, st.integers(0, 2**47 - 200), st.integers(0, 200), st.booleans())
def test_any_range(kind, at, p, start, count, mirror):
    with kind.in_use():
        agrees_with_twin(kind, at, p, (count,), (start,), mirror=mirror)


@st.composite
def windows(draw, longest=6):
    """A shape, where it sits in a larger one, and which axes share."""
    shape = tuple(draw(st.lists(st.integers(1, longest), min_size=1, max_size=4)))
    sparse = st.one_of(st.integers(0, 3), st.integers(0, 2**9))
    start = tuple(draw(sparse) for _ in shape)
    whole = tuple(s + n + draw(sparse) for s, n in zip(start, shape, strict=True))
    shared = tuple(draw(st.sets(st.integers(0, len(shape) - 1))))
    return shape, start, whole, shared


@steady
@given(kinds, addresses, rates, windows(), st.booleans())
def test_any_window(kind, at, p, window, mirror):
    shape, start, whole, shared = window
    with kind.in_use():
        agrees_with_twin(kind, at, p, shape, start, whole, shared, mirror)


@st.composite
def splits(draw):
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
    cuts = [draw(st.lists(st.integers(1, n), max_size=3)) for n in shape]
    shared = tuple(draw(st.sets(st.integers(0, len(shape) - 1))))
    return shape, cuts, shared


@steady
@given(kinds, splits(), st.floats(0.01, 0.99), st.booleans())
def test_any_split(kind, split, p, mirror):
    shape, cuts, shared = split
    with kind.in_use():
        any_split_gives_the_whole(kind, shape, cuts, p, shared, mirror)


@steady
@given(addresses, st.integers(0, 2**47 - 1), st.booleans())
def test_any_uniform(at, index, mirror):
    assert reference.uniform32(at, index, mirror) == twin.uniform(at, index, mirror)


@steady
@given(rates)
def test_any_threshold(p):
    assert reference.threshold(p) == twin.threshold(p)


@steady
@given(addresses, st.integers(0, 2**64 - 1))
def test_any_fold(at, n):
    assert at.fold_in(n).seed == twin.fold_in(at.seed, n)
