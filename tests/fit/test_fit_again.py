"""The command in the report does the same job: it parses back to it, whatever it is made of."""

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from thinned.cli.again import WITHOUT, shell, words
from thinned.cli.fit import fit

EVIL = [
    "a b", "it's", 'say "x"', "-dash", "--target", "=1", "", "größe 重", "line\nend", "tab\tthere",
    "$HOME `id` $(id) !!", "a\\nb", "back\\slash'", "*?[x]~", "#x", "a;b&c|d>e", "\x1b[31mred",
    "\u202eturned", "bell\x07\x7f", "7\x011", "\udcffbytes", "<b>&amp;</b>", "%s{0}",
]  # fmt: skip
VALUES = {
    "data": ("some data.csv",), "weights": "w", "target": ("my target",), "task": "regression",
    "p": (0.0, 0.123456789),
    "hidden": (7, 9), "epochs": 11, "repeats": 2, "seed": 5, "types": ("a=number", "b=grouped"),
    "missing": ("?", "-"), "keep": ("a", "b"), "drop": (),
    "groups": "a group", "time": "when", "rows": 900, "aside": 100, "learning_rate": 0.00123,
    "metric": "mae", "encoding": "cp1252",
}  # fmt: skip


def parsed(function, groups):
    """What the command line makes of the words."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    command = typer.main.get_command(app)
    return command.make_context("fit", [word for group in groups for word in group]).params


def declared():
    app = typer.Typer(add_completion=False)
    app.command()(fit)
    return [one.name for one in typer.main.get_command(app).params]


def test_every_parameter_of_fit_has_a_value_here_or_is_left_out_on_purpose():
    assert set(declared()) == set(VALUES) | WITHOUT


@pytest.mark.parametrize("name", sorted(VALUES))
def test_each_option_comes_back(name):
    groups = words(fit, VALUES, WITHOUT)
    found, expected = parsed(fit, groups)[name], VALUES[name]
    if isinstance(found, list | tuple) or not expected:
        assert tuple(found or ()) == expected
    elif isinstance(expected, tuple):
        assert tuple(map(type(expected[0]), found.split(","))) == expected
    else:
        assert getattr(found, "value", found) == expected
    left = parsed(fit, words(fit, VALUES | {"target": (), "epochs": None}, WITHOUT))
    assert not left["target"]


def test_a_new_option_cannot_be_missed():
    def newer(
        data: str,
        target: str | None = None,
        patience: Annotated[int, typer.Option()] = 3,
        clip: Annotated[float, typer.Option("-c", "--clip-at")] = 1.0,
        early: Annotated[bool, typer.Option("--early/--late")] = True,
        careful: Annotated[bool, typer.Option("--careful")] = False,
        drop: Annotated[list[str] | None, typer.Option()] = None,
        size: Annotated[tuple[int, int], typer.Option("-s")] = (1, 2),
        loud: Annotated[int, typer.Option("-v", count=True)] = 0,
    ) -> None:
        pass

    with pytest.raises(KeyError, match="patience"):
        words(newer, {"data": "x", "target": "y"})
    values = {
        "data": "-x", "target": "-y", "patience": -4, "clip": -0.1, "early": False, "careful": True,
        "drop": ["-a", "b c"], "size": (-3, 4), "loud": 2,
    }  # fmt: skip
    found = parsed(newer, words(newer, values))
    assert found | {"drop": list(found["drop"])} == values
    other = values | {"early": True, "careful": False, "loud": 0, "drop": []}
    found = parsed(newer, words(newer, other))
    assert found["early"] is True
    assert found["careful"] is False
    assert not found["loud"]
    assert not found["drop"]


@pytest.mark.parametrize("name", EVIL)
def test_names_survive_the_command_line(name):
    found = parsed(fit, words(fit, VALUES | {"target": (name,)}, WITHOUT))
    assert found["target"] == [name]
    if name:
        assert parsed(fit, words(fit, VALUES | {"data": (name,)}, WITHOUT))["data"] == [name]


@pytest.mark.parametrize("name", EVIL)
def test_names_survive_a_shell(name):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    quoted = shell(name)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\udcff]", quoted)
    say = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]))"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(say)} {quoted}"
    done = subprocess.run([bash, "-c", line], capture_output=True)
    assert done.stdout == name.encode("utf-8", "surrogateescape")
    if all(c.isprintable() or c in "\n\t" for c in name):
        assert shlex.split(quoted) == [name]


def test_a_number_is_written_whole():
    groups = words(fit, VALUES | {"p": (0.0, 0.1, 1 / 3, 0.1 + 0.2)}, WITHOUT)
    text = next(group[1] for group in groups if group[0] == "--p")
    assert text == "0,0.1,0.3333333333333333,0.30000000000000004"


def test_the_reports_command_gives_the_same_result(here, command):
    folder = here / "it's <data> \n here"
    folder.mkdir()
    path = folder / "-größe.csv"
    rows = "".join(f"{i % 7},{i * i % 11},{i % 3}\n" for i in range(60))
    path.write_text(f'a,b,"-y & ""z"""\n{rows}', encoding="utf-8")
    options = ["--target", '-y & "z"', "--p", "0.123456789", "--hidden", "4,3", "--repeats", "1"]
    options += ["--epochs", "2", "--seed", "3", "--task", "regression"]
    assert command("fit", path, *options, "--quiet", "--out", "one")[0] == 0
    report = (here / "one" / "report.html").read_text(encoding="utf-8")
    (inside,) = re.findall(r'<pre class="command"><code>(.*?)</code>', report, flags=re.DOTALL)
    line = html.unescape(re.sub(r"</?span>", "", inside))
    name, *typed = shlex.split(line)
    assert name == "thinned"
    assert command(*typed[:1], "--quiet", "--out", "other", *typed[1:])[0] == 0
    for file in ("metrics.json", "model.json", "model.safetensors", "predictions.csv"):
        assert (here / "one" / file).read_bytes() == (here / "other" / file).read_bytes()
    settings = json.loads((here / "other" / "metrics.json").read_bytes())["settings"]
    assert settings["p"] == [0.0, 0.123456789]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("epochs", [None, 3])
def test_what_was_typed_is_what_was_run(here, command, epochs):
    """Every option that is a setting, also where the epochs are left open."""
    rows = "".join(f"{i % 7},{i * i % 11},{i % 3}\n" for i in range(60))
    (here / "data.csv").write_text(f"a,b,y\n{rows}", encoding="utf-8")
    typed = VALUES | {"data": ("data.csv",), "target": "y", "epochs": epochs}
    typed |= {"groups": None, "time": None, "weights": None, "rows": 50, "aside": 20}
    groups = words(fit, typed, WITHOUT)
    options = [word for group in groups for word in group]
    assert command("fit", *options, "--quiet", "--out", "out")[0] == 0
    settings = json.loads((here / "out" / "metrics.json").read_bytes())["settings"]
    asked = {name: value for name, value in typed.items() if name in settings and value is not None}
    assert {"p", "hidden", "repeats", "seed"} <= set(asked)
    run = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    assert {name: run[name] for name in asked} == asked


# ------------------------------------------------------------------------------ python -m thinned


def run(*arguments, first=""):
    line = f"import sys, runpy; {first}; sys.argv[1:] = {list(arguments)!r}; "
    line += "runpy.run_module('thinned', run_name='__main__', alter_sys=True)"
    return subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)


def as_module(*arguments):
    line = [sys.executable, "-W", "error", "-m", "thinned", *arguments]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_module_runs_as_the_command_does(here):
    import thinned

    done = as_module("--version")
    assert (done.returncode, done.stdout) == (0, f"thinned {thinned.__version__}\n")
    assert as_module("--help").stdout.startswith("Usage: thinned [OPTIONS] COMMAND")
    done = as_module("fit", "none.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("thinned: none.csv: no such file; ")


@pytest.mark.long
def test_the_module_trains_in_processes_of_its_own(here):
    options = ["--hidden", "8", "--epochs", "1", "--repeats", "1", "--p", "0.1", "--out", "out"]
    done = as_module("fit", "wine", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("12 networks to train.\n")
    assert "Traceback" not in done.stderr


def test_the_module_without_the_extra_is_one_sentence(here):
    done = run("fit", "wine", first="sys.modules['typer'] = None")
    assert done.returncode == 1
    assert done.stderr == (
        'thinned: typer is not installed; the command line needs: pip install "thinned[fit]"\n'
    )
