"""The way in: names that are tried first, what tab and a notebook show, the bare command."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from libraries import is_there, needs

import thinned
from thinned import methods
from thinned.audit import audit_source
from thinned.audit.running import Report
from thinned.cli import bare, main
from thinned.methods import foreign

WRONG = {
    "Dropout": "thinned.dropout is a function of arrays, and thinned.torch.Dropout a module",
    "SpatialDropout2D": "thinned.spatial_dropout is a function",
    "MCDropout": "thinned.dropout is a function",
    "dropuot": "Did you mean dropout?",
    "Adress": "Did you mean Address?",
    "keepmask": "Did you mean keep_mask?",
    "seed": "thinned.Address(seed=0",
    "manual_seed": "thinned.Address(seed=0",
    "thin": "Use thinned.torch.thin.",
    "zyzzyva": "dir(thinned) lists the public names",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_not_there_gets_a_sentence(name):
    with pytest.raises(AttributeError) as caught:
        getattr(thinned, name)
    assert str(caught.value).startswith(f"module 'thinned' has no attribute {name!r}.")
    assert WRONG[name] in str(caught.value)
    assert not hasattr(thinned, name)


IN_ROOMS = {
    "torch": ("MCDropout", "Use thinned.members.predict(model, x, members=64)."),
    "jax": ("dropout", "Use thinned.dropout, which takes arrays of JAX"),
    "members": ("mc_dropout", "Use thinned.members.predict(model, x, members=64)."),
    "members.calibration": ("ECE", "Use expected_calibration_error."),
    "classic": ("inverted_dropout", "Use dropout_forward, or thinned.dropout"),
}


@pytest.mark.parametrize("room", IN_ROOMS)
def test_a_room_answers_the_names_of_the_field(room):
    if room in ("torch", "jax") and not is_there(room):
        pytest.skip(f"{room} is not installed")
    module = import_module(f"thinned.{room}")
    name, said = IN_ROOMS[room]
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value).startswith(f"module 'thinned.{room}' has no attribute {name!r}. ")
    assert said in str(caught.value)
    near = max(module.__all__, key=len)
    with pytest.raises(AttributeError, match=f"Did you mean {near}"):
        getattr(module, near[:-1] + "x")
    with pytest.raises(AttributeError, match=r"has no attribute '__none__'$"):
        getattr(module, "__none__")  # noqa: B009 - as a statement it would be a useless expression


def test_the_scores_that_are_named_are_there():
    scores = thinned.members.calibration.__all__
    for text in foreign.IN_ROOMS["thinned.members.calibration"].values():
        assert set(text.removesuffix(" with penalty=").split(" and ")) <= set(scores)


def places():
    return sorted(
        {place for text in foreign.ROOMS.values() for place in text.replace(" or", ",").split(", ")}
    )


@pytest.mark.parametrize("place", places())
def test_the_places_that_are_named_are_there(place):
    room, _, name = place.rpartition(".")
    for library in ("torch", "jax", "flax", "equinox"):
        if f".{library}" in f".{room}" and not is_there(library):
            pytest.skip(f"{library} is not installed")
    if room.endswith(("nnx", "equinox")) and not is_there("flax"):
        pytest.skip("flax is not installed")
    assert getattr(import_module(room), name) is not None


@pytest.mark.parametrize("room", ["audit", "estimators", "fit"])
def test_a_room_is_there_after_a_bare_import(room):
    said = f"import thinned; print(thinned.{room}.__name__)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True)
    assert done.stdout.split() == [f"thinned.{room}"], done.stderr


@pytest.mark.parametrize(("absent", "told"), [
    ("keras", 'thinned.keras needs Keras: pip install "thinned[keras]".'),
    pytest.param(
        "tensorflow",
        "thinned.keras: Keras is set to run on tensorflow, which is not installed. Set the "
        "environment variable KERAS_BACKEND to jax, torch or numpy before Keras is imported, or "
        "install tensorflow.",
        marks=needs("keras"),
    ),
])  # fmt: skip
def test_keras_that_does_not_load_says_what_to_do(absent, told):
    code = f"import sys; sys.modules[{absent!r}] = None; import thinned.keras"
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stderr.splitlines()[-1] == f"ImportError: {told}"


def names_shown(module):
    return [name for name in dir(module) if not name.startswith("__")]


def test_tab_shows_public_names_alone():
    assert names_shown(thinned) == sorted(thinned.__all__)
    assert set(names_shown(methods)) >= set(methods.__all__)
    assert "arguments" not in names_shown(methods)


@needs("torch")
def test_tab_shows_public_names_of_the_room_of_pytorch_alone():
    import thinned.torch

    assert set(names_shown(thinned.torch)) == {
        *thinned.torch.__all__, "lightning", "transformers",
    }  # fmt: skip


def test_a_method_is_a_table_in_a_notebook():
    html = methods.find("masksembles")._repr_html_()
    assert "<table>" in html
    assert "floor(r n / N)" in html
    assert "<td" in html
    assert "masks" in html


@needs("typer")
def test_the_command_without_words_is_its_help(capsys):
    assert main.main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: thinned ")
    assert "\n  methods " in out
    assert err == ""


@needs("typer")
def test_a_command_that_is_not_there_gets_the_way_to_those_that_are(capsys):
    assert main.main(["find", "droppath"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("thinned: No such command 'find'. ")
    assert "`thinned methods NAME` finds a method" in err


def test_an_audit_is_a_table_in_a_notebook():
    clean = Report((), 1, 10)._repr_html_()
    assert clean == "<p>0 findings in 1 file.</p>"
    source = "import torch.nn.functional as F\ny = F.dropout(x, 0.5) if a < b else '<b>'\n"
    findings = tuple(audit_source(source.encode(), "a<b>.py"))
    assert findings
    html = Report(findings, 1, 2)._repr_html_()
    assert findings[0].code in html
    assert "a&lt;b&gt;.py:2:" in html
    assert "<b>" not in html


@needs("torch")
def test_reports_of_models_are_tables_in_a_notebook():
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.25), nn.Linear(4, 1))
    html = thinned.torch.adopt(model)._repr_html_()
    assert "<th" in html
    assert ">0.25</td>" in html
    found = thinned.torch.audit(nn.Sequential(nn.Dropout(0.5)), torch.ones(8, 4), measure=False)
    assert found.headline in found._repr_html_()


# ----------------------------------------------------------------------------- the bare command


@pytest.fixture
def without_typer(monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)


@pytest.mark.parametrize("typed", [[], ["--help"]])
def test_help_without_typer(typed, without_typer, capsys):
    assert main.main(typed) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in bare.COMMANDS)
    assert 'pip install "thinned[fit]"' in shown
    assert '"thinned[lsp]"' in shown


def test_the_version_without_typer(without_typer, capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"thinned {thinned.__version__}\n"


@needs("typer")
def test_the_bare_help_has_the_commands_of_the_whole_one():
    from thinned.cli.app import app

    assert list(bare.COMMANDS) == [
        command.name or command.callback.__name__ for command in app.registered_commands
    ]


@needs("typer")
@pytest.mark.parametrize(
    ("shell", "begins"),
    [("bash", "complete -o default"), ("zsh", "#compdef thinned"), ("fish", "complete --command")],
)
def test_a_shell_completes_commands(shell, begins):
    done = subprocess.run(
        [sys.executable, "-m", "thinned", "--show-completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        # The shell is else that which runs the tests, if one does.
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert "_THINNED_COMPLETE" in done.stdout
    assert begins in done.stdout
