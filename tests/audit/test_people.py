"""Code as people write it: how much of it is found, and how much of what is found is right."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.audit.people import cases, told
from thinned.audit import RULES

CASES = cases()
# What is asked for. Measured: see docs/audit.md, whose figures test_page.py holds.
RECALL, PRECISION = 0.8, 0.9


@pytest.fixture(scope="module")
def results():
    """What the audit says of each wrong version and of each right one."""
    return {case.id: (told(case.wrong), told(case.right)) for case in CASES}


def recall(results, held_out):
    of = [case for case in CASES if case.held_out is held_out]
    found = [case for case in of if case.expected <= results[case.id][0]]
    return len(found), len(of)


def precision(results):
    right = wrong = 0
    for case in CASES:
        said, silent = results[case.id]
        right += len(said & case.expected)
        wrong += len(said - case.expected) + len(silent)
    return right, right + wrong


def test_the_corpus_is_whole():
    assert len(CASES) >= 150
    assert len({case.id for case in CASES}) == len(CASES)
    held = [case for case in CASES if case.held_out]
    assert len(held) >= len(CASES) // 8
    for case in CASES:
        assert case.expected
        assert case.wrong != case.right
        assert {code for _, _, code in case.expected} <= set(RULES)
        for text in (*case.wrong.values(), *case.right.values()):
            ast.parse(text)
    assert sum(len(case.wrong) > 1 for case in CASES) >= 5
    assert len(Counter(code for case in CASES for _, _, code in case.expected)) >= 25


@pytest.mark.parametrize("held_out", [False, True], ids=["looked at", "held out"])
def test_recall(results, held_out):
    found, of = recall(results, held_out)
    print(f"recall: {found} of {of} mistakes")
    assert found >= RECALL * of


def test_precision(results):
    right, of = precision(results)
    print(f"precision: {right} of {of} findings")
    assert right >= PRECISION * of


def test_the_figures_can_fail(results):
    """An audit that says nothing, and one that reports every right version too."""
    silent = {name: (set(), set()) for name in results}
    assert recall(silent, held_out=False)[0] == 0
    loud = {name: (said, {("net.py", 1, "THN001")}) for name, (said, _) in results.items()}
    right, of = precision(loud)
    assert right < PRECISION * of


def test_other_files_are_what_finds_these(monkeypatch):
    """Without imports followed, mistakes across files are missed."""
    across = [case for case in CASES if case.id == "training: validate in another file"]
    (case,) = across
    assert case.expected <= told(case.wrong)
    monkeypatch.setattr("thinned.audit.tree.imported", lambda *a: None)
    assert not case.expected <= told(case.wrong)


def test_the_page_and_the_readme_say_what_is_measured(results):
    root = Path(__file__).parents[2]
    page = " ".join((root / "docs/audit.md").read_text(encoding="utf-8").split())
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    (found, of), (held, of_held) = (recall(results, held) for held in (False, True))
    right, said = precision(results)
    assert f"holds {len(CASES)} mistakes" in page
    assert f"finds {found} of the {of} that the rules were tuned on" in page
    assert f"{held} of the {of_held} that were held out" in page
    assert f"{right} of its {said} findings" in page
    assert f"Of {of_held} mistakes that were held out" in readme
    assert f"it finds {held}" in readme
