"""Damaged model folders, hostile tables, sources and file names: an answer of ours to each."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest

from . import damage
from .command import MORE, answer, fault

SMALL = ["--p", "0,0.2", "--hidden", "4", "--epochs", "2", "--repeats", "1", "--quiet"]
SEED = 33


def rows(n=30):
    rng = np.random.default_rng(SEED)
    yield "size,place,weight,target"
    for i in range(n):
        a, b = rng.standard_normal(2)
        yield f"{a:.3f},{('north', 'south')[i % 2]},{b:.3f},{('yes', 'no')[i % 3 == 0]}"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(the table, the folder that was made of it, its answers)."""
    folder = tmp_path_factory.mktemp("fitted")
    table = folder / "table.csv"
    table.write_text("\n".join(rows()) + "\n", encoding="utf-8")
    made = folder / "made"
    code, _, err = answer("fit", table, "--out", made, *SMALL)
    assert code == 0, err
    return table, made, predicted(made, table)[1]


def predicted(folder, table):
    return answer("predict", folder, table)


def damaged(fitted, tmp_path, file, spoil):
    table, made, right = fitted
    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    (folder / file).write_bytes(spoil((folder / file).read_bytes()))
    code, out, err = predicted(folder, table)
    shutil.rmtree(folder)
    wrong = fault(code, out, err)
    if wrong is None and code == 0 and out != right:
        wrong = "other answers, with exit code 0"
    return wrong


@pytest.mark.one_in(2)
@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("part", range(2))
def test_damaged_bytes_of_a_model(fitted, tmp_path, file, part):
    rng = np.random.default_rng([SEED, part])
    for turn in range(20 * MORE):
        wrong = damaged(fitted, tmp_path, file, lambda data: damage.bytes_of(rng, data))
        assert wrong is None, f"{file}, turn {turn}: {wrong}"


@pytest.mark.parametrize("part", range(2))
def test_edited_facts_of_a_model(fitted, tmp_path, part):
    rng = np.random.default_rng([SEED, part])
    told = ""

    def edit(data):
        nonlocal told
        told = damage.json_of(rng, data.decode())
        return told.encode("utf-8", "surrogatepass")

    for turn in range(20 * MORE):
        wrong = damaged(fitted, tmp_path, "model.json", edit)
        assert wrong is None, f"turn {turn}: {wrong}"


@pytest.mark.parametrize("part", range(2))
def test_hostile_tables(fitted, tmp_path, part):
    rng = np.random.default_rng([SEED, part])
    _, made, _ = fitted
    path = tmp_path / "hostile.csv"
    for turn in range(8 * MORE):
        data = damage.table_of(rng, rows())
        path.write_bytes(data)
        for arguments in (
            ("predict", made, path),
            ("fit", path, "--out", tmp_path / "out", "--overwrite", *SMALL),
        ):
            if arguments[0] == "fit" and turn % 4:
                continue  # a fit takes a second
            wrong = fault(*answer(*arguments))
            assert wrong is None, f"turn {turn}: {arguments[0]}: {wrong}\n{data!r}"
        assert not [p for p in os.listdir(tmp_path) if p not in ("hostile.csv", "out")]


FORMATS = ("text", "json", "sarif", "github")


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_sources(tmp_path, form):
    rng = np.random.default_rng([SEED, FORMATS.index(form)])
    path = tmp_path / "source.py"
    for turn in range(20 * MORE):
        data = damage.source_of(rng)
        path.write_bytes(data)
        code, out, err = answer("audit", path, "--format", form)
        wrong = fault(code, out, err, usual=(0, 1))
        assert wrong is None, f"turn {turn}: {wrong}\n{data!r}"
        if form in ("json", "sarif"):
            json.loads(out)


WRONG = "import torch.nn.functional as F\ndef f(x):\n    return F.dropout(x, 0.5)\n"


def obeyed(text):
    """Characters that a terminal or an editor acts upon."""
    return [
        c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_file_names(tmp_path, form):
    held = []
    for name in damage.NAMES:
        path = tmp_path / name
        try:
            path.write_text(WRONG, encoding="utf-8")
        except (OSError, UnicodeEncodeError):
            continue  # this file system has no such name
        held.append(name)
    code, out, err = answer("audit", tmp_path, "--format", form)
    assert code == 1, err
    assert not obeyed(out + err)
    lines = out.splitlines()
    if form == "json":
        assert len(json.loads(out)["findings"]) == len(held)
    if form == "github":
        told = [line for line in lines if line.startswith("::")]
        assert len(told) == len(held)
        assert not [line for line in lines if line.startswith("::error::b")]


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", "\u202e", "a" * 300, "", "\udcff"])
@pytest.mark.parametrize("command", ["fit", "predict", "audit"])
def test_hostile_names_in_sentences(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    code, out, err = answer(command, name, *(("x.csv",) if command == "predict" else ()))
    assert fault(code, out, err) is None, err
    assert code != 0
    assert not obeyed(out + err), repr(err)


def test_damage_is_damage():
    rng = np.random.default_rng(0)
    data = bytes(range(256))
    assert sum(damage.bytes_of(rng, data) != data for _ in range(50)) > 45
    text = json.dumps({"a": [1, {"b": "c"}]})
    assert sum(damage.json_of(rng, text) != text for _ in range(50)) > 40
    table = list(rows(5))
    assert sum(damage.table_of(rng, table) != "\n".join(table).encode() for _ in range(50)) == 50
    assert len({damage.source_of(rng) for _ in range(50)}) > 45


def test_a_traceback_and_an_escape_are_no_answers():
    assert fault("ValueError: x", "", "")
    assert fault(2, "", "thinned: \x1b[31m.\n")
    assert fault(2, "", "thinned: one.\nthinned: two.\n")
    assert fault(2, "", "ValueError\n")
    assert fault(2, "", "thinned: no such file.\n") is None
