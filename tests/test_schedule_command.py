"""`thinned schedule`: the drawing says what the schedule says, in characters and as a file."""

from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from thinned.cli import main, schedule as drawing
from thinned.schedules import (
    SCHEDULES,
    annealed,
    depth_linear,
    early,
    late,
    linear,
    maximum,
    minimum,
)


@pytest.fixture
def command(capsys):
    def run(*arguments):
        code = main.main(["schedule", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def bars(text):
    """The heights of the columns that were drawn, in eighths of a row."""
    lines = [line.partition("│")[2] for line in text.splitlines() if "│" in line]
    width = text.count("─")
    return [
        sum(drawing._BLOCKS.index(line.ljust(width)[column]) for line in lines)
        for column in range(width)
    ]


def test_all_are_listed(command):
    code, out, err = command()
    assert (code, err) == (0, "")
    for kind in SCHEDULES:
        assert f" {kind.__name__} " in out
    assert "p(t) = p for t < until, then 0" in out
    assert "p(l) = linspace(0, p, L)[l]" in out


@pytest.mark.parametrize("name", [kind.__name__ for kind in SCHEDULES])
def test_each_is_drawn_with_axes_and_numbers(command, name):
    code, out, err = command(name)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    shown = drawing._SHOWN[name]
    assert lines[0].startswith(repr(shown))
    assert lines[2].partition("│")[1] == "│"
    top = max(drawing._sampled(shown, 60, 1000, 11, 12))
    assert lines[2].split()[0] == f"{top:.4g}"
    assert lines[12].split()[0] == "0"
    last = 11 if shown.over == ("layers",) else 999
    assert lines[13].split() == ["0", str(last)]
    assert lines[15].split()[::5] == [lines[15].split()[0], str(last)]
    assert float(lines[16].split()[-1]) == pytest.approx(
        drawing._sampled(shown, 1000 if last == 999 else 12, 1000, 11, 12)[-1], rel=1e-3
    )


def check_heights(command):
    _, out, _ = command("linear", "--start", 0.4, "--end", 0, "--steps", 6)
    # Six steps, ten columns each: 0.4 (1 - t / 6), in eighths of ten rows of 0.04.
    expected = [round(80 * (1 - t / 6)) for t in range(6) for _ in range(10)]
    assert bars(out) == expected
    _, out, _ = command("early", "--p", "0.1", "--until", "0.2", "--steps", "1000")
    assert bars(out) == [80] * 12 + [0] * 48
    _, out, _ = command("early", "--p", "0.1", "--until", "500", "--steps", "1000")
    assert bars(out) == [80] * 30 + [0] * 30


def test_the_heights_are_p(command):
    check_heights(command)


def test_what_is_above_0_shows(command):
    _, out, _ = command("piecewise", "--p", "1,0.0001,0", "--starts", "0.5,0.9")
    assert bars(out) == [80] * 30 + [1] * 24 + [0] * 6


@pytest.mark.parametrize(("name", "options"), [("constant", ["--p", 0]), ("annealed", [])])
def test_p_0_and_a_run_of_one_step(command, name, options):
    code, out, _ = command(name, *options, "--steps", 1)
    assert code == 0
    assert out.splitlines()[13].split() == ["0"]


def test_the_page_shows_what_is_drawn(command):
    page = (Path(__file__).parents[1] / "docs" / "schedules.md").read_text(encoding="utf-8")
    typed, drawn = page.partition("    $ thinned schedule ")[2].split("\n", 1)
    drawn = drawn.partition("\n\nOptions are")[0]
    _, out, _ = command(*typed.split())
    assert [line.removeprefix("    ") for line in drawn.splitlines()] == out.splitlines()


def test_layer_of_a_rule_of_both(command):
    _, out, _ = command("scheduled_drop_path", "--p", 0.6, "--layers", 3, "--layer", 0)
    assert out.startswith("scheduled_drop_path(p=0.6), 1000 steps, layer 0 of 0 to 2\n")
    assert out.splitlines()[-1].split()[-1] == "0.1998"  # 0.6 * 0.999 / 3


def test_a_terminal_without_blocks(command, monkeypatch):
    monkeypatch.setattr(drawing, "_blocks", lambda: drawing._PLAIN)
    for arguments in (("late",), ()):
        code, out, _ = command(*arguments)
        assert code == 0
        assert out.isascii()
        assert "#####" in out


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("SVG", b"<?")]
)
def test_out_writes_a_picture(command, tmp_path, suffix, begins):
    out = tmp_path / f"p.{suffix}"
    code, said, _ = command("scheduled_drop_path", "--out", out)
    assert code == 0
    assert said.endswith(f"Written to {out}.\n")
    first = out.read_bytes()
    assert first.startswith(begins)
    assert list(tmp_path.iterdir()) == [out]
    code, _, err = command("depth_linear", "--out", out)
    assert code == 2
    assert "this file is already there; --overwrite replaces it" in err
    assert out.read_bytes() == first
    assert command("scheduled_drop_path", "--out", out, "--overwrite")[0] == 0
    assert out.read_bytes() == first
    assert command("depth_linear", "--out", out, "--overwrite")[0] == 0
    assert out.read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["eearly"], '"eearly" is no schedule. Did you mean early? There are: constant, early'),
        (["early", "--after", 3], "early has no --after. It takes: --p, --until, --shape."),
        (["early", "--p", 30], r"early: p must be a float in [0, 1], got 30. Did you pass a perc"),
        (["early", "--p", "x"], '--p: "x" is no number.'),
        (["early", "--until", "20.0"], "For 20 steps write 20."),
        (["early", "--shape", "x"], "early: shape must be 'constant' or 'linear', got 'x'."),
        (["piecewise", "--p", "0.1", "--starts", "0.5"], "piecewise: p must be one p more than"),
        (["curriculum", "--gamma", "-1"], "curriculum: gamma must be a float > 0 or None, got -1."),
        (["early", "--steps", 0], "'--steps'"),
        (
            ["scheduled_drop_path", "--layers", 3, "--layer", 3],
            "--layer must be below --layers (3)",
        ),
        (["--p", 0.1], "--p is for one schedule: thinned schedule NAME --p."),
        (["--out", "x.png"], "--out is for one schedule"),
        (["early", "--out", "x.gif"], "x.gif: name a file that ends in .png, .svg or .pdf."),
        (["early", "--out", "no/x.png"], "there is no folder"),
    ],
)
def test_refusals(command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_nothing_is_left_of_a_picture_that_fails(command, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
    code, _, err = command("early", "--out", tmp_path / "p.png")
    assert code == 1
    assert "No space left" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("made", [
    *drawing._SHOWN.values(),
    depth_linear(0.4) * late(1.0, after=100),
    minimum(linear(0.0, 1.0, until=10), 0.5),
    maximum(early(0.1, until=0.2) * annealed(0.5), late(0.2, after=0.9)),
], ids=repr)  # fmt: skip
def test_what_a_schedule_prints_is_what_may_be_typed(command, made):
    code, out, err = command(repr(made))
    assert (code, err) == (0, "")
    assert out.startswith(repr(made))


@pytest.mark.parametrize(("typed", "words"), [
    (["erly"], '"erly" is no schedule. Did you mean early? There are: constant, '),
    (["early(2"], "is no schedule. Write numbers in its parentheses, 'early(0.1, until=0.2)'"),
    (["erly(0.1, 3)"], "is no schedule. Write numbers in its parentheses"),
    (["early(**{})"], "is no schedule. Write numbers"),
    (["early(0.1, 3) * 'a'"], "is no schedule. Write numbers"),
    (["__import__('os').getcwd()"], "is no schedule. Write numbers"),
    (["custom(early)"], "is no schedule. Write numbers"),
    (["early(0.1)"], "early: missing a required argument: 'until'. It takes p, until, shape."),
    (["early(1.5, 3)"], "early: p must be a float in [0, 1], got 1.5. Did you pass a percentage?"),
    (["early(0.1, 3)", "--p", "0.2"], "written out: --p. Its numbers stand between its paren"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(command, typed, words):
    code, out, err = command(*typed)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


# ---------------------------------------------------------------------------------- planted faults


def test_fault_a_column_off(command, monkeypatch):
    monkeypatch.setattr(drawing, "_place", lambda i, n, length: max(i - 1, 0) * length // n)
    with pytest.raises(AssertionError):
        check_heights(command)


def test_fault_upside_down(command, monkeypatch):
    bars_of = drawing._bars
    monkeypatch.setattr(drawing, "_bars", lambda *a: bars_of(*a)[::-1])
    with pytest.raises(AssertionError):
        test_each_is_drawn(command)


def test_each_is_drawn(command):
    """Row by row: the second half of early's columns is empty, and its bars stand on the floor."""
    lines = drawing._drawing(depth_linear(0.8), 10, 0, 2).splitlines()[2:12]
    assert [line[-30:] for line in lines] == ["█" * 30] * 10
    assert "█" not in drawing._drawing(early(0.0, 3), 10, 0, 2)
    tall = drawing._drawing(drawing._SHOWN["linear"], 60, 0, 2).splitlines()[2:12]
    widths = [line.count("█") for line in tall]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
