"""From a file to a problem: target, task, kinds of columns, and what is refused by place."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.files import TableFile
from thinned.fit.tables import DATASETS, Column, features_for, load, open_data

from .material import mixed


@pytest.fixture
def csv(tmp_path):
    """A CSV of a frame: 20 rows of a number, a text and two classes, some of it changed."""

    def write(name="data.csv", **changes):
        frame = pd.DataFrame(
            {
                "a": np.arange(20) * 7 % 20 * 0.5,  # in no order of the classes
                "t": ["x", "y"] * 10,
                "target": ["yes"] * 10 + ["no"] * 10,
            }
        )
        for column, cells in changes.items():
            frame[column] = cells
        path = tmp_path / name
        frame.to_csv(path, index=False)
        return str(path)

    return write


def sentence(*arguments, **options):
    with pytest.raises(InputError) as caught:
        load(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_by_name(name):
    problem = load(name)
    assert problem.data == name
    assert problem.target_name == "target"
    assert problem.task == ("regression" if name == "diabetes" else "classification")
    assert problem.rows == len(problem.features)
    assert problem.sha256 is None


def test_classes_are_called_what_scikit_learn_calls_them():
    assert load("wine").classes == ("class_0", "class_1", "class_2")
    assert load("breast_cancer").classes == ("benign", "malignant")
    problem = load("breast_cancer")
    from sklearn.datasets import load_breast_cancer

    # There 0 is malignant; here classes are in the order of their names.
    assert (problem.target == 1 - load_breast_cancer().target).all()


def test_the_target_is_the_column_of_that_name_else_the_last(csv):
    assert load(csv()).notes == []
    problem = load(csv(target=range(20), y=np.arange(20.0) ** 2), target=None)
    assert problem.target_name == "target"
    path = csv("other.csv", y=np.arange(20.0) ** 2)
    frame = pd.read_csv(path).drop(columns=["target"])
    frame.to_csv(path, index=False)
    problem = load(path)
    assert problem.target_name == "y"
    assert problem.notes == ['No target was named: the last column, "y", is predicted.']


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["b", "a"] * 10, "classification"),
        ([True, False] * 10, "classification"),
        ([0, 1] * 10, "classification"),
        ([3.0, 7.0] * 10, "classification"),
        ([0.5, 1.5] * 10, "regression"),
    ],
)
def test_the_task_follows_from_the_target(csv, cells, task):
    assert load(csv(target=cells)).task == task


@pytest.mark.parametrize(("different", "task"), [(20, "classification"), (21, "regression")])
def test_many_whole_numbers_are_quantities(tmp_path, different, task):
    path = tmp_path / "data.csv"
    rows = range(21 * 7)
    frame = pd.DataFrame({"a": [row**2 for row in rows], "y": [row % different for row in rows]})
    frame.to_csv(path, index=False)
    assert load(str(path)).task == task


def test_the_task_can_be_said(csv):
    assert load(csv(target=[0, 1] * 10), task="regression").task == "regression"
    assert load(csv(target=[0.5, 1.5] * 10), task="classification").classes == (0.5, 1.5)


def test_whole_numbers_become_whole_classes_and_it_is_said(csv):
    problem = load(csv(target=[1.0, 2.0, 2.0, 1.0] * 5))
    assert problem.classes == (1, 2)
    assert all(isinstance(name, int) for name in problem.classes)
    assert problem.notes == [
        (
            'The target "target" holds 2 different whole numbers, taken for classes; --task '
            "regression takes them for quantities."
        )
    ]


def test_kinds_of_columns(mixed_csv):
    problem = load(str(mixed_csv), "target")
    kinds = {column.name: column.kind for column in problem.columns}
    assert kinds["sex"] == kinds["build"] == "text"
    assert kinds["older"] == "bool"
    assert kinds["bp"] == kinds["age"] == "numeric"
    assert problem.features["bp"].isna().sum() == mixed()["bp"].isna().sum() > 0
    assert problem.features["build"].isna().sum() == mixed()["build"].isna().sum() > 0


def test_parquet_gives_the_same_problem(tmp_path, mixed_csv):
    path = tmp_path / "patients.parquet"
    frame = mixed()
    frame["sex"] = frame["sex"].astype("category")
    frame["older"] = frame["older"].astype("boolean")
    frame["s1"] = frame["s1"].astype("Float64")
    frame.to_parquet(path)
    a, b = load(str(mixed_csv), "target"), load(str(path), "target")
    assert a.columns == b.columns
    pd.testing.assert_frame_equal(a.features, b.features)
    np.testing.assert_array_equal(a.target, b.target)


def test_columns_without_use_are_left_out_and_named(csv):
    problem = load(
        csv(
            z=[""] * 20,
            same=[3] * 20,
            day=[f"{1 + i}.1.24" for i in range(20)],
        ),
        "target",
    )
    assert [column.name for column in problem.columns] == ["a", "t"]
    assert problem.left_out == ("z", "same", "day")
    assert problem.notes == [
        'Column left out: "z" (no value in any row).',
        'Column left out: "same" (the same value in every row).',
        'Column left out: "day" (dates whose years have two digits; write all four to use it).',
    ]


def test_texts_that_name_rows_are_left_out(tmp_path):
    frame = mixed()
    frame["name"] = [f"patient {i}" for i in range(len(frame))]
    path = tmp_path / "named.csv"
    frame.to_csv(path, index=False)
    problem = load(str(path), "target")
    assert problem.left_out == ("name",)
    assert problem.notes == [
        'Column left out: "name" (442 different texts in 442 rows, which name rows).'
    ]


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, {"target": "tarket"}, 'no column "tarket"; did you mean "target"?'),
        ({}, {"target": "zzz"}, 'no column "zzz"; the columns are "a", "t", "target".'),
        (
            {"target": ["yes"] * 20},
            {},
            'the target "target" has one class only, "yes"; there is nothing to tell apart.',
        ),
        (
            {"target": [1.5] * 20},
            {},
            'the target "target" has the same value in every row.',
        ),
        ({"target": [None] * 20}, {}, 'the target "target" is empty.'),
        (
            {"a": [*range(18), np.inf, 1]},
            {},
            'column "a", row 19 (line 20) holds an infinite number.',
        ),
        (
            {"a": [*range(18), 1e150, 1]},
            {},
            'column "a", row 19 (line 20) holds 1e+150, too large a number to work with.',
        ),
        (
            {"target": [0.5, -np.inf, *[0.25] * 18]},
            {},
            'column "target", row 2 (line 3) holds an infinite number.',
        ),
        (
            {},
            {"task": "regression"},
            'the target "target" holds "yes" in row 1 (line 2); regression needs numbers.',
        ),
        (
            {"target": ["yes"] * 17 + ["no"] * 3},
            {},
            (
                'class "no" of the target "target" has 3 rows (first row 18 (line 19)); with a '
                "test part and five folds every class needs at least 7."
            ),
        ),
        (
            {"target": np.arange(20.0) + 0.5},
            {"task": "classification"},
            (
                'class "0.5" of the target "target" has 1 row (row 1 (line 2)); with a test part '
                "and five folds every class needs at least 7; --task regression takes the values "
                "for quantities."
            ),
        ),
    ],
)
def test_what_cannot_be_learned_is_said_by_place(csv, changes, options, said):
    assert sentence(csv(**changes), **options) == f"data.csv: {said}"


def test_too_few_rows(tmp_path):
    path = tmp_path / "few.csv"
    for n, rows in ((1, "1 row is"), (4, "4 rows are"), (12, "12 rows are")):
        pd.DataFrame({"a": range(n), "y": np.arange(n) * 1.5}).to_csv(path, index=False)
        assert sentence(str(path)) == (
            f"few.csv: {rows} fewer than five folds beside a test part need; at least 13 are "
            "needed."
        )


def test_only_a_target(tmp_path):
    path = tmp_path / "y.csv"
    pd.DataFrame({"y": range(30)}).to_csv(path, index=False)
    assert sentence(str(path)) == ('y.csv: there is no column to learn from beside the target "y".')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("digit", "digit: no such file; did you mean digits?"),
        (
            "data/none.csv",
            (
                "data/none.csv: no such file; data sets by name: digits, wine, breast_cancer, "
                "diabetes."
            ),
        ),
    ],
)
def test_no_such_data(data, said):
    assert sentence(data) == said


def test_cells_of_other_types_are_refused(tmp_path):
    path = tmp_path / "lists.parquet"
    pd.DataFrame({"a": [[1], [2]] * 10, "y": [0, 1] * 10}).to_parquet(path)
    assert sentence(str(path)) == (
        'lists.parquet: column "a", row 1: cannot read a cell of type ndarray beside the others; '
        'cells must be numbers, texts or booleans. --drop "a" leaves the column out.'
    )


def test_dates_of_a_typed_file_become_numbers(tmp_path):
    path = tmp_path / "dates.parquet"
    start = datetime.datetime(2020, 1, 1)
    days = [start + datetime.timedelta(days=i) for i in range(20)]
    frame = pd.DataFrame({"day": days, "date": [day.date() for day in days]})
    frame["zoned"] = pd.to_datetime(days).tz_localize("Europe/Berlin")
    frame["clock"] = [datetime.time(i % 24, 30) for i in range(20)]
    frame["long"] = [datetime.timedelta(days=i) for i in range(20)]
    frame["a"], frame["y"] = [i**2 for i in range(20)], [0, 1] * 10
    frame.to_parquet(path)
    problem = load(str(path))
    assert problem.left_out == ()
    assert problem.features["long"][3] == 3 * 86400.0  # a length of time, in seconds
    names = [column.name for column in problem.columns]
    assert names[:3] == ["day: days", "day: weekday (sine)", "day: weekday (cosine)"]
    assert problem.features["day: days"][0] == problem.features["date: days"][0] == 18262.0
    assert problem.features["zoned: days"][0] == 18262 - 1 / 24  # UTC
    assert problem.features["clock: hour (sine)"][6] == pytest.approx(np.sin(np.pi * 6.5 / 12))
    assert sentence(str(path), "day") == (
        'dates.parquet: the target "day" holds dates; name another with --target.'
    )


# ------------------------------------------------------------------------------------ new data

COLUMNS = (Column("n", "numeric"), Column("t", "text"), Column("b", "bool"))


def new(**cells):
    return TableFile("new.csv", pd.DataFrame(cells))


def test_new_data_take_the_models_order_and_kinds():
    source = new(b=["true", "FALSE", None], t=[7, 8, None], n=["1", None, "2.5"], y=[1, 2, 3])
    frame = features_for(source, COLUMNS, frozenset(("y",)))
    assert frame.columns.tolist() == ["n", "t", "b"]
    assert frame["n"].tolist()[::2] == [1.0, 2.5]
    assert np.isnan(frame["n"][1])
    assert frame["t"].tolist() == ["7", "8", None]
    assert frame["b"].tolist() == ["True", "False", None]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"n": [1], "t": ["x"]}, 'the columns are not the model\'s: missing "b".'),
        (
            {"n": [1], "t": ["x"], "b": [True], "c": [1]},
            'the columns are not the model\'s: unexpected "c".',
        ),
        (
            {"n": [1], "T": ["x"], "b": [True]},
            'the columns are not the model\'s: missing "t"; unexpected "T".',
        ),
        (
            {"n": ["1", "abc"], "t": ["x", "x"], "b": [True, True]},
            'column "n" was numeric when the model was fitted; row 2 holds "abc".',
        ),
        (
            {"n": [1, 2], "t": ["x", "x"], "b": ["yes", "true"]},
            'column "b" was true or false when the model was fitted; row 1 holds "yes".',
        ),
        (
            {"n": [1, -np.inf], "t": ["x", "x"], "b": [True, True]},
            'column "n", row 2 holds an infinite number.',
        ),
    ],
)
def test_new_data_that_differ_are_refused_by_place(cells, said):
    with pytest.raises(InputError) as caught:
        features_for(new(**cells), COLUMNS, frozenset())
    assert str(caught.value) == f"new.csv: {said}"


def test_new_numbers_written_in_a_sure_way_are_read_where_the_model_has_numbers():
    source = new(n=["1,5", None, "1.234,5"], t=["x"] * 3, b=[True] * 3)
    assert features_for(source, COLUMNS, frozenset())["n"].tolist()[::2] == [1.5, 1234.5]
    with pytest.raises(InputError, match='row 1 holds "1,234"'):
        features_for(new(n=["1,234"], t=["x"], b=[True]), COLUMNS, frozenset())


def test_an_empty_column_of_new_data_is_missing_values():
    frame = features_for(new(n=[None, None], t=[None, None], b=[None, None]), COLUMNS, frozenset())
    assert np.isnan(frame["n"]).all()
    assert frame["t"].tolist() == frame["b"].tolist() == [None, None]


def test_a_file_called_like_a_data_set_needs_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wine").write_text("a,b\n1,2\n")
    assert len(open_data("wine").frame) == 178
    assert len(open_data("./wine").frame) == 1


@pytest.mark.parametrize("digits", [101, 309, 400, 4000])
@pytest.mark.parametrize("place", ["a", "target"])
def test_an_integer_that_no_float_can_be_is_one_sentence(csv, digits, place):
    cells = [str(i) for i in range(20)]
    cells[3] = "9" * digits
    said = sentence(csv(**{place: cells}), "target")
    assert f'column "{place}", row 4 (line 5) holds ' in said
    assert "too large" in said


def test_a_quantity_whose_loss_has_no_variance_is_refused_before_training(csv):
    from thinned.fit.engines.local import Local
    from thinned.fit.job import result_of
    from thinned.fit.results import FitSettings, metrics
    from thinned.fit.search import Search

    large = np.linspace(-1.0, 1.0, 20)
    said = sentence(csv(target=large * 1e71), "target")
    assert 'column "target", row 1 (line 2) holds -1e+71, too large a number to work with.' in said
    problem = load(csv(target=large * 1e70), "target")
    search = Search(problem, FitSettings((0.0, 0.5), (4,), 1, 1, 0), engine=Local(1))
    search.run()
    json.dumps(metrics(result_of(problem, search)), allow_nan=False)
