"""The zoo's run: processes that die, results that are kept, a page that is whole or not there."""

import json
import os
import signal
import time

import pytest
from libraries import needs
from zoo.children import in_child
from zoo.page import IncompleteError, write
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
    results.add({"name": "GCN", "rows": []})
    results.add({"name": "GCN", "not built": "why"})
    with results.file.open("a") as file:
        file.write(json.dumps({"name": "GAT", "of": "another code"}) + "\n")
        file.write('{"name": "cut o')
    assert {name: a.get("not built") for name, a in results.read().items()} == {"GCN": "why"}


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    from zoo.graphs import names

    page, results = tmp_path / "zoo.md", Results("torch_geometric", tmp_path)
    page.write_text("as it was")
    *most, last = names()
    for name in most:
        results.add({"name": name, "not built": "not tried here"})
    with pytest.raises(IncompleteError, match=f"1 models not tried yet, first {last}"):
        write(page, tmp_path, GRAPHS)
    assert page.read_text() == "as it was"
    results.add({"name": last, "not built": "not tried here"})
    write(page, tmp_path, GRAPHS)
    assert last in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["torch_geometric.jsonl", "zoo.md"]
