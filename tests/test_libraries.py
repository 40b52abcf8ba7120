"""A library that is not installed skips the tests that need it, by name, and hides no fault."""

import subprocess
import sys

import libraries
import pytest

MISSING = "a_library_that_nobody_has"


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(libraries, "LIBRARIES", (*libraries.LIBRARIES, MISSING))


def error_of(source, file):
    with pytest.raises(ImportError) as caught:
        exec(compile(source, str(file), "exec"), {})
    return caught.value


def test_an_import_by_the_tests_is_told_from_one_by_the_package(tmp_path):
    for source in (f"import {MISSING}", f"from {MISSING}.nn import functional"):
        assert libraries.missed_by_tests(error_of(source, libraries.HERE / "a.py")) == MISSING
        assert libraries.missed_by_tests(error_of(source, tmp_path / "thinned.py")) is None
    for source in ("import another_that_nobody_has", "from numpy import what_it_lacks"):
        assert libraries.missed_by_tests(error_of(source, libraries.HERE / "a.py")) is None


def test_what_an_absent_library_has_is_absent_too():
    missing = libraries.library(MISSING)
    assert not isinstance(3, missing.Tensor)
    assert not libraries.is_there(f"{MISSING}.nn")

    class Of(missing.nn.Module):
        """A class of tests whose base is not there."""

    assert Of.__bases__ == (object,)
    with pytest.raises(pytest.skip.Exception, match=f"^{MISSING} is not installed$"):
        missing.nn.Linear(3, 4)


def test_an_installed_library_is_itself():
    import numpy

    assert libraries.library("numpy.linalg") is numpy.linalg
    assert libraries.is_there("thinned.numpy")


FILES = {
    "test_whole.py": "import {missing}\n\ndef test_it():\n    assert False\n",
    "test_partly.py": """from libraries import library
other = library("{missing}")

def test_with():
    assert other.ones(3) is None

def test_inside():
    import {missing}

def test_without():
    pass
""",
    "test_fault.py": "import faulty\n",
}


@pytest.fixture
def ran(tmp_path):
    """pytest over made up tests with this conftest, where folders have the names of libraries."""
    tests, source = tmp_path / "tests", tmp_path / "src"
    (tests / MISSING).mkdir(parents=True)
    source.mkdir()
    (source / "faulty.py").write_text(f"import {MISSING}\n")
    for name in ("conftest.py", "libraries.py"):
        text = (libraries.HERE / name).read_text(encoding="utf-8")
        (tests / name).write_text(text.replace('"torch", ', f'"torch", "{MISSING}", '))
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["src"]\n')
    for name, text in FILES.items():
        (tests / name).write_text(text.format(missing=MISSING))

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_run_names_what_it_skips_and_fails_for_what_the_package_wants(ran):
    code, said = ran("tests/test_whole.py", "tests/test_partly.py")
    assert code == 0, said
    assert f"tests/test_whole.py: {MISSING} is not installed" in said
    assert f"tests/test_partly.py::test_inside: {MISSING} is not installed" in said
    assert "1 passed, 3 skipped" in said
    assert f"not installed, and skipped: {MISSING}" in said.replace("torch, ", "")
    code, said = ran("tests/test_fault.py")
    assert code != 0
    assert f"No module named '{MISSING}'" in said


def test_a_library_that_must_be_there_ends_the_run(ran):
    absent = libraries.absent()
    others = ",".join(name for name in absent if name != MISSING)
    code, said = ran("--may-lack", others, "tests/test_partly.py")
    assert code == 4, said
    assert f"the tests need what is not installed: {MISSING}\n" in said
    code, said = ran("--may-lack", ",".join(absent), "tests/test_partly.py")
    assert code == 0, said
