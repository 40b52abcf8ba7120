"""`thinned compare`: runs in one table, tested in pairs where they were judged on the same rows."""

import json

import numpy as np
import pytest

from thinned.fit.compare import mean, paired
from thinned.fit.runs import load_run, paired_runs
from thinned.fit.words import with_error

SMALL = ["--epochs", "6", "--repeats", "1", "--p", "0,0.2", "--quiet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders: a small and a large network on the same splits, and one on splits of its own."""
    from thinned.cli import main

    folder = tmp_path_factory.mktemp("runs")
    for name, options in (
        ("small", ["--hidden", "2"]),
        ("large", ["--hidden", "64"]),
        ("other", ["--hidden", "4", "--seed", "1"]),
    ):
        out = str(folder / name)
        assert main.main(["fit", "wine", *SMALL, *options, "--out", out]) == 0
    return folder


def test_runs_are_tested_in_pairs(runs, command):
    code, out, err = command("compare", runs / "small", runs / "large", runs / "other")
    assert (code, err) == (0, "")
    small, large = (load_run(runs / name) for name in ("small", "large"))
    found = paired_runs(small, large, "loss")
    assert found == paired(large.values("loss"), small.values("loss"), 5)
    head, *rows = out.splitlines()[:4]
    assert head.split("  ")[0] == "run"
    assert [row.split()[0] for row in rows] == ["small", "large", "other"]
    for run, row in zip((small, large), rows, strict=False):
        assert with_error(mean(run.values("loss"))) in row
    assert (
        "On the same 5 splits the validation log loss of large is lower than that of small" in out
    )
    assert ("clearly better." in out) == found.clear
    assert ("this may be chance" in out) != found.clear
    assert "other and small were not judged on the same splits" in out


def test_another_measure(runs, command):
    code, out, _ = command("compare", runs / "small", runs / "large", "--metric", "accuracy")
    assert code == 0
    assert "validation accuracy (%)" in out
    assert with_error(mean(load_run(runs / "large").values("accuracy")), 100) in out


def test_a_run_beside_itself(runs, command):
    code, out, _ = command("compare", runs / "large", runs / "large")
    assert code == 0
    assert "On the same 5 splits large has the log loss of large." in out


def edited(runs, tmp_path, change):
    facts = json.loads((runs / "small" / "metrics.json").read_text(encoding="utf-8"))
    change(facts)
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "metrics.json").write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path / "edited"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update(format="x"), "not a result of thinned fit."),
        (lambda f: f.update(format_version=1), "of format version 1, and this thinned reads 3;"),
        (lambda f: f.pop("splits"), "damaged or edited, parts of it are missing."),
        (lambda f: f["splits"][0].pop("validation"), "damaged or edited, parts of it are missing."),
        (lambda f: f["refits"].clear(), "damaged or edited, parts of it are missing."),
        (lambda f: f.update(best_p=0.7), "damaged or edited, parts of it are missing."),
    ],
)
def test_what_is_no_result_is_a_sentence(runs, tmp_path, refused, change, said):
    assert said in refused("compare", runs / "small", edited(runs, tmp_path, change))


def test_what_cannot_be_compared_is_a_sentence(runs, tmp_path, refused):
    other = edited(runs, tmp_path, lambda f: f["data"].update(target="price"))
    assert refused("compare", runs / "small", other) == (
        "edited and small predict different targets: their scores are not comparable."
    )
    assert refused("compare", runs / "small").startswith("compare: two folders are needed")
    assert refused("compare", runs / "small", tmp_path / "none").endswith(
        "no such folder; name one that thinned fit wrote."
    )
    assert "a classification has no r2" in refused(
        "compare", runs / "small", runs / "large", "--metric", "r2"
    )


def test_the_first_splits_of_more_repeats_are_the_same(runs, tmp_path, command):
    """Runs with other numbers of repeats are compared on the splits that both have."""
    options = ["--hidden", "64", "--epochs", "6", "--repeats", "2", "--p", "0,0.2", "--quiet"]
    assert command("fit", "wine", *options, "--out", tmp_path / "twice")[0] == 0
    once, twice = load_run(runs / "large"), load_run(tmp_path / "twice")
    for a, b in zip(once.facts["splits"], twice.facts["splits"][:5], strict=True):
        assert a["random_state"] == b["random_state"]
        np.testing.assert_array_equal(a["validation"]["loss"], b["validation"]["loss"])
    assert paired_runs(once, twice, "loss") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f["splits"][3].update(rows="0" * 16),  # as where groups or a time parted the rows
        lambda f: f["data"]["choices"].update(weights="w"),
    ],
)
def test_other_rows_or_weights_are_not_tested_in_pairs(runs, tmp_path, command, change):
    first, other = load_run(runs / "small"), load_run(edited(runs, tmp_path, change))
    assert paired_runs(first, first, "loss") is not None
    assert paired_runs(first, other, "loss") is None


def test_groups_and_time_part_the_rows_in_other_ways():
    from thinned.fit.api import problems_from
    from thinned.fit.choices import Choices
    from thinned.fit.results import FitSettings
    from thinned.fit.search import Search

    frame = {"a": np.random.default_rng(0).normal(size=90), "g": np.arange(90) % 30}
    frame |= {"t": np.arange(90)[::-1] * 1.5, "y": np.random.default_rng(1).normal(size=90)}
    seen = []
    for how in ({}, {"groups": "g"}, {"time": "t"}):
        problem = problems_from(frame, "y", "auto", Choices(keep=("t",)), **how)[0]
        search = Search(problem, FitSettings((0.0, 0.2), (4,), 1, 1, 0))
        search._split()
        seen.append({search._hash_of(one) for one in search.parts})
        assert len(seen[-1]) == 5
    assert len(set.union(*seen)) == 15
