"""Fixtures of the main job's tests."""

import pytest

pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from thinned.cli import main

from .material import Fitted, mixed


@pytest.fixture(scope="session")
def mixed_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "patients.csv"
    mixed().to_csv(path, index=False)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        code = main.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(command):
    """Run the command line on what it must refuse, and return the sentence."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert code == 2, (code, out, err)
        assert err.count("\n") == 1, err
        assert err.startswith("thinned: ")
        assert err.endswith((".\n", "?\n"))
        assert "Traceback" not in err
        return err.removeprefix("thinned: ").strip()

    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Classification, at a tenth of the default work."""
    options = ["--p", "0,0.1,0.3", "--hidden", "64,64", "--epochs", "12", "--repeats", "1"]
    return Fitted(tmp_path_factory.mktemp("digits") / "result", "digits", *options)


@pytest.fixture(scope="session")
def patients(tmp_path_factory, mixed_csv):
    """Regression on a CSV with texts, booleans and gaps."""
    options = ["--p", "0,0.2", "--hidden", "32", "--epochs", "20", "--repeats", "2"]
    return Fitted(tmp_path_factory.mktemp("patients") / "result", mixed_csv, *options)
