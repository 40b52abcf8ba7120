"""Which imported files are worth parsing, from their text."""

import pytest

from thinned.audit import audit, tree
from thinned.audit.outline import Outline

TEXT = b'''"""Of a project.

import this
"""
import logging
from torch import nn
from .other import Base, helper as made

LOG = logging.getLogger(__name__)
RATE = 0.5
TABLE = {"a": 1}


def name_of(x):
    return str(x)


def through(x):
    return _deep(x)


def _deep(x):
    return thrown(x, "dropout")


@some.decorator(
    what="training"
)
def decorated(x):
    return x


class Plain:
    def dot(self):
        return through(self)


class Net(nn.Module):
    pass


class Mine(Base):
    pass


try:
    import apex
except ImportError:
    apex = None
'''


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("LOG", False), ("TABLE", False), ("name_of", False), ("Plain", False)),
        *(("RATE", True), ("through", True), ("_deep", True), ("decorated", True), ("Net", True)),
        *(("Mine", False), ("apex", True), ("nothing", False), ("", True)),
    ],
)
def test_what_may_matter(name, expected):
    assert Outline(TEXT).may_matter(name) is expected


def test_where_imports_lead():
    outline = Outline(TEXT)
    assert outline.origin("made") == (1, "other.helper")
    assert outline.origin("nn") == (0, "torch.nn")
    assert outline.origin("logging") == (0, "logging")
    assert outline.origin("Net") is None
    assert outline.bases("Mine") == ["Base"]
    assert outline.bases("Net") == ["nn"]


def test_names_that_use_each_other():
    assert not Outline(b"def a():\n    b()\n\n\ndef b():\n    a()\n").may_matter("a")


def test_only_files_that_matter_are_parsed(tmp_path, monkeypatch):
    """Through a package that imports them once more; and what matters is found there."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("from .drop import thin\nfrom .text import shout\n")
    (tmp_path / "lib/drop.py").write_text(
        "import torch.nn.functional as F\ndef thin(x, mode):\n    return F.dropout(x, 0.5, mode)\n"
    )
    (tmp_path / "lib/text.py").write_text("def shout(s):\n    return s.upper()\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom lib import shout, thin\n\n\nclass Net(nn.Module):\n"
        "    def forward(self, x, drop=1):\n        print(shout('a'))\n"
        "        return thin(x, not self.training)\n"
    )
    read = []
    parse = tree.parse
    monkeypatch.setattr(tree, "parse", lambda data: read.append(data) or parse(data))
    found = audit([str(tmp_path / "net.py")]).findings
    assert [(f.code, f.line) for f in found] == [("THN013", 8)]
    assert not any(b"upper" in data for data in read)
    assert any(b"F.dropout" in data for data in read)
