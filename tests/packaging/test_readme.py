"""README.md: its blocks run, the paths that it names exist, its counts are those of the tables."""

import doctest
import re
import warnings
from pathlib import Path

import pytest
from libraries import is_there

from thinned.audit import RULES
from thinned.methods import every

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
# How far "some sixty" may be from sixty.
ROUGHLY = 0.2


def tree(text=README):
    """The paths of the section Files, from the root. An indented line lies in the one above it."""
    section = text.partition("## Files\n\n")[2].partition("\n\n")[0]
    above = ""
    for line in section.splitlines():
        names = re.split(r" {2,}", line.strip())
        inner = line.startswith(" " * 8)
        above = above if inner else names[0]
        for name in names:
            if re.fullmatch(r"[\w/]+/|\w+\.py", name):
                yield above + name if inner else name


def test_every_path_of_the_tree_exists():
    assert len(set(tree())) > 20
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_every_folder_of_the_package_is_named():
    folders = {
        f"src/thinned/{path.parent.name}/" for path in ROOT.glob("src/thinned/*/__init__.py")
    }
    assert folders - set(tree()) == set()


def test_a_path_that_is_gone_is_read():
    """A name beside another one, one that is indented, and one that is not."""
    text = "## Files\n\n    src/thinned/\n        laws.py  attic/     old\n    cellar/   older\n\n"
    assert list(tree(text)) == [
        "src/thinned/",
        "src/thinned/laws.py",
        "src/thinned/attic/",
        "cellar/",
    ]


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_number_of_methods():
    assert README.count("sixty") == 2
    assert len(every()) == pytest.approx(60, rel=ROUGHLY)


def test_the_number_of_mistakes():
    """Those that the sentence names are not among the other ones."""
    (named,) = re.findall(r"It finds (.*?), and some forty other mistakes", README, flags=re.S)
    others = len(RULES) - 1 - len(named.split(", "))
    assert others == pytest.approx(40, rel=ROUGHLY)


def test_the_blocks_are_found():
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs_alone(block):
    """As it is pasted: it has its own imports, and no name of a block before it."""
    for library in ("torch", "jax", "sklearn"):
        imported = re.search(rf"^(import|from) {library}\b", block, flags=re.MULTILINE)
        if imported and not is_there(library):
            pytest.skip(f"{library} is not installed")
    examples = doctest.DocTestParser().get_examples(block)
    if examples:
        test = doctest.DocTest(examples, {}, "README.md", "README.md", 0, block)
        assert doctest.DocTestRunner().run(test).failed == 0
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*max_iter")  # 30 epochs are enough to show it
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
