"""Every wrong snippet is found, on its line and by one rule; every right one is left alone."""

import ast
import re
from collections import Counter

import pytest

from tests.audit.corpus import pairs
from thinned.audit import RULES, audit_source
from thinned.audit.names import Names

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


def failing():
    """The pairs that no longer come out as they should."""
    return [
        pair
        for pair in PAIRS
        if told(pair.wrong) != [(pair.code, line) for line in pair.lines] or told(pair.right)
    ]


# What a wrong version of the machinery would do, and the pair that must notice.
FAULTS = {
    "names are not resolved": (
        lambda patch: patch.setattr(Names, "resolve", lambda *a, **k: None),
        "THN001 in a module",
    ),
    "scopes are not kept apart": (
        lambda patch: patch.setattr(
            Names, "one", lambda self, name, scope, one=Names.one: one(self, name, _top(scope))
        ),
        "THN001 a name that was taken for something else",
    ),
    "guards are not seen": (
        lambda patch: patch.setattr("thinned.audit.rules.torch_calls.is_guarded", lambda *a: False),
        "THN001 guarded by a branch",
    ),
    "everything is guarded": (
        lambda patch: patch.setattr("thinned.audit.rules.torch_calls.is_guarded", lambda *a: True),
        "THN001 guarded by a branch",
    ),
    "Monte Carlo is not told": (
        lambda patch: patch.setattr("thinned.audit.context._MONTE_CARLO", re.compile(r"(?!)")),
        "THN002 Monte Carlo says so",
    ),
    "partial is not seen through": (
        lambda patch: patch.setattr("thinned.audit.source._PARTIAL", "nothing"),
        "THN001 through partial",
    ),
    "constants are not followed": (
        lambda patch: patch.setattr(Names, "one", lambda *a: None),
        "THN006 a constant of the file",
    ),
    "branches run both": (
        lambda patch: patch.setattr("thinned.audit.rules.jax_calls._apart", lambda *a: False),
        "THN060 one branch or the other",
    ),
}


def _top(scope):
    while scope.parent is not None:
        scope = scope.parent
    return scope


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault, monkeypatch):
    plant, notices = FAULTS[fault]
    assert failing() == []
    plant(monkeypatch)
    assert notices in [pair.id for pair in failing()]


@pytest.mark.parametrize("code", sorted(set(RULES) - {"THN000"}))
def test_a_rule_that_finds_nothing_is_noticed(code, monkeypatch):
    silent = [pair for pair in PAIRS if pair.code == code]
    monkeypatch.delitem(RULES, code)
    assert all(told(pair.wrong) == [] for pair in silent)
