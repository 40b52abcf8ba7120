"""Every wrong snippet is found, on its line and by one rule; every right one is left alone."""

import ast
from collections import Counter

import pytest

from tests.audit.corpus import pairs
from thinned.audit import RULES, audit_source, drops, interpreter, modes, order
from thinned.audit.interpreter import Interpreter
from thinned.audit.modes import Says
from thinned.audit.names import Names
from thinned.audit.values import NOTHING

PAIRS = pairs()


def told(text):
    return [(f.code, f.line) for f in audit_source(text.encode(), "net.py")]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_the_wrong_one_is_found_and_its_twin_is_not(pair):
    assert told(pair.wrong) == [(pair.code, line) for line in pair.lines]
    assert told(pair.right) == []


def test_the_corpus_is_whole():
    assert len(PAIRS) >= 120
    counted = Counter(pair.code for pair in PAIRS)
    assert set(counted) == set(RULES) - {"THN000"}
    assert min(counted.values()) >= 3
    assert len({pair.id for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert pair.lines
        assert pair.wrong != pair.right
        ast.parse(pair.wrong)
        ast.parse(pair.right)


def fails(pair):
    """Whether a pair no longer comes out as it should."""
    return told(pair.wrong) != [(pair.code, line) for line in pair.lines] or bool(told(pair.right))


# What a wrong version of the machinery would do, and the pair that must notice.
def _without_names(patch):
    patch.setattr(Names, "resolve", lambda *a, **k: None)
    patch.setattr(Interpreter, "dotted", lambda *a, **k: NOTHING)


FAULTS = {
    "names are not resolved": (_without_names, "THN001 in a module"),
    "scopes are not kept apart": (
        lambda patch: patch.setattr(
            Names,
            "lookup",
            lambda self, name, scope, found=Names.lookup: found(self, name, _top(scope)),
        ),
        "THN001 a name that was taken for something else",
    ),
    "guards are not seen": (
        lambda patch: patch.setattr(drops, "guard", lambda *a, **k: Says.NOTHING),
        "THN001 guarded by a branch",
    ),
    "everything is guarded": (
        lambda patch: patch.setattr(drops, "guard", lambda *a, **k: Says.MAYBE),
        "THN001 guarded by a branch",
    ),
    "the mode has no polarity": (
        lambda patch: patch.setitem(modes._FLIPPED, Says.TRAINING, Says.TRAINING),
        "THN013 not self.training",
    ),
    "Monte Carlo is not told": (
        lambda patch: patch.setattr("thinned.audit.context.draws_by_name", lambda *a: False),
        "THN002 Monte Carlo says so",
    ),
    "partial is not seen through": (
        lambda patch: patch.setattr("thinned.audit.interpreter._PARTIAL", "nothing"),
        "THN001 through partial",
    ),
    "constants are not followed": (
        lambda patch: patch.delitem(interpreter._HANDLE, ast.Name),
        "THN006 a constant of the file",
    ),
    "branches run both": (
        lambda patch: patch.setattr("thinned.audit.rules.jax_keys._apart", lambda *a: False),
        "THN060 one branch or the other",
    ),
    "loops run once": (
        lambda patch: patch.setattr(order, "range", lambda n: (0,), raising=False),
        "THN042 train() before the loop only",
    ),
}


def _top(scope):
    while scope.parent is not None:
        scope = scope.parent
    return scope


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault, monkeypatch):
    plant, notices = FAULTS[fault]
    (pair,) = [pair for pair in PAIRS if pair.id == notices]
    assert not fails(pair)
    plant(monkeypatch)
    assert fails(pair)


@pytest.mark.parametrize("code", sorted(set(RULES) - {"THN000"}))
def test_a_rule_that_finds_nothing_is_noticed(code, monkeypatch):
    silent = [pair for pair in PAIRS if pair.code == code]
    monkeypatch.delitem(RULES, code)
    assert all(told(pair.wrong) == [] for pair in silent)
