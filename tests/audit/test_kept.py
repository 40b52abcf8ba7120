"""What is kept of files between questions changes how long an audit takes, and nothing else."""

import gc
import threading
import weakref
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.audit.people import cases
from thinned.audit import audit, one, tree
from thinned.audit.source import Source


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Versions of a third of the corpus, each in a folder of its own, below one."""
    home = tmp_path_factory.mktemp("everything")
    for number, case in enumerate(cases()[::3]):
        for side, files in (("wrong", case.wrong), ("right", case.right)):
            for name, text in files.items():
                at = home / f"{number}" / side / name
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_text(text, encoding="utf-8")
    return str(home)


@pytest.fixture(scope="module")
def findings(everything):
    return audit([everything]).findings


def test_files_that_are_passed_over_hold_nothing(everything, findings):
    """Every file parsed and every rule asked gives what looking for words first gives."""
    asked = []
    with patch.object(one, "may_matter", side_effect=lambda data: asked.append(data) or True):
        assert audit([everything]).findings == findings
    assert any(not one.may_matter(data) for data in asked)


def test_what_is_let_go_is_found_again(everything, findings):
    """With room for no file, every audit begins without what the one before has read."""
    with patch.object(tree, "_KEPT", 0), patch.object(tree, "_HELD", 0):
        assert audit([everything]).findings == findings


def test_files_that_imports_lead_to_outlive_the_others_without_their_answers(everything, findings):
    with patch.object(tree, "_KEPT", 0):
        assert audit([everything]).findings == findings


def test_an_audit_leaves_no_file_behind(tmp_path):
    """Nothing holds a file that was let go, so that the collector need not look for it."""
    made = []

    class Seen(Source):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(weakref.ref(self))

    for case in cases()[:40]:
        for name, text in case.wrong.items():
            at = tmp_path / str(len(made)) / name
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text, encoding="utf-8")
    gc.disable()
    try:
        with patch.object(one, "Source", Seen):
            assert audit([str(tmp_path)]).findings
            tree.forget()
        assert made
        assert [file for file in made if file() is not None] == []
    finally:
        gc.enable()


def test_threads_do_not_take_each_others_files(everything, findings):
    parts = sorted(Path(everything).iterdir())[:40]
    expected = {part: audit([str(part)]).findings for part in parts}
    told = {}

    def look(some):
        for part in some:
            told[part] = audit([str(part)]).findings

    threads = [threading.Thread(target=look, args=(parts[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == expected
