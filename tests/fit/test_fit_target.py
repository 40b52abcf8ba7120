"""The target: rows without one, cells that say "None", and classes that are too rare."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.choices import Choices
from thinned.fit.tables import load

from .material import SMALL

ROWS = 60


@pytest.fixture
def csv(tmp_path):
    def write(y):
        x = np.random.default_rng(0).normal(size=len(y)).round(3)
        path = tmp_path / "data.csv"
        pd.DataFrame({"x": x, "t": ["u", "v"] * (len(y) // 2), "y": y}).to_csv(path, index=False)
        return str(path)

    return write


def sentence(*arguments, **options):
    with pytest.raises(InputError) as caught:
        load(*arguments, **options)
    return str(caught.value).removeprefix("data.csv: ")


@pytest.mark.parametrize("kind", ["classes", "values", "numbered"])
def test_rows_without_a_target_are_set_aside(csv, kind):
    cells = {
        "classes": ["b", "b", "a"] * 20,
        "values": np.arange(60) ** 1.5,
        "numbered": [1, 1, 2] * 20,
    }
    y = pd.Series(cells[kind], dtype=object)
    whole = load(csv(y), "y")
    y[[3, 7, 59]] = None
    problem = load(csv(y), "y")
    rows = np.setdiff1d(np.arange(ROWS), [3, 7, 59])
    assert problem.rows == 57
    assert problem.places.tolist() == rows.tolist()
    assert problem.unknown.index.tolist() == [3, 7, 59]
    assert problem.target.tolist() == whole.target[rows].tolist()
    assert problem.features["x"].tolist() == whole.features["x"][rows].tolist()
    assert problem.unknown["x"].tolist() == whole.features["x"][[3, 7, 59]].tolist()
    assert (
        'The target "y" has no value in 3 rows, the first row 4 (line 5): not learned from, and '
        "predicted in predictions.csv, where the target is empty."
    ) in problem.notes
    assert problem.classes == whole.classes


def test_rows_without_a_target_are_predicted(csv, here, command):
    y = pd.Series(["b", "b", "a"] * 20, dtype=object)
    y[[0, 7, 59]] = None
    data = csv(y)
    assert command("fit", data, *SMALL, "--target", "y", "--quiet", "--out", "out")[0] == 0
    table = pd.read_csv(here / "out" / "predictions.csv")
    assert table["row"].is_monotonic_increasing
    assert table["row"][table["target"].isna()].tolist() == [1, 8, 60]
    known = table[table["target"].notna()]
    assert len(known) == 12
    assert known["target"].tolist() == y.iloc[known["row"] - 1].tolist()
    assert set(table["prediction"]) <= {"a", "b"}
    # As thinned predict answers for the same rows.
    assert command("predict", "out", data, "--out", "all.csv")[0] == 0
    everything = pd.read_csv("all.csv")
    pd.testing.assert_frame_equal(
        everything.iloc[table["row"] - 1].reset_index(drop=True), table, check_dtype=False
    )


def test_too_few_rows_with_a_target(csv):
    y = [*np.arange(12) ** 1.5, *[None] * 8]
    assert sentence(csv(y), "y").startswith("12 rows with a target are fewer than five folds ")


@pytest.mark.parametrize("word", ["None", "NA", "n/a", "null"])
def test_a_word_that_can_be_a_class_or_none_is_asked_about(csv, word):
    y = ["yes", "no", word] * 20
    assert sentence(csv(y), "y") == (
        f'the target "y" holds "{word}" in row 3 (line 4) and 19 more, which can be a class or say '
        f'that there is none; write --type "y=text" if it is a class, --missing "{word}" if there '
        "is none."
    )
    path = csv(y)
    assert load(path, "y", choices=Choices(("y=text",))).classes == tuple(sorted({*y}))
    missing = load(path, "y", choices=Choices(missing=(word,)))
    assert missing.classes == ("no", "yes")
    assert len(missing.unknown) == 20


def test_classes_that_begin_with_a_number_keep_their_names(csv):
    assert load(csv(["1A", "2A", "1A"] * 20), "y").classes == ("1A", "2A")
    money = [f"${i * i:,}" for i in range(60)]
    assert load(csv(money), "y").task == "regression"


def test_na_among_numbers_is_no_class(csv):
    assert load(csv([1.5, "NA", 2.5] * 20), "y").rows == 40


def test_classes_that_are_too_rare_are_left_out(csv):
    y = ["a", "b"] * 28 + ["d", "c", "a", "d"]
    problem = load(csv(y), "y")
    assert problem.classes == ("a", "b")
    assert problem.rows == 57
    assert problem.places.tolist() == [*range(56), 58]
    assert problem.target[-3:].tolist() == [0, 1, 0]
    assert len(problem.unknown) == 0
    assert problem.notes[0] == (
        'Classes that are too rare are left out with their rows (3 rows): "c", "d". With a test '
        "part and five folds every class needs at least 7 rows."
    )


def test_numbered_classes_that_are_too_rare_are_left_out(csv):
    problem = load(csv([1, 3] * 28 + [2] * 4), "y", "classification")
    assert problem.classes == (1, 3)
    assert problem.target[:2].tolist() == [0, 1]


@pytest.mark.parametrize("y", [["a", "b"] * 26 + ["c"] * 4 + ["d"] * 4, ["a"] * 56 + ["b"] * 4])
def test_too_many_rare_rows_are_refused(csv, y):
    assert "with a test part and five folds every class needs at least 7" in sentence(csv(y), "y")
