"""Groups that stay together, and rows in the order of time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import thinned.fit
from thinned.errors import InputError
from thinned.fit.api import problems_from
from thinned.fit.choices import Choices
from thinned.fit.results import FitSettings
from thinned.fit.splits import splits_of

SETTINGS = FitSettings(p=(0.0, 0.2), hidden=(8,), epochs=2, repeats=2, seed=0)
LITTLE = {"p": [0.2], "hidden": 8, "epochs": 3, "repeats": 1, "jobs": 1}


def table(rows=200):
    rng = np.random.default_rng(0)
    who = np.arange(rows) % 25
    return pd.DataFrame(
        {
            "x": rng.normal(size=rows),
            "who": [f"patient {i}" for i in who],
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.permutation(rows) // 2, "D"),
            "y": np.where(rng.normal(size=25)[who] > 0, "ill", "well"),
            "z": rng.normal(size=25)[who] + rng.normal(size=rows) / 9,
        }
    )


def splits(target="y", settings=SETTINGS, frame=None, **how):
    problem = problems_from(table() if frame is None else frame, target, "auto", Choices(), **how)[
        0
    ]
    return problem, splits_of(problem, settings)


def pairs(found):
    return [(found.train_rows, found.test_rows), *found.parts]


@pytest.mark.parametrize("target", ["y", "z"])
def test_a_group_is_never_on_both_sides(target):
    problem, found = splits(target, groups="who")
    assert len(found.parts) == 10
    for rows, other in pairs(found):
        assert not set(problem.groups[rows]) & set(problem.groups[other])
        assert 0.15 < len(other) / (len(rows) + len(other)) < 0.25
    for rows, other in found.parts:
        assert set(rows) | set(other) == set(found.train_rows)
    looked_at = [set(other) for _, other in found.parts]
    assert set.union(*looked_at[:5]) == set(found.train_rows)
    assert looked_at[:5] != looked_at[5:]  # another repeat draws other folds
    # Planted: folds of rows do separate groups.
    problem, plain = splits(target)
    groups = pd.factorize(table()["who"])[0]
    assert any(set(groups[rows]) & set(groups[other]) for rows, other in pairs(plain))


def test_the_column_of_groups_is_not_learned_from():
    problem, _ = splits(groups="who")
    assert "who" in problem.left_out
    assert "who" not in {column.name for column in problem.columns}
    result = thinned.fit.fit(table(), "y", groups="who", drop=["when", "z"], **LITTLE)
    assert len(result.predict(table())) == 200
    assert result.metrics["data"]["choices"]["groups"] == "who"


@pytest.mark.parametrize("target", ["y", "z"])
def test_what_is_looked_at_is_later(target):
    problem, found = splits(target, replace(SETTINGS, repeats=1), time="when")
    assert len(found.parts) == 5
    for rows, other in pairs(found):
        assert problem.times[rows].max() < problem.times[other].min()
    for rows, other in found.parts:  # as the correction of the standard error has it
        assert len(rows) / len(other) == pytest.approx(4, rel=0.25)
    assert len(found.test_rows) == pytest.approx(40, abs=2)
    starts = [problem.times[rows].min() for rows, _ in found.parts]
    assert starts == sorted(set(starts))


def test_equal_times_are_not_parted():
    frame = table()
    frame["when"] = np.sort(np.arange(200) // 9)
    problem, found = splits(frame=frame, time="when")
    for rows, other in pairs(found):
        assert not set(problem.times[rows]) & set(problem.times[other])


def test_repeats_of_one_order_are_one():
    result = thinned.fit.fit(table(), "z", time="when", **LITTLE | {"repeats": 3})
    assert result.metrics["settings"]["repeats"] == 1
    assert len(result.metrics["splits"]) == 5
    assert any(c["name"] == "when: days" for c in result.metrics["data"]["columns"])


def test_values_beside_the_table_say_the_same():
    frame = table()
    by_name = thinned.fit.fit(frame, "z", groups="who", drop=["when", "y"], **LITTLE)
    alone = frame.drop(columns="who")
    by_value = thinned.fit.fit(
        alone, "z", groups=frame["who"].to_numpy(), drop=["when", "y"], **LITTLE
    )
    assert by_value.metrics["levels"] == by_name.metrics["levels"]
    assert len(by_value.predict(alone)) == 200
    times = frame.pop("when")
    later = thinned.fit.fit(frame, "z", time=times.to_numpy(), drop=["who", "y"], **LITTLE)
    assert [column["name"] for column in later.metrics["data"]["columns"]] == ["x"]
    assert len(later.predict(frame)) == 200
    assert "time=time" in later.report
    assert "groups=groups" in by_value.report


def test_the_command_has_them_too(here, command):
    table().to_csv("table.csv", index=False)
    small = ["--p", "0.2", "--hidden", "8", "--epochs", "2", "--repeats", "1", "--jobs", "1"]
    line = ["fit", "table.csv", "--target", "z", "--quiet", *small]
    assert command(*line, "--groups", "who", "--out", "a") == (0, "", "")
    assert command(*line, "--time", "when", "--out", "b") == (0, "", "")
    assert "--groups who" in (here / "a" / "report.html").read_text(encoding="utf-8")
    assert "--time when" in (here / "b" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"groups": "wo"}, 'groups=: there is no column "wo"'),
        ({"groups": "y"}, 'groups=: "y" is the target'),
        ({"groups": "who", "time": "when"}, "only one of them"),
        ({"groups": "who", "drop": ["who"]}, 'groups=: "who" is named by keep= or drop='),
        ({"groups": np.arange(200) // 20}, "has 10 groups, fewer than five folds"),
        ({"groups": np.where(np.arange(200) == 7, None, "a")}, "no value in row 8, which belongs"),
        ({"groups": [1, 2]}, "groups must be of 200 values"),
        ({"time": "who"}, "holds neither dates nor numbers"),
        ({"time": np.zeros(200)}, "has 1 different time"),
        ({"time": np.where(np.arange(200) == 7, np.nan, 1)}, "no value in row 8, which has no"),
        ({"time": "x", "target": "late"}, "rows of one class only"),
    ],
)
def test_what_cannot_be_split_is_a_sentence(how, said):
    frame = table()
    frame["late"] = frame["x"] > frame["x"].sort_values().iloc[-50]
    with (
        pytest.raises(InputError, match=said)
        if "must be" not in said
        else pytest.raises(ValueError, match=said)
    ):
        thinned.fit.fit(frame, **{"target": "y", **LITTLE, **how})


def test_a_class_in_few_groups_is_named():
    frame = table()
    frame["y"] = np.where(frame["who"] == "patient 3", "rare", frame["y"])
    with pytest.raises(InputError, match='class "rare" of the target "y" is in too few groups'):
        splits(frame=frame, groups="who")
