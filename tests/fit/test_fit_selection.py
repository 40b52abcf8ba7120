"""Columns that number the rows, or are the target in other words, are left out by name."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.choices import Choices
from thinned.fit.tables import load

ROWS = 60
RNG = np.random.default_rng(3)


@pytest.fixture
def problem(tmp_path):
    """Load a table of a number, some columns, and a target of three classes."""

    def make(choices=None, **columns):
        frame = pd.DataFrame({"a": RNG.normal(size=ROWS).round(4)} | columns)
        frame["y"] = columns.get("y", ["red", "green", "blue"] * (ROWS // 3))
        path = tmp_path / "data.csv"
        frame.to_csv(path, index=False)
        return load(str(path), "y", "auto", choices)

    return make


SHUFFLED = np.random.default_rng(0).permutation(ROWS)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("anything", range(ROWS)),
        ("anything", range(1, ROWS + 1)),
        ("anything", range(5, ROWS + 5)),
        ("anything", range(ROWS, 0, -1)),
        ("Unnamed: 0", range(1, ROWS + 1)),
        ("rownames", SHUFFLED),
        ("id", SHUFFLED + 5000),
        ("PassengerId", SHUFFLED * 3),
        ("customer_id", SHUFFLED.astype(float)),
        ("No.", SHUFFLED),
    ],
)
def test_counters_are_left_out_with_a_note(problem, name, cells):
    found = problem(**{name: cells})
    assert found.left_out == (name,)
    assert (
        f'Column left out: "{name}" (it numbers the rows; --keep "{name}" uses it).' in found.notes
    )
    kept = problem(Choices(keep=(name,)), **{name: cells})
    assert kept.left_out == ()


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("week", SHUFFLED),
        ("anything", np.arange(ROWS) + 1900),  # years
        ("anything", np.arange(ROWS) * 2),
        ("id", SHUFFLED // 2),
        ("id", SHUFFLED + 0.5),
        ("acid", SHUFFLED),
        ("period", SHUFFLED),
    ],
)
def test_quantities_stay(problem, name, cells):
    assert problem(**{name: cells}).left_out == ()


CODES = np.arange(ROWS) % 3


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "green", "blue"] * (ROWS // 3),
        ["rot", "grün", "blau"] * (ROWS // 3),
        CODES,
        CODES * -2.5,
        ["", "G", "B", *["R", "G", "B"] * (ROWS // 3 - 1)],
    ],
)
def test_copies_of_classes_are_left_out(problem, cells):
    found = problem(other=cells)
    assert found.left_out == ("other",)
    assert 'Column left out: "other" (a copy of the target; --keep "other" uses it).' in found.notes
    assert problem(Choices(keep=("other",)), other=cells).left_out == ()


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "green", "green"] * (ROWS // 3),
        ["red", "red", *["red", "green", "blue"] * (ROWS // 3 - 1), "blue"],
        ["r", "g", "b", "x", "g", "b"] * (ROWS // 6),
    ],
)
def test_columns_like_the_target_stay(problem, cells):
    assert problem(other=cells).left_out == ()


def test_copies_of_a_quantity_are_left_out(problem):
    y = np.random.default_rng(1).normal(size=ROWS).round(3)
    found = problem(y=y, same=y, fahrenheit=y * 1.8 + 32, less=-y, near=y + 1e-3 * CODES)
    assert found.left_out == ("same", "fahrenheit", "less")
    assert found.task == "regression"


def test_a_column_in_the_target_s_order_is_pointed_out(problem):
    """A logarithm is in no straight line with what it is of."""
    y = np.exp(np.random.default_rng(1).normal(size=ROWS))
    swapped = np.log(y)
    swapped[np.argsort(y)[[10, 30]]] = swapped[np.argsort(y)[[30, 10]]]
    found = problem(y=y, log=np.log(y), inverse=1 / y, near=swapped, few=CODES)
    told = [note for note in found.notes if "order" in note]
    assert [note.split('"')[1] for note in told] == ["log", "inverse"]
    assert told[1] == (
        'Column "inverse" puts the rows in the target\'s order (a rank correlation of -1.00000). '
        'If it is not known before the target is, leave it out: --drop "inverse".'
    )
    assert found.left_out == ()


def test_numbers_with_a_range_for_each_class_are_pointed_out(problem):
    x = np.random.default_rng(2).uniform(size=ROWS)
    one_off = x + 2 * CODES
    one_off[0] = 2.5
    touching = np.where(CODES == 0, x.clip(None, 0.5), x / 2 + CODES)
    touching[:2] = 0.5, 0.5
    found = problem(told=x - 2 * CODES, one_off=one_off, touching=touching, same=CODES * 0 + x[0])
    told = [note for note in found.notes if "ranges" in note]
    assert len(told) == 1
    assert told[0] == (
        'Column "told" tells the class of each row: the classes\' ranges do not overlap. If it is '
        'not known before the target is, leave it out: --drop "told".'
    )


@pytest.mark.parametrize("target", ["quantity", "classes"])
def test_what_some_rows_show_is_looked_for_in_all(tmp_path, target):
    """Every fifth row is in order, and those are what is looked at first."""
    x = np.random.default_rng(3).normal(size=4000)
    y = np.exp(x) if target == "quantity" else np.where(x > 0, "up", "down")
    other = np.where(np.arange(4000) % 5 == 1, -x, x)
    path = tmp_path / "data.csv"
    pd.DataFrame({"x": x, "other": other, "y": y}).to_csv(path, index=False)
    told = [note.split('"')[1] for note in load(str(path), "y", "auto").notes if "--drop" in note]
    assert told == ["x"]


def test_columns_are_dropped_before_they_are_read(problem):
    mixed = ["1.5", "1,5"] * (ROWS // 2)
    with pytest.raises(InputError, match="the marks between digits differ"):
        problem(x=mixed)
    found = problem(Choices(drop=("x",)), x=mixed)
    assert found.left_out == ("x",)
    assert [column.name for column in found.columns] == ["a"]


def test_what_is_kept_though_it_names_rows(problem):
    names = [f"row {i}" for i in range(ROWS)]
    assert problem(name=names).left_out == ("name",)
    assert problem(Choices(keep=("name",)), name=names).left_out == ()
    # Of a column without a single value there is nothing to keep.
    assert problem(Choices(keep=("none",)), none=[""] * ROWS).left_out == ("none",)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (Choices(keep=("b",)), '--keep: there is no column "b"; the columns are "a", "y".'),
        (Choices(drop=("b",)), '--drop: there is no column "b"; the columns are "a", "y".'),
        (Choices(drop=("y",)), '--drop: "y" is the target.'),
        (Choices(keep=("a",), drop=("a",)), '--keep and --drop: both name the column "a".'),
    ],
)
def test_options_that_cannot_be(problem, choices, said):
    with pytest.raises(InputError) as caught:
        problem(choices)
    assert str(caught.value) == said


def test_nothing_left_says_why(problem):
    with pytest.raises(InputError) as caught:
        problem(a=range(ROWS))
    assert str(caught.value) == (
        'data.csv: there is no column to learn from beside the target "y". Column left out: "a" '
        '(it numbers the rows; --keep "a" uses it).'
    )


def test_texts_that_are_nearly_alike_are_pointed_out(problem):
    found = problem(
        t=["no", "no ", "No", "yes", "y e s", "maybe"] * (ROWS // 6),
        y=["A", "a", "b"] * (ROWS // 3),
    )
    said = "texts that differ in spaces or capitals only, and count as different"
    assert found.notes[:2] == [
        f'Column "y" has {said}: "A", "a".',
        f'Column "t" has {said}: "no", "no ", "No".',
    ]
    assert found.classes == ("A", "a", "b")


def test_the_command_takes_the_options_and_the_report_has_them(here, command):
    frame = pd.DataFrame({"id": range(40), "b": CODES[:40], "c": [1, 2] * 20, "y": ["u", "v"] * 20})
    frame.to_csv("t.csv", index=False)
    small = ["--p", "0.1", "--hidden", "4", "--epochs", "1", "--repeats", "1", "--quiet"]
    options = ["--keep", "id", "--drop", "b", "--keep", "c", "--missing", "?", "--type", "c=text"]
    assert command("fit", "t.csv", *options, *small, "--out", "out")[0] == 0
    report = (here / "out" / "report.html").read_text(encoding="utf-8")
    for said in ("--keep id", "--keep c", "--drop b", "--missing &#x27;?&#x27;", "--type c=text"):
        assert said in report, said
    # What was dropped may be there in new data, or not.
    for columns in (["id", "c"], ["id", "b", "c", "y"]):
        frame[columns].to_csv("new.csv", index=False)
        assert command("predict", "out", "new.csv")[0] == 0
