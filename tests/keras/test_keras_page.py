"""The page on Keras says what happens."""

import os
import subprocess
import sys
from pathlib import Path

from libraries import needs

import thinned

ROOT = Path(__file__).parents[2]
PROGRAM = """
import doctest
result = doctest.testfile("docs/keras.md", module_relative=False)
assert result.attempted > 20
assert result.failed == 0
"""


@needs("keras")
def test_the_page():
    """With Keras on NumPy, in a process of its own, for another has chosen another backend."""
    paths = [str(Path(thinned.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {"KERAS_BACKEND": "numpy", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
