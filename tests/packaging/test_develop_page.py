"""docs/develop.md: its floors are those that are tested, and the files that it names are there."""

import re
from pathlib import Path

from test_floors import FLOORS, TORCH

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/develop.md").read_text(encoding="utf-8")
# Where a path of the page may begin: at the root, in the package, or in the room just named.
STARTS = (
    *(ROOT / place for place in (".", "src", "src/thinned", "native/pytorch", "docs")),
    *(ROOT / "src/thinned" / room for room in ("torch", "torch/auditing", "backends/jax", "fit")),
)


def floors(after):
    """The picture of floors behind a sentence, from the ground up."""
    picture = PAGE.partition(after)[2].partition("```text\n")[2].partition("\n```")[0]
    return tuple(tuple(line.split()) for line in reversed(picture.splitlines()))


def test_the_floors_are_those_that_are_tested():
    assert floors("## Who may import whom") == FLOORS
    assert floors("Within `torch/`:") == TORCH


def rooms(heading):
    """What the first column of a table names."""
    table = PAGE.partition(f"| in `{heading}` |")[2].partition("\n\n")[0]
    return {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(.+?)`", row.split("|")[1])
    }


def there(folder):
    """The rooms and files of a folder, but for its own door."""
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    return files | {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}


def test_every_room_is_on_the_map_and_no_other():
    assert rooms("src/thinned") == there(ROOT / "src/thinned")
    assert rooms("src/thinned/torch") == there(ROOT / "src/thinned/torch")


def test_every_path_is_there():
    """Those in quotes and those in pictures. NAME, FAMILY and CODE stand for what is added; hidden
    files are in no source distribution."""
    pictures = "".join(re.findall(r"```text\n(.*?)```", PAGE, flags=re.S))
    found = re.findall(r"`([^`\s]+?)`", PAGE) + re.findall(r"[\w/.]+", pictures)
    paths = {
        path
        for path in found
        if re.fullmatch(r"[\w./-]*(/|\.(py|md|txt|toml|yml|cpp))", path) and path.strip("/")
        if not re.search(r"NAME|FAMILY|CODE|^\.", path)
    }
    assert len(paths) > 60
    missing = [path for path in paths if not any((start / path).exists() for start in STARTS)]
    assert sorted(missing) == []
