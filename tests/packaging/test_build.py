"""What somebody reads whose build or installation cannot work."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A release that is not there yet: it is found as PyTorch is, and its headers do not compile.
TORCH = """
class _C:
    _GLIBCXX_USE_CXX11_ABI = True
"""

# Asks for the kernel while the compiled module does not load, for a reason of the system's own.
UNLOADABLE = """
import sys
from importlib.abc import MetaPathFinder

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "thinned._native":
            raise ImportError("libstdc++.so.6: cannot open shared object file")

sys.meta_path.insert(0, Broken())
import thinned
thinned.kernel_info()
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


def configured(tmp_path, site):
    """What CMake says of a build beside the packages in `site`, and the files it would install."""
    cmake, nanobind = pytest.importorskip("cmake"), pytest.importorskip("nanobind")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = [
        Path(cmake.CMAKE_BIN_DIR) / "cmake",
        *("-G", "Ninja", "-S", ROOT, "-B", tmp_path / "build"),
        f"-DCMAKE_MAKE_PROGRAM={Path(sys.executable).parent / 'ninja'}",
        f"-Dnanobind_DIR={nanobind.cmake_dir()}",
        f"-DPython_EXECUTABLE={python}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    installs = (tmp_path / "build" / "cmake_install.cmake").read_text(encoding="utf-8")
    return done, installs


def a_torch(site, release, header):
    """A package named torch of this release, whose headers begin with `header`."""
    (site / f"torch-{release}.dist-info").mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: torch\nVersion: {release}\n"
    (site / f"torch-{release}.dist-info" / "METADATA").write_text(metadata)
    include = site / "torch" / "include" / "ATen"
    include.mkdir(parents=True)
    (include / "CPUGeneratorImpl.h").write_text(header)
    (site / "torch" / "__init__.py").write_text(TORCH)
    return site


def test_headers_that_do_not_compile_cost_the_compiled_part_and_not_the_installation(tmp_path):
    site = a_torch(tmp_path / "site", "2.99.0", "#error not the headers that it was written for\n")
    done, installs = configured(tmp_path, site)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "Thinned without its compiled part for PyTorch" in said
    assert "dropout works all the same, and a call on a small tensor takes some 15" in said
    assert "not the headers that it was written for" in said
    assert "_native" in installs
    assert "_torch_2_99" not in installs


@pytest.mark.parametrize(
    ("release", "module", "reason"),
    [
        ("2.12.1", TORCH, "it is for PyTorch 2.13 and newer, and here is 2.12.1"),
        ("2.99.0", "raise OSError('libcudart')", "PyTorch 2.99.0 does not load (libcudart)"),
    ],
)
def test_a_torch_that_the_part_cannot_be_built_for_is_named(tmp_path, release, module, reason):
    site = a_torch(tmp_path / "site", release, "")
    (site / "torch" / "__init__.py").write_text(module)
    done, installs = configured(tmp_path, site)
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert f"_torch_{release.rpartition('.')[0].replace('.', '_')}" not in installs


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
