"""Check that a tag may become a release, and that what was built for it is whole.

    python wheels/check_release.py v1.2.3 [--dist DIR]

The tag must be the version of the package and of CITATION.cff, and CHANGELOG.md must have a dated
section of that version. With --dist: DIR must hold the source distribution of that version, a wheel
of it for each Python that pyproject.toml names and each system, and nothing else.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# How the platform tag of a wheel begins and ends on each system that wheels.yml builds on.
SYSTEMS = (
    ("manylinux", "x86_64"),
    ("manylinux", "aarch64"),
    ("macosx", "x86_64"),
    ("macosx", "arm64"),
    ("win", "amd64"),
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def stated(pattern: str, name: str) -> str:
    """The one version that a file states."""
    (version,) = re.findall(pattern, read(name), flags=re.M)
    return str(version)


def wrong_of_tag(tag: str) -> Iterator[str]:
    """What speaks against this tag, one sentence each."""
    version = stated(r'^__version__ = "(.+)"$', "src/thinned/version.py")
    if tag != f"v{version}":
        yield f"the tag is {tag}, and thinned.__version__ is {version}"
    cited = stated(r"^version: (.+)$", "CITATION.cff")
    if cited != version:
        yield f"CITATION.cff has version {cited}, and thinned.__version__ is {version}"
    section = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$"
    if not re.search(section, read("CHANGELOG.md"), flags=re.M):
        yield f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'"


def pythons() -> list[str]:
    """cp311, ..., cp314t: what wheels are built for."""
    built = tomllib.loads(read("pyproject.toml"))["tool"]["cibuildwheel"]["build"]
    return [str(name).removesuffix("-*") for name in built]


def is_for(file: str, version: str, python: str, system: tuple[str, str]) -> bool:
    interpreter = python.removesuffix("t")
    first, last = map(re.escape, system)
    name = rf"thinned-{re.escape(version)}-{interpreter}-{python}-{first}[\w.]*{last}\.whl"
    return re.fullmatch(name, file) is not None


def wrong_of_files(files: set[str], version: str) -> Iterator[str]:
    """What is missing among the files to publish, and what is too many."""
    sources = f"thinned-{version}.tar.gz"
    known = {sources} & files
    if not known:
        yield f"{sources} is missing"
    for python, system in product(pythons(), SYSTEMS):
        found = {file for file in files if is_for(file, version, python, system)}
        known |= found
        if len(found) != 1:
            yield f"there are {len(found)} wheels, not one, for {python} on {' '.join(system)}"
    for file in sorted(files - known):
        yield f"{file} is no part of this release"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tag")
    parser.add_argument("--dist", type=Path, metavar="DIR", help="check what was built, too")
    chosen = parser.parse_args()
    wrong = list(wrong_of_tag(chosen.tag))
    if chosen.dist is not None:
        files = {file.name for file in chosen.dist.iterdir()}
        wrong += wrong_of_files(files, chosen.tag.removeprefix("v"))
    if wrong:
        sys.exit("\n".join(f"check_release: {sentence}." for sentence in wrong))
    print(f"{chosen.tag} may be released.")


if __name__ == "__main__":
    main()
