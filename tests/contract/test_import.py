"""A bare import loads NumPy and nothing else; what is loaded later is there when asked for."""

import subprocess
import sys

import pytest

import thinned

FRAMEWORKS = (
    "torch",
    "jax",
    "sklearn",
    "pandas",
    "matplotlib",
    "pyarrow",
    "scipy",
    "safetensors",
    "typer",
    "rich",
    "ml_dtypes",
)
LIGHT = ("classic", "numpy")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def loaded_after(code):
    return run(f"{code}\nimport sys\nprint(*(m for m in {FRAMEWORKS} if m in sys.modules))")


def test_a_bare_import_loads_no_framework():
    assert loaded_after("import thinned") == []


def test_a_bare_import_loads_no_room_of_its_own():
    later = ["thinned.classic", "thinned.numpy", "thinned.estimators", "thinned.cli.main"]
    code = f"import sys, thinned\nprint(*(m for m in {later} if m in sys.modules))"
    assert run(code) == []


def test_drawing_loads_no_framework():
    code = "import numpy, thinned; thinned.dropout(numpy.ones(3), 0.5, thinned.Address())"
    assert loaded_after(code) == []


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_rooms_load_no_framework(name):
    assert loaded_after(f"import thinned; thinned.{name}") == []


@pytest.mark.parametrize("name", thinned.__all__)
def test_public_names_are_there(name):
    assert getattr(thinned, name) is not None
    assert name in dir(thinned)


def test_star_gives_the_public_names():
    names = run("from thinned import *\nprint(*sorted(n for n in dir() if n[0] != '_'))")
    assert names == sorted(thinned.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'thinned' has no attribute 'drop_out'$"):
        _ = thinned.drop_out
