"""What the methods' pages show beside the row: programs that run, and typeset formulas."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from libraries import needs

from docs.methods import programs
from thinned.methods import every, find

ROOT = Path(__file__).parents[2]
ROWS = [row.name for row in every()]
FORMULAS = tomllib.loads((ROOT / "docs/methods/formulas.toml").read_text(encoding="utf-8"))
CASES = [
    pytest.param(name, library, marks=() if library == "NumPy" else needs(library.lower()))
    for library, name in ((x, n) for x in ("NumPy", "JAX") for n in ROWS)
] + [pytest.param(name, "PyTorch", marks=needs("torch")) for name in ROWS]


@pytest.mark.one_in(9)
@pytest.mark.parametrize(("name", "library"), CASES)
def test_a_program_of_a_page_runs(name, library):
    program = programs.program(find(name), library)
    assert "thinned." in program
    assert max(map(len, program.split("\n"))) <= programs.MOST
    exec(compile(program, f"{name} in {library}", "exec"), {})


RUN = """
from docs.methods import programs
from thinned.methods import every
for row in every():
    exec(compile(programs.program(row, "Keras"), row.name, "exec"), {})
"""


@needs("keras")
@pytest.mark.long
def test_the_programs_for_keras_run():
    """In a process of their own, since Keras takes its backend where it is imported."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# What sets a formula in LaTeX, and is no letter of it.
LAYOUT = re.compile(
    r"\\(?:frac|left|right|text|sim|quad|top|lvert|rvert|vert|le|ge)(?![A-Za-z])|\\[,{}_]"
)


def letters(formula):
    """Words, letters and numbers in their order."""
    return re.findall(r"[A-Za-z]+|\d+(?:\.\d+)?|\.\d+", formula)


@pytest.mark.parametrize("name", ROWS)
def test_a_typeset_formula_is_that_of_the_row(name):
    typeset = LAYOUT.sub(lambda m: "_" if m[0] == r"\_" else " ", " ".join(FORMULAS[name]))
    assert letters(typeset) == letters(find(name).formula)


@needs("sphinx")
@pytest.mark.parametrize("name", ROWS)
def test_the_site_can_show_a_formula(name):
    from docutils.utils.math.latex2mathml import tex2mathml

    for display in FORMULAS[name]:
        assert tex2mathml(display, as_block=True).startswith("<math")


def test_there_is_no_formula_of_an_unknown_row():
    assert set(FORMULAS) == set(ROWS)
