"""Install the release on several Pythons without a network, as one does from a folder of wheels.

    python wheels/check_offline.py [--folder DIR] python3.11 python3.12 python3.13

Makes the source distribution, and for each Python fills a folder with its dependencies and build
tools; that alone needs a network. Then, with --no-index: a wheel is built from the source
distribution in isolation and goes into an empty environment, where check_installed.py runs, and in
a second one pip installs the source distribution itself. Linux and macOS.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from wheels.check_wheel import ROOT, clean_copy, only, require, run

NEEDED = ("numpy>=1.26", "array-api-compat>=1.11")
TOOLS = ("scikit-build-core>=0.11", "nanobind>=2.4", "cmake", "ninja")
CHECK = ROOT / "wheels" / "check_installed.py"
VECTORS = ROOT / "tests" / "data" / "mask_vectors.json"


def sources(work: Path) -> Path:
    """The source distribution, made from what git knows."""
    copy, built = work / "copy", work / "sdist"
    copy.mkdir()
    clean_copy(copy)
    build = (sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", built, copy)
    run(*build, cwd=work)
    return only(built, "*.tar.gz")


def environment(python: str, place: Path) -> Path:
    """An empty environment's Python."""
    run(python, "-m", "venv", place, cwd=place.parent)
    return place / "bin" / "python"


def check(python: str, sdist: Path, work: Path, folder: Path) -> str:
    """Both installations on one Python; what check_installed.py said last."""
    work.mkdir()
    folder.mkdir(parents=True, exist_ok=True)
    maker = environment(python, work / "maker")
    pip = (maker, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "download", "-q", "--dest", folder, *NEEDED, *TOOLS, cwd=work)
    offline = ("-q", "--no-index", "--find-links", folder)
    run(*pip, "wheel", *offline, "--no-deps", "--wheel-dir", work / "wheel", sdist, cwd=work)
    said: list[str] = []
    for what in (only(work / "wheel", "thinned-*.whl"), sdist):
        empty = environment(python, work / f"empty{len(said)}")
        run(empty, "-m", "pip", "install", *offline, what, cwd=work)
        said.append(run(empty, CHECK, VECTORS, cwd=work).splitlines()[-1])
        helped = run(empty, "-m", "thinned", "--version", cwd=work)
        require(sdist.name.removesuffix(".tar.gz").split("-")[1] in helped, helped)
    require(said[0] == said[1], f"the wheel says {said[0]!r}, the sources {said[1]!r}")
    return said[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--folder", type=Path, help="keep the folders that pip installs from")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thinned-offline-") as place:
        work = Path(place)
        sdist = sources(work)
        for number, python in enumerate(chosen.pythons):
            own = (chosen.folder or work).resolve() / f"from{number}"
            print(check(python, sdist, work / f"python{number}", own), flush=True)


if __name__ == "__main__":
    main()
