"""Several targets: one network learns them, and each has a result of its own."""

import io
import json
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
from libraries import needs

import thinned.fit
from thinned.errors import InputError
from thinned.fit import kept, several, training
from thinned.fit.api import problems_from
from thinned.fit.choices import Choices
from thinned.fit.heads import part_of, parts_of, validated
from thinned.fit.jobs import job_of
from thinned.fit.network import MEASURES
from thinned.fit.results import FitSettings
from thinned.fit.saved import load_models
from thinned.fit.splits import splits_of
from thinned.fit.tables import loaded
from thinned.fit.together import Head

from .material import SMALL

QUICK = {"p": (0, 0.3), "hidden": (8,), "epochs": 4, "repeats": 1, "jobs": 1}
SETTINGS = FitSettings((0.0, 0.3), (8,), 3, 1, 0)


def table(rows=150):
    """Two quantities of other units, and two, three classes, which the columns tell."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).round(4)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["kind"] = np.where(rng.random(rows) < 0.5, "u", "v")
    frame["small"] = (x[:, 0] + rng.normal(size=rows) * 0.1).round(4)
    frame["large"] = (5000 + 900 * x[:, 1]).round(1)
    frame["sick"] = np.where(x[:, 2] + 0.3 * rng.normal(size=rows) > 0, "yes", "no")
    frame["size"] = pd.cut(x[:, 1], [-9, -0.5, 0.5, 9], labels=["s", "m", "l"]).astype(str)
    return frame


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "data.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def results():
    return thinned.fit.fit(table(), ["small", "sick", "size"], **QUICK)


def job(targets, p=0.3, frame=None):
    rows = np.arange(100), np.arange(100, 150)
    problem = problems_from(table() if frame is None else frame, targets, "auto", Choices())[0]
    x = problem.features[["a", "b", "c"]].to_numpy(np.float32)
    inputs = x[rows[0]], x[rows[1]]
    how = {"key": (0,), "p": p, "random_state": 5, "looks": (1, 3)}
    return job_of(problem, SETTINGS, rows, inputs, **how)


@pytest.mark.parametrize("target", ["large", "size"])
def test_a_head_alone_is_trained_as_its_target_is(target):
    alone = job(target)
    head = Head(alone.task, alone.n_classes)
    columns = tuple(y[:, None].astype(np.float64) for y in alone.target)
    one = replace(alone, target=columns, heads=(head,))
    found, expected = part_of(one, 0).taken(training.train(one)), training.train(alone)
    np.testing.assert_array_equal(found.measured, expected.measured)
    for a, b in zip(found.network.weights, expected.network.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (found.network.mean, found.network.scale) == (
        expected.network.mean,
        expected.network.scale,
    )
    assert found.masks == expected.masks


def test_each_part_says_what_its_target_is_measured_by():
    whole = job(["small", "size", "large", "sick"])
    trained = training.train(whole)
    outputs = trained.network.outputs(whole.inputs[1])
    assert outputs.shape == (50, 1 + 3 + 1 + 2)
    for name, part in zip(("small", "size", "large", "sick"), parts_of(whole), strict=True):
        alone = replace(job(name), looks=(3,))
        network = part.taken(trained).network
        own = outputs[:, part.outputs] * part.scale + part.mean
        np.testing.assert_allclose(network.outputs(whole.inputs[1]), own, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(part.target(whole.target[1]), alone.target[1])
        measured = alone.measured(network.outputs)
        np.testing.assert_allclose(part.taken(trained).measured[:, -1], measured, rtol=1e-5)
        assert len(measured[0]) == len(MEASURES[alone.task])


def test_all_targets_are_learned():
    """Trained longer, each is better than a constant by far: no loss rules the others."""
    whole = replace(job(["small", "size", "large", "sick"], 0.0), looks=(60,))
    trained = training.train(replace(whole, settings=replace(SETTINGS, learning_rate=0.01)))
    found = [part.taken(trained).measured[1, -1] for part in parts_of(whole)]
    r2, accuracy = MEASURES["regression"].index("r2"), MEASURES["classification"].index("accuracy")
    assert found[0][r2] > 0.9
    assert found[2][r2] > 0.9
    assert found[1][accuracy] > 0.8
    assert found[3][accuracy] > 0.75


def test_a_training_ends_when_no_target_gets_better(monkeypatch):
    whole = replace(job(["small", "sick"]), looks=(1, 2, 3, 4))
    ends = {"regression": 2, "classification": 3}

    def patience(self, measured, epoch):
        classes = self.watched[0][1].called == "log loss"
        return epoch >= ends["classification" if classes else "regression"]

    monkeypatch.setattr("thinned.fit.epochs.Patience.ends", patience)
    assert training.train(whole).epochs == 3


def test_each_network_is_trained_once(monkeypatch):
    trained = []

    def counted(job):
        trained.append(job.heads)
        return training.train(job)

    # An engine runs what it is given: the count stands in its place.
    for module in (kept, several):
        monkeypatch.setattr(module, "train", counted)
    monkeypatch.setattr("thinned.fit.search.train", counted)
    found = thinned.fit.fit(table(), ["small", "sick"], **QUICK)
    refits = {(one["p"], one["epochs"]) for r in found.values() for one in r.metrics["refits"]}
    assert len(trained) == 2 * 5 + len(refits)
    assert {len(heads) for heads in trained} == {2}


@pytest.mark.long
def test_the_splits_of_all_targets_are_the_same(results):
    rows = {tuple(one["rows"] for one in r.metrics["splits"]) for r in results.values()}
    assert len(rows) == 1
    places = {tuple(r.predictions["row"]) for r in results.values()}
    assert len(places) == 1


def test_each_target_has_its_own_measures_and_baselines(results):
    assert list(results) == ["small", "sick", "size"]
    assert [one.metrics["data"]["task"] for one in results.values()] == [
        "regression", "classification", "classification",
    ]  # fmt: skip
    for one in results.values():
        assert [base["name"] for base in one.metrics["baselines"]] == [
            "constant",
            "linear",
            "trees",
        ]
        assert "Learned together" in one.report
    assert "r2" in results["small"].metrics["test"]
    assert results["size"].metrics["data"]["classes"] == ["l", "m", "s"]
    assert results["small"].metrics["data"]["left_out"] == ["sick", "size"]


def test_predictions_are_a_column_for_each(results):
    frame = table()
    found = results.predict(frame.drop(columns=["small", "sick", "size"]))
    assert list(found) == ["small", "sick", "size"]
    assert set(found["size"]) <= {"s", "m", "l"}
    for name, one in results.items():
        assert found[name].tolist() == one.predict(frame).tolist()
    members = results.predict(frame, members=4)
    assert members.shape == (150, 3)
    assert not np.array_equal(members["small"], found["small"])


def test_saved_and_loaded(results, tmp_path):
    folder = tmp_path / "out"
    results.save(folder)
    with pytest.raises(InputError, match="overwrite=True"):
        results.save(folder)
    results.save(folder, overwrite=True)
    again = thinned.fit.load(folder)
    assert isinstance(again, thinned.fit.Results)
    assert again.headline == results.headline
    pd.testing.assert_frame_equal(again.predict(table()), results.predict(table()))
    assert isinstance(thinned.fit.load(folder / "2-sick"), thinned.fit.Result)
    assert again.report == results.report
    assert "['small', 'sick', 'size']" in unescape(results.report)


def test_onnx_of_one(results, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    results["sick"].export(tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    label, shares = session.run(None, results["sick"].onnx_inputs(table()))
    np.testing.assert_allclose(shares, results["sick"].model.predict_proba(table()), atol=1e-9)
    assert label.tolist() == results["sick"].predict(table()).tolist()


def test_a_data_frame_of_targets(results):
    frame = table()
    given = frame[["small", "sick"]]
    found = thinned.fit.fit(frame[["a", "b", "c", "kind"]], given, **QUICK)
    assert list(found) == ["small", "sick"]
    assert "target=target" in found.report or "target=[" in found.report


def test_texts_for_each_row_are_one_target():
    frame = table()
    found = thinned.fit.fit(frame[["a", "b", "c"]], frame["sick"].tolist(), **QUICK)
    assert isinstance(found, thinned.fit.Result)


def test_the_command_line(csv, here, command, refused):
    options = [*SMALL, "--target", "large", "--target", "sick"]
    code, out, _ = command("fit", csv, *options, "--out", "out", "--jobs", "1")
    assert code == 0
    assert "large: " in out
    assert "sick: " in out
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "1-large", "2-sick", "metrics.json", "report.html",
    ]  # fmt: skip
    page = (here / "out" / "report.html").read_text()
    assert "--target large --target sick" in page
    assert "--task auto" in page
    for part in ("1-large", "2-sick"):
        assert "--target large --target sick" in (here / "out" / part / "report.html").read_text()
    assert command("predict", "out", csv, "--level", "0.8", "--out", "all.csv")[0] == 0
    both = pd.read_csv("all.csv")
    assert list(both) == [
        "row", "large: target", "large: prediction", "large: low", "large: high", "sick: target",
        "sick: prediction", "sick: probability of no", "sick: probability of yes", "sick: set",
    ]  # fmt: skip
    assert command("predict", "out/1-large", csv, "--out", "one.csv")[0] == 0
    one = pd.read_csv("one.csv")
    assert one["prediction"].tolist() == both["large: prediction"].tolist()
    assert refused("compare", "out", "out") == (
        "out: holds a result for each of 2 targets; name one of them, such as out/1-large."
    )
    assert refused("export", "out", "model.onnx") == (
        "out: holds a model for each of 2 targets; name one of them, such as out/1-large."
    )
    # The same again replaces it; a file of somebody else's in it is kept.
    again = ["fit", csv, *options, "--out", "out", "--overwrite", "--quiet"]
    before = (here / "out" / "2-sick" / "model.safetensors").read_bytes()
    assert command(*again)[0] == 0
    assert (here / "out" / "2-sick" / "model.safetensors").read_bytes() == before
    (here / "out" / "1-large" / "notes.txt").write_text("mine")
    assert 'holds "1-large/notes.txt", which thinned fit did not write' in refused(*again)


def test_standard_input_is_read_once(csv, here, command, monkeypatch):
    options = [*SMALL, "--target", "large", "--target", "sick", "--quiet"]
    assert command("fit", csv, *options, "--out", "out")[0] == 0
    code, out, _ = command("predict", "out", csv)
    assert code == 0

    class Stdin:
        buffer = io.BytesIO(csv.read_bytes())

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert command("predict", "out", "-")[1] == out


def test_refusals(csv, here, refused):
    two = ["--target", "large", "--target", "sick"]
    base = ["fit", csv, *SMALL, "--out", "out"]
    assert refused(*base, "--target", "large", "--target", "large") == (
        'data.csv: the target "large" is named twice.'
    )
    assert refused(*base, *two, "--drop", "sick") == '--drop: "sick" is a target.'
    assert refused(*base, *two, "--weights", "large") == '--weights: "large" is a target.'
    assert refused(*base, *two, "--time-limit", "10m").startswith("--time-limit: what is left out")
    assert refused(*base, *two, "--metric", "accuracy").startswith("--metric: a regression has no")
    assert not (here / "out").exists()
    assert 'no column "sik"; did you mean "sick"?' in refused(*base, "--target", "sik", *two)


@needs("torch")
def test_a_network_of_your_own_has_one_target(csv, here, refused):
    two = ["--target", "large", "--target", "sick"]
    (here / "net.py").write_text("def model(inputs, outputs):\n    return None\n")
    assert refused("fit", "net.py:model", csv, *two, "--out", "out").startswith(
        "--target: net.py:model builds a network for one target; "
    )
    assert not (here / "out").exists()


def test_a_damaged_list_of_folders_is_refused(results, tmp_path, refused):
    folder = tmp_path / "out"
    results.save(folder)
    path = folder / "metrics.json"
    facts = json.loads(path.read_text())
    facts["targets"][0]["folder"] = "../elsewhere"
    path.write_text(json.dumps(facts))
    assert "damaged or edited" in refused("predict", folder, "digits")


def test_rows_without_one_of_the_targets(csv, tmp_path):
    frame = table()
    frame.loc[[3, 9], "small"] = np.nan
    frame.loc[[9, 20], "sick"] = None
    path = tmp_path / "gaps.csv"
    frame.to_csv(path, index=False)
    problems = loaded(str(path), ["small", "sick"])
    for one in problems:
        assert one.rows == 147
        assert one.unknown.index.tolist() == [3, 9, 20]
        assert (
            "One of the targets, or more, has no value in 3 rows, the first row 4 (line 5): not "
            "learned from, and predicted in predictions.csv, where the target is empty."
        ) in one.notes
    whole = loaded(str(csv), ["small", "sick"])
    rows = np.setdiff1d(np.arange(150), [3, 9, 20])
    np.testing.assert_array_equal(problems[1].target, whole[1].target[rows])


def test_a_class_that_is_rare_once_others_are_left_out(tmp_path):
    """Two rows of "z" go with class "q" of the other target, and leave six of it."""
    frame = table()
    frame.loc[:7, "size"] = "z"
    frame.loc[[0, 1], "sick"] = "q"
    path = tmp_path / "rare.csv"
    frame.to_csv(path, index=False)
    problems = loaded(str(path), ["sick", "size"])
    assert problems[0].classes == ("no", "yes")
    assert problems[1].classes == ("l", "m", "s")
    assert problems[0].rows == problems[1].rows == 142
    said = [note for note in problems[0].notes if note.startswith("Classes that are too rare")]
    assert len(said) == 2


def test_rare_classes_of_any_target_are_in_every_part():
    frame = table(300)
    rng = np.random.default_rng(1)
    for name, rows in (("r1", 8), ("r2", 9), ("r3", 12)):
        frame[name] = "no"
        frame.loc[rng.permutation(300)[:rows], name] = "yes"
    problems = problems_from(frame, ["r1", "r2", "r3", "sick"], "auto", Choices())
    for problem in problems:
        splits = splits_of(problem, replace(SETTINGS, repeats=3))
        for part in (splits.test_rows, *(rows for rows, _ in splits.parts)):
            assert len(np.unique(problem.target[part])) == 2
    strata = problems[0].strata
    test = np.isin(np.arange(300), splits_of(problems[0], SETTINGS).test_rows)
    sick = problems[3].target
    assert abs(sick[test].mean() - sick.mean()) < 0.1
    assert np.bincount(strata).max() < 300


def test_copies_of_any_target_are_left_out(tmp_path):
    frame = table()
    frame["also"] = frame["sick"].map({"yes": "1!", "no": "0!"})
    frame["twice"] = 2 * frame["small"]
    problems = problems_from(frame, ["small", "sick"], "auto", Choices())
    names = {column.name for column in problems[0].columns}
    assert names == {"a", "b", "c", "kind", "large", "size"}
    notes = " ".join(problems[0].notes)
    assert '"also" (a copy of the target "sick"' in notes
    assert '"twice" (a copy of the target "small"' in notes


@pytest.mark.one_in(2)
@pytest.mark.parametrize("how", [{"groups": "g"}, {"time": "t"}, {"weights": "w"}, {"aside": 40}])
def test_options_that_go_with_several(how):
    frame = table(200)
    columns = {"g": np.arange(200) % 20, "t": np.arange(200) ** 1.5, "w": 1 + np.arange(200) % 3}
    for name in {*how.values()} & {*columns}:
        frame[name] = columns[name]
    quick = QUICK | {"p": (0, 0.2, 0.4)}
    found = thinned.fit.fit(frame, ["small", "sick"], **quick, **how)
    rows = {tuple(one["rows"] for one in r.metrics["splits"]) for r in found.values()}
    assert len(rows) == 1
    if "aside" in how:
        settings = [r.metrics["settings"] for r in found.values()]
        assert settings[0]["p"] == settings[1]["p"]  # chosen once, for all
        assert len(settings[0]["p"]) == 2
        chosen = [n for r in found.values() for n in r.metrics["data"]["notes"] if "halving" in n]
        assert len(chosen) == 2
        again = thinned.fit.fit(frame, ["small", "sick"], **quick | {"p": settings[0]["p"]}, **how)
        assert [r.metrics["levels"] for r in again.values()] == [
            r.metrics["levels"] for r in found.values()
        ]


@needs("optuna")
def test_settings_are_tuned_once_for_all_targets(monkeypatch):
    quick = {**QUICK, "tune": "learning_rate,width", "trials": 2, "p": (0, 0.2, 0.4)}
    found = thinned.fit.fit(table(200), ["small", "sick"], **quick)
    settings = [one.metrics["settings"] for one in found.values()]
    assert settings[0] == settings[1]
    assert len(settings[0]["p"]) == 2  # the p of several is chosen on these rows too
    for one in found.values():
        notes = one.metrics["data"]["notes"]
        assert sum("Chosen in 2 trials on 50 rows" in note for note in notes)
        assert sum("for all targets: the sum of their losses" in note for note in notes) == 2


def test_what_is_looked_at_when_settings_are_chosen_is_what_is_trained():
    several_ = job(["large", "sick"])
    trained = training.train(several_)
    large, sick = parts_of(several_)
    found = validated(several_, trained)
    own = [one.taken(trained).measured[1, :, 0] for one in (large, sick)]
    np.testing.assert_allclose(found, own[0] / (2 * large.scale**2) + own[1])
    alone = job("sick")
    trained = training.train(alone)
    np.testing.assert_array_equal(validated(alone, trained), trained.measured[1, :, 0])


@pytest.mark.long
def test_a_run_goes_on(csv, tmp_path, monkeypatch):
    """Interrupted in the second target's search, it trains nothing of the first one's again."""
    folder = tmp_path / "kept"
    whole = thinned.fit.fit(str(csv), ["small", "sick"], **QUICK)

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("thinned.fit.search.Search._compare_with_baselines", stopped)
        with pytest.raises(KeyboardInterrupt):
            thinned.fit.fit(str(csv), ["small", "sick"], **QUICK, resume=folder)
    assert any(folder.iterdir())
    again = thinned.fit.fit(str(csv), ["small", "sick"], **QUICK, resume=folder)
    assert [one.metrics for one in again.values()] == [one.metrics for one in whole.values()]
    assert not folder.exists()


def test_models_of_a_folder(results, tmp_path):
    results.save(tmp_path / "out")
    models = load_models(tmp_path / "out")
    assert [model.target for model in models] == ["small", "sick", "size"]
    # The hidden layers are the same network's where p and epochs are.
    same = [m for m in models if m.training == models[0].training]
    for model in same:
        np.testing.assert_array_equal(model.network.weights[0], models[0].network.weights[0])
