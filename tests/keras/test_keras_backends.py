"""Everything of thinned.keras on every backend of Keras: each in a process of its own, for one
process has one of them.

The tests themselves are those in `inside/`. Where a backend's library is absent its tests are
skipped; TensorFlow's wheel is too large for every machine to have it.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from libraries import is_there, needs, reason

import thinned

ROOT = Path(__file__).parents[2]
BACKENDS = ("numpy", "jax", "torch", "tensorflow")
MODELS = (
    "functional", "sequential", "nested", "subclassed", "recurrent", "attention", "convolutional",
)  # fmt: skip
LONG = {
    "numpy": (),
    "jax": ("by_address", "adopted", "keras_own", "operations"),
    "torch": ("by_address", "keras_own", "operations"),
    "tensorflow": ("by_address", "keras_own"),
}
pytestmark = needs("keras")


def ran(backend, name, out):
    """A file of `inside` on a backend: the exit status, and what was said."""
    # Keras warns of its own arrays and of models without weights: its warnings are no errors here.
    asked = [f"tests/keras/inside/{name}.py", "-q", "-n0", "-o", "filterwarnings=default"]
    paths = [str(Path(thinned.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "THINNED_KERAS_OUT": str(out),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


# On NumPy these take seconds; where each operation is compiled, a minute.
CASES = [
    pytest.param(backend, name, marks=[pytest.mark.long] if name in LONG[backend] else [])
    for backend in BACKENDS
    for name in ("by_address", "adopted", "keras_own", "operations")
]


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_on(backend, name, out):
    if not is_there(backend):
        pytest.skip(reason(backend))
    status, said = ran(backend, name, out)
    assert status == 0, said
    assert " passed" in said


def test_one_mask_on_all_backends(out):
    """The outputs that the models of `inside/adopted.py` left: at equal weights, three calls in
    training each, equal to the rounding of the libraries' own products.

    A mask that differed in one element would change them by far more.
    """
    there = [b for b in BACKENDS if is_there(b) and "adopted" not in LONG[b]]
    for backend in there:  # which another process may have had
        if not (out / f"{backend}-functional.npy").exists():
            status, said = ran(backend, "adopted", out)
            assert status == 0, said
    there = [b for b in BACKENDS if (out / f"{b}-functional.npy").exists()]
    if len(there) < 2:
        pytest.skip("one of Keras's backends alone is installed")
    for model in MODELS:
        first, *others = (np.load(out / f"{backend}-{model}.npy") for backend in there)
        assert np.abs(first[0] - first[1]).max() > 1e-2  # what another mask changes
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-4)
