"""The zoo's run: processes that die, results that are kept, a page that is whole or not there."""

import json
import os
import signal
import time

import pytest
from libraries import needs
from zoo.children import in_child
from zoo.page import IncompleteError, page, write
from zoo.results import Results

pytestmark = [
    needs("torch_geometric"),
    # From Python 3.12 on a fork beside threads is warned of: here no thread holds a lock.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    # JAX says so too where another test has loaded it: the children run none of it.
    pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),
]
GRAPHS = {"torch_geometric": "graphs"}


def test_a_child_answers():
    assert in_child(lambda said: {"rows": [1]}) == {"rows": [1]}


def test_a_child_that_hangs_is_ended_and_says_where_it_stood():
    def hangs(said):
        said(stage="waiting")
        said(row={"name": "first"})
        time.sleep(60)

    answer = in_child(hangs, seconds=1, patience=1)
    assert answer == {"died": "not ready after 1 s at waiting", "rows": [{"name": "first"}]}


def test_a_child_that_takes_long_is_ended_by_its_own_time():
    def busy(said):
        said(stage="reckoning")
        while True:
            pass

    answer = in_child(busy, seconds=1)
    assert answer == {"died": "not ready after 1 s of the processor's at reckoning", "rows": []}


def test_a_child_that_crashes_is_survived():
    answer = in_child(lambda said: os.kill(os.getpid(), signal.SIGKILL))
    assert answer["died"] == "the process ended with SIGKILL"


def test_a_child_has_bounded_memory():
    answer = in_child(lambda said: len(bytearray(1 << 30)), memory=1 << 29)
    assert answer["died"].startswith("MemoryError")


def test_results_are_kept_for_one_code_and_the_later_counts(tmp_path):
    results = Results("torch_geometric", tmp_path)
    results.add({"name": "GCN", "quick": False, "rows": []})
    results.add({"name": "GCN", "quick": False, "not built": "why"})
    with results.file.open("a") as file:
        file.write(json.dumps({"name": "GAT", "of": "another code"}) + "\n")
        file.write('{"name": "cut o')
    assert {name: a.get("not built") for name, a in results.read().items()} == {"GCN": "why"}


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    from zoo.graphs import names

    target, results = tmp_path / "zoo.md", Results("torch_geometric", tmp_path)
    target.write_text("as it was")
    *most, last = names()
    for name in most:
        results.add({"name": name, "quick": False, "not built": "not tried here"})
    with pytest.raises(IncompleteError, match=f"1 models not tried yet, first {last}"):
        write(target, tmp_path, GRAPHS)
    assert target.read_text() == "as it was"
    results.add({"name": last, "quick": False, "not built": "not tried here"})
    write(target, tmp_path, GRAPHS)
    assert last in target.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["torch_geometric.jsonl", "zoo.md"]


def row_of(variant):
    checks = ("replayed", "next step differs", "pieces", "evaluation", "released", "predict")
    kept = {"variant": variant, "class": "Net", "drops": "yes", "adopted": "yes", "sites": 1}
    return {**kept, **dict.fromkeys(checks, "yes")}


def test_a_quick_run_leaves_what_was_tried_whole_and_a_whole_one_tries_again(tmp_path):
    results = Results("torch_geometric", tmp_path)
    results.add({"name": "whole", "quick": False, "rows": []})
    results.add({"name": "quick", "quick": True, "rows": []})
    results.add({"name": "absent", "quick": True, "not built": "why"})
    assert results.done(quick=True) == {"whole", "quick", "absent"}
    assert results.done(quick=False) == {"whole", "absent"}


def test_the_page_says_what_was_tried_quickly():
    whole = {"name": "A", "quick": False, "rows": [{**row_of("sdpa"), "compiled": "yes"}]}
    quick = {"name": "B", "quick": True, "rows": [row_of("sdpa")]}
    absent = {"name": "C", "quick": True, "not built": "why"}
    text = page({"transformers": [whole, quick, absent]}, {"torch": "2"})
    assert "Of the 2 models that were built 1 were tried whole, the others quickly" in text
    assert "| B | Net | sdpa | 1 | yes | yes | yes | yes | - | not tried | yes |  |" in text
    assert "| A | Net | sdpa | 1 | yes | yes | yes | yes | - | yes | yes |  |" in text
    assert "quickly" not in page({"transformers": [whole, absent]}, {"torch": "2"})
    assert "1 models that were built 0 were tried whole" in page({"peft": [quick]}, {"torch": "2"})


def test_a_page_of_earlier_codes_says_so(tmp_path):
    from zoo.graphs import names

    results = Results("torch_geometric", tmp_path)
    first, second, *rest = names()
    results.digest, ours = "another code", results.digest
    for name in names():
        results.add({"name": name, "quick": False, "rows": [row_of(name)]})
    results.digest = ours
    results.add({"name": first, "quick": False, "rows": [row_of("newer")]})
    with pytest.raises(IncompleteError, match=f"first {second}"):
        write(tmp_path / "zoo.md", tmp_path, GRAPHS)
    write(tmp_path / "zoo.md", tmp_path, GRAPHS, earlier=True)
    text = (tmp_path / "zoo.md").read_text()
    told = f"1 of the {2 + len(rest)} models that were built were tried by this code"
    assert told in text
    assert f"| {first} | Net | newer |" in text
    assert f"| {second} | Net | {second} |" in text
