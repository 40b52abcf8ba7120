"""What is made from the rows: pages, pictures, examples in docstrings, the command."""

import pkgutil
import re
import struct
from importlib import import_module
from pathlib import Path

import examples_of
import pytest
from libraries import needs
from pages import builder

import thinned.methods
from thinned.cli.main import main
from thinned.methods import LEFT_OUT, every, find
from thinned.methods.shown import in_characters, measured, tiles

PAGES = Path(__file__).parents[2] / "docs" / "methods"
WHICH = (PAGES / "which.md").read_text(encoding="utf-8")
CHOICES = WHICH.partition("## Before you choose")[0]
FILES = [
    found.name for found in pkgutil.walk_packages(thinned.methods.__path__, "thinned.methods.")
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    builder("docs/methods/build.py").build(folder)
    return folder


def test_the_pages_are_those_of_the_rows(built):
    """Remade by `make docs`."""
    made = {path.name: path.read_text(encoding="utf-8") for path in built.glob("*.md")}
    kept = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    kept.pop("which.md")
    assert sorted(kept) == sorted(made)
    assert [name for name in made if made[name] != kept[name]] == []


def test_every_picture_that_a_page_shows_is_there(built):
    for folder in (built, PAGES):
        for page in folder.glob("*.md"):
            for image in re.findall(r"\]\((images/[^)]+)\)", page.read_text(encoding="utf-8")):
                head = (folder / image).read_bytes()[:24]
                assert head.startswith(b"\x89PNG")
                width, height = struct.unpack(">II", head[16:24])
                assert width > 20
                assert height > 3


def test_no_two_methods_share_a_picture():
    pictures = [path.read_bytes() for path in (PAGES / "images").glob("*.png")]
    assert len(set(pictures)) == len(pictures) > 50


def test_the_network_that_is_drawn_is_that_of_the_mask():
    build = builder("docs/methods/build.py")
    row, tile = find("dropout"), tiles(find("dropout"))[0]
    assert build.units(row, tile) == [bool(value) for value in tile[0, :10]]
    assert False in build.units(row, tile)
    assert build.units(find("drop_path"), tiles(find("drop_path"))[0]) == []  # no units


def test_the_page_of_choices_names_every_method_and_no_other():
    """A new row goes into one of the page's tables, or under its historical methods."""
    assert named(WHICH) - {row.name for row in every()} == set()
    assert {row.name for row in every()} - named(WHICH) == set()
    assert {row.name for row in every() if row.rank == "first"} - named(CHOICES) == set()


@needs("torch")
def test_both_audits_find_what_the_page_says_of_batch_normalisation(tmp_path):
    import torch

    from thinned.audit import audit
    from thinned.torch import audit as audit_model

    text = (
        "from torch import nn\n"
        "model = nn.Sequential(\n"
        "    nn.Linear(8, 99), nn.ReLU(), nn.Dropout(0.5), nn.Linear(99, 64), nn.BatchNorm1d(64)\n"
        ")\n"
    )
    assert "Linear, ReLU, Dropout(.5), Linear,\nBatchNorm the variance in training is" in WHICH
    (tmp_path / "model.py").write_text(text)
    assert [found.code for found in audit([tmp_path]).findings] == ["THN022"]
    torch.manual_seed(0)
    known = {}
    exec(text, known)
    (finding,) = audit_model(known["model"], torch.randn(512, 8)).findings
    assert (finding.site, finding.kind) == ("2", "feeds BatchNorm")
    shift = float(re.search(r"is ([\d.]+) times", finding.detail)[1])
    said = float(re.search(r"is some ([\d.]+) times", WHICH)[1])
    assert abs(shift - said) < 0.4


def named(text):
    """The methods that a text links to."""
    return set(re.findall(r"\]\(([a-z0-9_]+)\.md\)", text))


def test_the_page_of_choices_names_what_was_left_out_and_no_other():
    papers = dict(
        re.findall(r"^- (.+?): (.+)$", WHICH.partition("## Methods not included")[2], re.M)
    )
    assert set(papers) == set(LEFT_OUT)
    assert [name for name in papers if f" {papers[name]}." not in LEFT_OUT[name]] == []


@pytest.mark.parametrize("name", FILES)
def test_examples_in_docstrings(name):
    assert examples_of.run(import_module(name)).failed == 0


def test_measured_moments_are_near_the_formulas():
    for row in every():
        found = measured(row, 200)
        if found is not None:
            if row.moments.of is None:
                assert (found.mean_formula, found.variance_formula) == (None, None)
                continue
            assert found.mean == pytest.approx(found.mean_formula, rel=0.2, abs=0.2), row.name


def test_pictures_show_what_is_dropped():
    lines = in_characters(find("drop_path")).split("\n")
    tile = tiles(find("drop_path"))
    assert len(lines) == tile[0].shape[0]
    for shown, values in zip(lines[0].split("  "), tile, strict=True):
        assert ("·" in shown) == (values[0] == 0).any()
    assert set("".join(lines)) <= set(" ·░▒▓█")


def run(capsys, *arguments):
    code = main(arguments)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_command_lists_every_method(capsys):
    code, out, _ = run(capsys, "methods")
    assert code == 0
    for row in every():
        assert row.name in out


@pytest.mark.parametrize("row", every(), ids=lambda row: row.name)
def test_the_command_shows_one(capsys, row):
    code, out, _ = run(capsys, "methods", row.name)
    assert code == 0
    words = " ".join(out.split())
    origin = row.papers[0].where if row.papers else row.source
    for text in (row.title, origin, *row.formula.split("\n")[0].split()[:3]):
        assert " ".join(text.split()) in words


def test_the_command_finds_by_alias_and_refuses_what_it_does_not_know(capsys):
    assert "drop_path: DropPath" in run(capsys, "methods", "timm.layers.DropPath")[1]
    code, out, err = run(capsys, "methods", "drop_bath")
    assert (code, out) == (2, "")
    assert "no method is known as 'drop_bath'. Did you mean " in err
    assert "drop_path" in err


def test_the_command_says_where_else_a_method_is_and_shows_moments_and_masks(capsys):
    out = " ".join(run(capsys, "methods", "weight_drop")[1].split())
    assert "function thinned.weight_drop PyTorch thinned.torch.weight_drop, " in out
    out = " ".join(run(capsys, "methods", "early")[1].split())
    assert "function thinned.schedules.early" in out
    assert "No picture of a mask: a schedule of p draws nothing itself" in out
    out = run(capsys, "methods", "drop_block")[1]
    for text in ("mean", "variance", "(1 - gamma)^n", "at p = 0.3 (· dropped):"):
        assert text in out
    out = " ".join(run(capsys, "methods", "r_drop")[1].split())
    for text in ("draws shared", "fill "):
        assert text not in out


def test_the_command_says_why_a_method_was_left_out(capsys):
    code, out, err = run(capsys, "methods", "jumpout")
    assert (code, out) == (2, "")
    assert "Jumpout is not in the catalogue: no second source" in " ".join(err.split())
