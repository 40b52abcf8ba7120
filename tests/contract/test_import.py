"""A bare import loads no row and no kernel; what is loaded later is there when asked for."""

import inspect
import subprocess
import sys
from pkgutil import iter_modules

import pytest
from libraries import needs

import thinned
from thinned import methods
from thinned.methods.table import Method

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


def rooms_after(code):
    """The files of thinned.methods that are loaded then."""
    ends = "print(*(m.removeprefix(r) for m in sys.modules if m.startswith(r)))"
    return sorted(run(f"{code}\nimport sys\nr = 'thinned.methods.'\n{ends}"))


def test_a_bare_import_loads_no_row_and_no_kernel():
    assert rooms_after("import thinned") == []
    later = ["numpy", "array_api_compat", "thinned._native", "thinned.kernel", "thinned.backends"]
    code = f"import sys, thinned\nprint(*(m for m in {later} if m in sys.modules))"
    assert run(code) == []


def test_a_method_loads_its_own_file_alone():
    under_all = ["arguments", "draws", "equation", "placing", "table"]
    assert rooms_after("import thinned; thinned.dropout") == sorted(["bernoulli", *under_all])
    again = rooms_after("from thinned.methods import dropout")
    assert again == rooms_after("from thinned.methods.bernoulli import dropout")


def test_a_bare_address_loads_no_kernel():
    code = "import sys, thinned\nthinned.Address(seed=0, site='a'), thinned.Window(3)"
    assert run(f"{code}\nprint(*(m for m in ['thinned._native'] if m in sys.modules))") == []


def test_the_table_of_rows_loads_them_all():
    code = "from thinned.methods import every\nevery()"
    files = {found.name for found in iter_modules(methods.__path__)}
    assert files <= {name.partition(".")[0] for name in rooms_after(code)}


def test_a_name_is_looked_up_once():
    code = "import thinned; thinned.{0}; print('{0}' in vars(thinned), '{0}' in vars({1}))"
    assert run(code.format("dropout", "thinned.methods")) == ["True", "True"]
    assert run(code.format("Address", "thinned")) == ["True", "True"]


def test_every_method_is_asked_of_the_file_that_defines_it():
    placed = {name: f"thinned.methods.{f}" for f, names in methods._FILES.items() for name in names}
    assert sorted(placed) == methods.__all__
    assert placed == {name: getattr(methods, name).__module__ for name in methods.__all__}


def test_checkers_are_told_of_the_names_that_run():
    told = inspect.getsource(methods).partition("if TYPE_CHECKING:")[2].partition("\n# What")[0]
    names = {}
    exec(inspect.cleandoc(told.partition("\n")[2]), names)
    assert {name: names[name] for name in methods.__all__} == {
        name: getattr(methods, name) for name in methods.__all__
    }
    assert names["Method"] is Method is methods.Method


def test_files_are_attributes_after_a_bare_import():
    """Those that a bare import used to load, and so have always been attributes."""
    files = [f"methods.{found.name}" for found in iter_modules(methods.__path__)]
    files += ["address", "backends", "checks", "kernel", "laws", "reference", "window"]
    asked = [f"thinned.{file}.__name__" for file in files]
    # The last first, so that none is there because another one has loaded it.
    assert run(f"import thinned\nprint({', '.join(reversed(asked))})") == [
        f"thinned.{file}" for file in reversed(files)
    ]


def test_drawing_loads_no_framework():
    code = "import numpy, thinned; thinned.dropout(numpy.ones(3), 0.5, thinned.Address())"
    assert loaded_after(code) == []


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_rooms_load_no_framework(name):
    assert loaded_after(f"import thinned; thinned.{name}") == []


def test_names_are_shown_before_they_are_loaded():
    shown = run("import thinned\nprint(*dir(thinned), '|', *dir(thinned.methods))")
    parting = shown.index("|")
    assert set(shown[:parting]) >= set(thinned.__all__)
    assert set(shown[parting:]) >= {*methods.__all__, "every", "find", "Method", "LEFT_OUT"}


NAMES = [
    pytest.param(name, marks=needs(name)) if name in ("torch", "jax") else name
    for name in thinned.__all__
]


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_there(name):
    assert getattr(thinned, name) is not None
    assert name in dir(thinned)


@needs("torch")
@needs("jax")
def test_star_gives_the_public_names():
    names = run("from thinned import *\nprint(*sorted(n for n in dir() if n[0] != '_'))")
    assert names == sorted(thinned.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'thinned' has no attribute 'drop_out'\."):
        _ = thinned.drop_out


def test_an_unknown_method_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'thinned.methods' has no .* 'drop_out'$"):
        _ = methods.drop_out
    with pytest.raises(ImportError, match=r"^cannot import name 'drop_out' from"):
        from thinned.methods import drop_out  # noqa: F401
