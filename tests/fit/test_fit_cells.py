"""Texts of the data in predictions: nothing that a spreadsheet runs, and nothing that is lost."""

import csv
import io
import itertools
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from thinned.fit.cells import guarded, unguarded
from thinned.fit.model import Answers, Said, write_predictions

from .test_fit_damage import small

# The wide forms of the four signs.
WIDE = "\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}"
WIDE += "\N{FULLWIDTH COMMERCIAL AT}"
FORMULAS = [
    '=HYPERLINK("http://example.invalid","see")', "=1+1", "+1+1", "-1+1", "@SUM(1)", "+a", "-a",
    "\t=1", "\r=1", "\n=1", "\tabc", "\rabc", " =1", "\N{NO-BREAK SPACE}=1", "\x0b=1", "'=1",
    "''=1", *(f"{sign}1" for sign in WIDE), "=", "-", "--1", "-1.5.", "+1 2", "-1,5",
    "=cmd|' /C calc'!A0", "-inf",
]  # fmt: skip
INSIDE = ["a;=1", "a\t=1", "a\n=1", "a\r\n@x", "a; +1", "a;'=1", "a\n\n-x"]
PLAIN = [
    "", "a", "'tis", "a=1", "a-b", "1-2", "-1.5", "+1e3", "-.5", "-0", "+7", "1e-9", "größe", "重",
    "a;b", "a,=1", "x'=1", "a b\nc", "<script>", "2026-11-29", "[red]x",
]  # fmt: skip


def is_live(cell):
    """What a spreadsheet would compute, wherever it is set to cut."""
    parts = re.split(r"[;\t\r\n]", cell)
    number = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell)
    return not number and any(part.lstrip()[:1] in tuple("=+-@" + WIDE) for part in parts if part)


@pytest.mark.parametrize("text", FORMULAS + INSIDE)
def test_a_formula_becomes_a_text(text):
    assert guarded(text) != text
    assert not is_live(guarded(text))
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay(text):
    assert guarded(text) == unguarded(text) == text


def test_every_text_comes_back():
    alphabet = "=-@'; \t\na1."
    seen = {}
    for length in range(6):
        for signs in itertools.product(alphabet, repeat=length):
            text = "".join(signs)
            cell = guarded(text)
            assert unguarded(cell) == text
            assert not is_live(cell), (text, cell)
            assert seen.setdefault(cell, text) == text  # no two texts in one cell


def written(model, target=None, **more):
    stream = io.StringIO()
    n = len(model.classes)
    answers = Answers(np.eye(n), np.arange(n), np.eye(n))
    write_predictions(stream, np.arange(1, n + 1), [Said(model, answers, target)], **more)
    return stream.getvalue()


def test_labels_names_and_targets_are_guarded():
    labels = tuple(sorted([*FORMULAS, *INSIDE]))
    text = written(replace(small(), classes=labels), labels)
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert not any(is_live(cell) for row in (head, *rows) for cell in row)
    for i, row in enumerate(rows):
        assert [unguarded(cell) for cell in row[1:3]] == [labels[i]] * 2
    assert [unguarded(name) for name in head[3:]] == [f"probability of {name}" for name in labels]
    raw = written(replace(small(), classes=labels), labels, spelled=str)
    assert [row[1] for row in csv.reader(io.StringIO(raw, newline=""))][1:] == list(labels)


def test_numbers_stay_numbers():
    text = written(replace(small(), classes=(-3, -2, 5)), [-1.5, -2, Decimal("-7.25")])
    table = pd.read_csv(io.StringIO(text))
    assert table["target"].tolist() == [-1.5, -2.0, -7.25]
    assert table["prediction"].tolist() == [-3, -2, 5]


@pytest.fixture
def formulas_csv(here):
    """A table whose labels and column names are formulas."""
    rng = np.random.default_rng(0)
    labels = ['=HYPERLINK("http://example.invalid")', "-x\x1b[31m", "[red]a\u202eb"]
    frame = pd.DataFrame({"=1+1": rng.normal(size=60), "@kind": labels * 20})
    frame.to_csv("-x=1.csv", index=False)
    return frame


def test_the_command_guards_and_raw_does_not(here, formulas_csv, command):
    options = ["--hidden", "4", "--epochs", "1", "--repeats", "1", "--p", "0.1"]
    code, out, err = command("fit", "./-x=1.csv", *options, "--out", "out")
    assert code == 0
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
    labels = list(formulas_csv["@kind"])
    _, safe, _ = command("predict", "out", "./-x=1.csv")
    _, raw, _ = command("predict", "out", "./-x=1.csv", "--raw")
    assert safe != raw
    cells = [row[1] for row in csv.reader(io.StringIO(safe))][1:]
    assert not any(map(is_live, cells))
    assert [unguarded(cell) for cell in cells] == labels
    assert [row[1] for row in csv.reader(io.StringIO(raw))][1:] == labels
    with open("out/predictions.csv", encoding="utf-8", newline="") as stream:
        assert not any(is_live(cell) for row in csv.reader(stream) for cell in row)
    report = (here / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x1b\u202e]", report)


def test_predictions_are_utf_8_whatever_the_terminal_speaks(here):
    from thinned.fit.saved import save_model

    (here / "model").mkdir()
    save_model(replace(small(), classes=("esche", "größe", "重")), here / "model")
    (here / "new.csv").write_text("height,sort,kind\n1.5,red,größe\n", encoding="utf-8")
    line = (
        "import sys; sys.stdout.reconfigure(encoding='ascii'); from thinned.cli.main import main; "
    )
    line += "sys.exit(main(['predict', 'model', 'new.csv']))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "1,größe," in done.stdout.decode("utf-8")
    assert b"\r" not in done.stdout
