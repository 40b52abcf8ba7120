"""Sums among the rows of a table: found by their numbers, whatever they are called."""

import numpy as np
import pandas as pd
import pytest

from thinned.fit.tables import load

RNG = np.random.default_rng(5)


def grouped(name="Subtotal {}", group=8, groups=5, first=False):
    """Rows of groups with a row of sums behind each group, or before it."""
    rows = []
    for g in range(groups):
        n, m = RNG.integers(1, 900, (2, group)).tolist()
        members = [
            [f"g{g}", f"item {i}", n[i], m[i] / 4, round(RNG.normal(), 2)] for i in range(group)
        ]
        whole = [name.format(f"g{g}"), None, sum(n), sum(m) / 4, round(RNG.normal(), 2)]
        rows += [whole, *members] if first else [*members, whole]
    return pd.DataFrame(rows, columns=["group", "item", "n", "m", "y"])


@pytest.fixture
def notes(tmp_path):
    def of(frame, suffix=".csv", **options):
        path = tmp_path / f"t{suffix}"
        if suffix == ".csv":
            frame.to_csv(path, index=False, **options)
        else:
            frame.to_feather(path)
        return [note for note in load(str(path), "y").notes if "sums of" in note]

    return of


@pytest.mark.parametrize("name", ["Subtotal", "Total {}", "{} Total", "{}", ""])
def test_rows_of_sums_are_pointed_out_whatever_they_are_called(notes, name):
    (note,) = notes(grouped(name))
    assert note == (
        "Row 9 (line 10), row 18 (line 19), row 27 (line 28) and 2 more hold the sums of the rows "
        'above them in "n", "m": take them out of the table, or they count as rows.'
    )


def test_sums_above_their_rows(notes):
    (note,) = notes(grouped(first=True), ".feather")
    assert note.startswith("Row 1, row 10, row 19 and 2 more hold the sums of the rows below them")


def test_sums_of_sums(notes):
    frame = grouped(groups=3)
    whole = frame[frame["item"].isna()][["n", "m"]].sum()
    frame.loc[len(frame)] = ["all of them", None, whole["n"], whole["m"], 0.0]
    (note,) = notes(frame)
    assert "and 1 more hold the sums" in note


def test_sums_of_numbers_that_are_written_with_marks(notes):
    """A last row of sums is cut off where pandas reads numbers; others are known after reading."""
    n, m = RNG.integers(1000, 90000, (2, 30))
    frame = pd.DataFrame(
        {"a": [*n, n.sum()], "b": [*m, m.sum()], "y": RNG.normal(size=31).round(3)}
    )
    for name in "ab":
        frame[name] = frame[name].map("${:,}".format)
    (note,) = notes(frame)
    assert note.startswith("Row 31 (line 32) holds the sums of the rows above it")
    assert note.endswith("take it out of the table, or it counts as a row.")


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.iloc[:-1],  # the last group has no sum
        lambda frame: frame.assign(n=frame["n"] + np.arange(len(frame)) % 2, m=0.5),
        lambda frame: frame[frame["item"].notna()],
    ],
)
def test_numbers_that_are_no_sums(notes, change):
    assert not notes(change(grouped("{}")))


def test_small_numbers_add_up_by_accident(notes):
    for seed in range(40):
        n = np.random.default_rng(seed).integers(0, 3, (3, 60))
        frame = pd.DataFrame({"a": n[0], "b": n[1], "c": n[2], "y": RNG.normal(size=60)})
        assert not notes(frame)


def test_texts_with_many_spaces_are_looked_at_at_once(notes):
    frame = grouped("{}").iloc[:-1].assign(item="a" + " " * 20_000 + "b")
    frame.loc[3, "item"] = "Total"
    (note,) = notes(frame)
    assert note.startswith('Column "item" holds "Total" in 1 row')


@pytest.mark.parametrize("levels", [[1, 2, 3], [1, 1, 2], [0, 2, 3, 5]])
def test_levels_that_come_again_are_no_sums(notes, levels):
    """The months of a quarter, and the levels of an experiment."""
    rows = 12 * len(levels)
    frame = pd.DataFrame({"a": levels * 12, "b": [2 * n for n in levels] * 12})
    assert not notes(frame.assign(x=RNG.normal(size=rows), y=RNG.normal(size=rows)))


def test_columns_that_dates_become_hold_no_sums(notes):
    """The cosines of a year's quarters add up to nearly 0."""
    days = pd.date_range("2000-01-01", periods=96, freq="QS").strftime("%Y-%m-%d")
    assert not notes(
        pd.DataFrame({"day": days, "x": RNG.normal(size=96), "y": RNG.normal(size=96)})
    )
