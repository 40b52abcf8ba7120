"""What somebody reads whose build or installation cannot work."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Whoever imports thinned while its compiled module does not load, for a reason of the system's own.
UNLOADABLE = """
import sys
from importlib.abc import MetaPathFinder

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "thinned._native":
            raise ImportError("libstdc++.so.6: cannot open shared object file")

sys.meta_path.insert(0, Broken())
import thinned
"""


def test_a_build_without_a_compiler_says_so_in_one_sentence(tmp_path):
    cmake = pytest.importorskip("cmake")
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "ninja").symlink_to(Path(sys.executable).parent / "ninja")
    command = [
        Path(cmake.CMAKE_BIN_DIR) / "cmake",
        "-G",
        "Ninja",
        "-S",
        ROOT,
        "-B",
        tmp_path / "build",
    ]
    environment = {k: v for k, v in os.environ.items() if k not in ("CXX", "CXXFLAGS")}
    done = subprocess.run(
        command, env={**environment, "PATH": str(bare)}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert " ".join(done.stderr.split()).endswith(
        "Thinned needs a C++17 compiler, and none was found: install one (Debian: apt install g++) "
        "or name it in the environment variable CXX."
    )


def test_a_compiled_module_that_does_not_load_raises_with_the_reason():
    done = subprocess.run([sys.executable, "-c", UNLOADABLE], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "ImportError: thinned: the compiled module does not load (libstdc++.so.6: cannot open "
        "shared object file). Install thinned again for this Python and processor: nothing slower "
        "takes its place in silence."
    )


def test_the_version_is_stated_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    provider = project["tool"]["scikit-build"]["metadata"]["version"]
    stated = (ROOT / provider["input"]).read_text(encoding="utf-8").count("\n__version__ = ")
    assert stated == 1
