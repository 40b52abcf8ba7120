"""The main job from Python: tables of every kind in, a result with a model out."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import thinned.fit
from thinned.errors import InputError
from thinned.fit.folder import FILES
from thinned.fit.outcome import Result
from thinned.fit.spoken import in_arguments

from .material import SMALL, mixed

LITTLE = {"p": (0, 0.2), "hidden": (16,), "epochs": 4, "repeats": 1, "jobs": 1}


def varied(rows=120):
    """A frame with a column of each type that pandas has for tables."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "number": x,
            "whole": pd.array(np.arange(rows) % 7, "Int64"),
            "gap": pd.array(np.where(np.arange(rows) % 5, x**2, np.nan), "Float64"),
            "grade": pd.Categorical(np.arange(rows) % 3 + 1),
            "colour": pd.Categorical(rng.choice(["red", "green"], rows)),
            "band": pd.cut(rng.random(rows), 3),
            "word": rng.choice(["a", "b", None], rows),
            "flag": rng.random(rows) > 0.5,
            "maybe": pd.array(rng.choice([True, False, None], rows), "boolean"),
            "when": pd.Timestamp("2023-03-25") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
            "month": pd.period_range("2020-01", periods=rows, freq="M"),
            "constant": 1,
        },
        index=pd.Index(np.arange(rows) * 10 + 3, name="key"),
    )
    frame["sort"] = np.where(x + (frame["colour"] == "red") > 0, "high", "low")
    return frame


@pytest.fixture(scope="module")
def result():
    return thinned.fit.fit(varied(), "sort", **LITTLE)


def test_every_type_of_column_is_read_for_what_it_is(result):
    kinds = {one["name"]: one["kind"] for one in result.metrics["data"]["columns"]}
    assert kinds["number"] == kinds["whole"] == kinds["gap"] == "numeric"
    assert kinds["grade"] == kinds["colour"] == kinds["band"] == kinds["word"] == "text"
    assert kinds["flag"] == kinds["maybe"] == "bool"
    assert kinds["when: days"] == kinds["month: days"] == "numeric"
    assert "constant" in result.metrics["data"]["left_out"]
    assert set(result.model.feature_names_in_) == set(varied()) - {"constant", "sort"}


def test_the_frame_is_not_changed():
    frame = varied()
    thinned.fit.fit(frame, "sort", **LITTLE)
    pd.testing.assert_frame_equal(frame, varied())


def test_answers_are_those_of_the_estimator_whatever_holds_the_table(result):
    frame = varied()
    found = result.predict(frame)
    assert set(found) <= {"high", "low"}
    assert (found == result.model.predict(frame)).all()
    assert (found == result.predict(frame.drop(columns=["sort", "constant"]))).all()
    # In another order of rows, and with other numbers of rows.
    assert (result.predict(frame[::-1]) == found[::-1]).all()
    assert (result.predict(frame[:1]) == found[:1]).all()
    shares = result.model.predict_proba(frame)
    assert (result.model.classes_[shares.argmax(axis=1)] == found).all()
    assert result.model.score(frame, frame["sort"]) == (found == frame["sort"]).mean()
    table = result.table(frame)
    assert table["prediction"].tolist() == found.tolist()
    assert table["target"].tolist() == frame["sort"].tolist()


def test_members_are_asked_by_number():
    frame = varied()
    y = frame.pop("sort")
    model = thinned.fit.TableClassifier((16,), p=0.3, epochs=3).fit(frame, y)
    found = model.predict_members(frame, 8)
    assert found.mean.shape == (len(frame), 2)
    assert (found.std > 0).any()
    assert (found.mean == model.predict_members(frame, 8).mean).all()
    assert (found.mean != model.predict_members(frame, 8, seed=1).mean).any()


def test_what_was_saved_is_loaded_and_equals_the_command_lines(here, command):
    frame = mixed(200)
    frame.to_parquet("patients.parquet", index=False)
    code, _, err = command("fit", "patients.parquet", *SMALL, "--quiet", "--out", "typed")
    assert code == 0, err
    options = {"p": [0.2], "hidden": 16, "epochs": 4, "repeats": 1}
    result = thinned.fit.fit("patients.parquet", **options)
    result.save("saved")
    assert {path.name for path in (here / "saved").iterdir()} >= FILES
    for name in ("metrics.json", "predictions.csv", "model.json", "model.safetensors"):
        assert (here / "saved" / name).read_bytes() == (here / "typed" / name).read_bytes(), name
    held = thinned.fit.fit(frame, **options)
    theirs, ours = (json.loads(json.dumps(one.metrics)) for one in (result, held))
    for facts in (theirs, ours):  # a frame has no file
        for name in ("name", "sha256", "notes"):
            del facts["data"][name]
    assert ours == theirs
    loaded = thinned.fit.load("saved")
    assert loaded.metrics == result.metrics
    assert (loaded.predict(frame) == result.predict(frame)).all()
    assert loaded.report == result.report
    pd.testing.assert_frame_equal(loaded.predictions, result.predictions)
    assert "thinned.fit.fit(" in result.report
    with pytest.raises(InputError, match="pass overwrite=True"):
        result.save("saved")
    loaded.save("saved", overwrite=True)
    code, out, err = command("predict", "saved", "patients.parquet")
    assert code == 0, err
    assert out.count("\n") == 201


def test_what_a_notebook_shows(result):
    page = result._repr_html_()
    assert page.count("<tr>") == 3
    assert result.headline in page
    assert "<script" not in page
    assert result.headline in str(result)
    assert "sort" in repr(result)


def test_arrays_with_a_target_of_their_own():
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(size=(90, 3)), np.ones(90)])
    y = x[:, 0] > 0
    result = thinned.fit.fit(x, y, **LITTLE | {"epochs": 30, "hidden": 64})
    assert result.metrics["data"]["left_out"] == ["x3"]
    found = result.predict(x)
    assert found.dtype == bool
    assert (found == y).mean() > 0.8
    assert (result.predict(x[:, :3]) == found).all()
    with pytest.raises(InputError, match="must have the model's 3 columns"):
        thinned.fit.fit(pd.DataFrame(x[:, :3], columns=list("abc")), y, **LITTLE).predict(x[:, :2])
    values = thinned.fit.fit(x, 3 * x[:, 1], **LITTLE)
    assert values.metrics["data"]["task"] == "regression"
    assert values.predict(x).shape == (90,)


@pytest.mark.parametrize("kind", ["arrow", "dict", "records", "float16"])
@pytest.mark.one_in(3)
def test_tables_of_other_libraries(kind):
    import pyarrow

    frame = pd.DataFrame(
        {"a": np.linspace(0, 1, 60), "b": np.arange(60) % 4, "y": np.arange(60) % 2}
    )
    data = {
        "arrow": lambda: pyarrow.Table.from_pandas(frame),
        "dict": lambda: {name: frame[name].tolist() for name in frame},
        "records": lambda: frame.to_records(index=False),
        "float16": lambda: frame.astype({"a": "float32"}),
    }[kind]()
    found = thinned.fit.fit(data, "y", **LITTLE).predict(data)
    assert found.dtype.kind == "i"
    if kind != "float16":
        assert (found == thinned.fit.fit(frame, "y", **LITTLE).predict(frame)).all()


def test_a_category_of_numbers_is_a_text_unless_types_says_otherwise():
    frame = varied()
    result = thinned.fit.fit(frame, "sort", types={"grade": "number"}, **LITTLE)
    kinds = {one["name"]: one["kind"] for one in result.metrics["data"]["columns"]}
    assert (kinds["grade"], kinds["colour"]) == ("numeric", "text")


def test_the_estimators_are_scikit_learns():
    frame = varied()
    y = frame.pop("sort")
    model = thinned.fit.TableClassifier((64,), epochs=40)
    assert cross_val_score(clone(model), frame, y, cv=3).mean() > 0.6
    fitted = model.fit(frame, y)
    assert fitted.classes_.tolist() == ["high", "low"]
    values = 3 * frame["number"] + frame["flag"]
    other = thinned.fit.TableRegressor((64,), epochs=40).fit(frame, values)
    assert other.score(frame, values) > 0.5


def test_a_model_is_the_network_that_its_estimator_trains():
    """The saved model and a clone of it that is fitted on the same rows with the same seed."""
    frame = varied()
    result = thinned.fit.fit(frame, "sort", **LITTLE)
    everything = clone(result.model).fit(frame.drop(columns="sort"), frame["sort"])
    assert everything.get_params() == result.model.get_params()
    assert everything.model_.encoder.inputs == result.model.model_.encoder.inputs


def test_progress_is_told():
    told = []
    thinned.fit.fit(varied(), "sort", progress=lambda *now: told.append(now), **LITTLE)
    assert told == [(n + 1, 12) for n in range(12)]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"data": 3}, TypeError, "data must be a data frame"),
        ({"data": np.zeros(3)}, ValueError, "of shape (rows, columns), but got (3,)"),
        ({"data": {"a": [1, 2], "b": [1]}}, ValueError, "columns of one length"),
        ({"target": "srot"}, ValueError, 'did you mean "sort"?'),
        ({"target": [1, 2]}, ValueError, "target must be of 120 values"),
        ({"target": 3}, TypeError, "target must be one value for each row"),
        ({"p": 1.5}, ValueError, "p[0] must be a float in [0, 1]"),
        ({"p": [1]}, ValueError, "p[0] must be a float in [0, 1)"),
        ({"p": [0]}, ValueError, "at least one p above 0"),
        ({"p": "0.1"}, TypeError, "p must be"),
        ({"hidden": [0]}, ValueError, "hidden[0]"),
        ({"hidden": []}, ValueError, "hidden must be"),
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"repeats": 0}, ValueError, "repeats must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"jobs": 0}, ValueError, "jobs must be"),
        ({"task": "guess"}, ValueError, "task must be"),
        ({"types": ["a"]}, TypeError, "types must be a dict"),
        ({"types": {"number": "day"}}, ValueError, "is not COLUMN=KIND"),
        ({"keep": ["nothing"]}, ValueError, 'keep=: there is no column "nothing"'),
        ({"drop": "sort"}, ValueError, 'drop=: "sort" is the target'),
        ({"data": "missing.csv"}, ValueError, "no such file"),
        ({"progress": 3}, TypeError, "progress must be"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(arguments, error, said):
    with pytest.raises(error) as caught:
        thinned.fit.fit(**{"data": varied(), "target": "sort", **LITTLE, **arguments})
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


def test_new_tables_that_are_not_the_models_are_refused(result):
    frame = varied()
    for wrong, said in (
        (frame.drop(columns="number"), 'missing "number"'),
        (frame.assign(more=1), 'unexpected "more"'),
        (frame.assign(number="tall"), "was numeric when the model was fitted"),
    ):
        with pytest.raises(InputError, match=said):
            result.predict(wrong)


def test_members_of_a_model_without_dropout_are_those_of_the_network_beside_it(result):
    frame, model = varied(), result._model
    training = model.training | {"p": 0.0}
    zero = replace(model, training=training, twin=model.thinned)
    theirs = Result(result._files, zero).table(frame, members=8)
    pd.testing.assert_frame_equal(theirs, result.table(frame, members=8))
    earlier = Result(result._files, replace(zero, twin=None))
    with pytest.raises(InputError, match=r"^members=: this model was fitted at p = 0"):
        earlier.predict(frame, members=8)


def test_options_become_arguments():
    assert in_arguments('write --type "a b=number" or --missing "?".') == (
        'write types={"a b": "number"} or missing=["?"].'
    )
    assert in_arguments("name another with --target.") == "name another with target=."
    assert in_arguments("a -- b, x--y") == "a -- b, x--y"


def test_a_bare_import_of_the_room_loads_nothing():
    import subprocess

    code = "import thinned.fit, sys; print([m for m in ('pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
