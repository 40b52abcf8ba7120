"""Names from JAX's inside: without one of them its feature is lost, and not the import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import thinned
from thinned.backends.jax import internals

ROOT = Path(thinned.__file__).parent

# The name is looked for under another one, as if this JAX had renamed it; JAX itself keeps it.
SCRIPT = """
import importlib.util, sys, warnings
import jax, numpy, thinned
spec = importlib.util.find_spec("thinned.backends.jax.internals")
source = open(spec.origin, encoding="utf-8").read().replace(sys.argv[1], sys.argv[1] + "_renamed")
room = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = room
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    exec(compile(source, spec.origin, "exec"), room.__dict__)
    at = thinned.Address(seed=1, site="a")
    y = thinned.dropout(jax.numpy.ones((4, 8)), 0.5, at)
assert numpy.array_equal(y != 0, thinned.keep_mask((4, 8), 0.5, at))
print(*[str(one.message) for one in said], sep="\\n")
"""


@pytest.mark.parametrize("name", sorted(internals.NAMES))
def test_a_name_that_is_gone_costs_its_feature_and_not_the_import(name):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"has no {name.replace(':', '.')}_renamed, and {internals.NAMES[name]}" in done.stdout


def test_names_without_a_promise_stand_in_one_file():
    hits = [
        path.name
        for path in ROOT.rglob("*.py")
        if re.search(r"^\s*(from|import) jax\._src|jax\._src\.\w+\(", path.read_text("utf-8"), re.M)
    ]
    assert hits == []
