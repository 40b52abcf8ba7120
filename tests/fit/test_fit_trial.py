"""The trial on the tables of packages: its list is sound, and the page has what it found."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.fit import trial

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/fit.md").read_text(encoding="utf-8")
TABLES = trial.known()["table"]


def test_the_list_is_sound():
    packages = trial.known()["packages"]
    for version in packages.values():
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)+", version)
    for table in TABLES:
        assert {"package", "path", "target"} <= set(table) <= {"package", "path", "target", "wrong"}
        assert table["path"].count("/") == 1 or "." in table["path"]
        assert table.get("wrong", "It is.").endswith(".")
    assert {table["package"] for table in TABLES} == set(packages)
    assert max(Counter(map(trial.called, TABLES)).values()) == 1
    assert len(TABLES) >= 20


def test_the_page_has_a_line_for_each_table():
    part = PAGE.split(trial.BEGIN)[1].split(trial.END)[0]
    lines = part.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == [
        trial.called(table) for table in TABLES
    ]
    for table in TABLES:
        if "wrong" in table:
            assert f"- {trial.called(table)}: {table['wrong']}" in lines


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            'Dates (year, month, day) were read in "d": "2012/01/01" is 2012-01-01. They become',
            'Dates (year, month, day) were read in "d".',
        ),
        (
            'Columns left out: "a", "d: hour (sine)", "d: hour (cosine)" (the same value).',
            'Columns left out: "a" (the same value).',
        ),
        ('Columns left out: "d: hour (sine)", "d: hour (cosine)" (the same value).', ""),
        (
            'Column left out: "id" (it numbers the rows; keep=["id"] uses it).',
            'Column left out: "id" (it numbers the rows).',
        ),
        (
            'The target "y" holds 2 numbers; task="regression" takes',
            'The target "y" holds 2 numbers.',
        ),
        ('"y" has no value in 7 rows, the first row 2 (line 3)', '"y" has no value in 7 rows.'),
    ],
)
def test_a_note_in_brief(note, said):
    assert trial.brief(note) == said


def test_a_table_is_fitted_once_and_stands_on_the_page(tmp_path, monkeypatch, capsys):
    """A table that is read, and one that is not."""
    home = tmp_path / "home"
    home.mkdir()
    frame = pd.DataFrame({"id": range(40), "x": [1.5, 2.5, 4.5, 4.0] * 10, "y": ["u", "v"] * 20})
    frame.to_csv(home / "good.csv", index=False)
    (home / "bad.csv").write_text("1,2\n3\n")
    tables = [
        {"package": "one", "path": path, "target": "y", "wrong": "It is."}
        for path in ("good.csv", "bad.csv")
    ]
    known = {"packages": {"one": "1"}, "table": tables}
    monkeypatch.setattr(trial, "known", lambda: known)
    monkeypatch.setattr(trial, "HOME", tmp_path)
    monkeypatch.setattr(trial, "installed", lambda below, name, version: home)
    monkeypatch.setattr(trial, "SETTINGS", trial.SETTINGS | {"epochs": 2, "hidden": (4,)})
    page = tmp_path / "page.md"
    page.write_text(f"above\n{trial.BEGIN}old\n{trial.END}below\n")
    assert trial.main(["--page", str(page)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    above, *lines, below = page.read_text().splitlines()
    assert (above, below) == ("above", "below")
    good, bad = (next(one for one in lines if f"| one: {name}" in one) for name in ("good", "bad"))
    assert '| 40 x 1 | Column left out: "id" (it numbers the rows). | accuracy, % |' in good
    assert re.search(r"% \|( [0-9.]+ \|){3} 100\.0 \| Dropout", good)  # the trees learn it all
    assert "refused: bad.csv: " in bad
    assert "- one: good.csv: It is." in lines
    # What is kept is not fitted again.
    monkeypatch.setattr(trial, "found_in", None)
    assert trial.main([]) == 1
