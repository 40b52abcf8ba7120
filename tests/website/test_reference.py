"""The API reference: every public name has an entry."""

import inspect
import re
import zlib
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

MODULES = (
    "thinned",
    "thinned.classic",
    "thinned.audit",
    "thinned.fit",
    "thinned.jax",
    "thinned.jax.equinox",
    "thinned.jax.haiku",
    "thinned.jax.linen",
    "thinned.jax.nnx",
    "thinned.keras",
    "thinned.members",
    "thinned.members.calibration",
    "thinned.methods.classic",
    "thinned.numpy",
    "thinned.reference",
    "thinned.schedules",
    "thinned.testing",
    "thinned.torch",
    "thinned.torch.functional",
    "thinned.torch.fused",
    "thinned.torch.lightning",
    "thinned.torch.transformers",
)


@pytest.fixture(scope="module")
def entries(site):
    """The names of the inventory that other projects' pages link to."""
    data = (site / "objects.inv").read_bytes()
    for _ in range(4):  # the heading
        data = data.partition(b"\n")[2]
    return {line.split(" ", 1)[0] for line in zlib.decompress(data).decode().splitlines()}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_entry(module, entries, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    room = import_module(module)
    names = [name for name in room.__all__ if not inspect.ismodule(getattr(room, name))]
    assert names
    assert [name for name in names if f"{module}.{name}" not in entries] == []


def test_a_name_without_an_entry_is_seen(entries):
    assert "thinned.dropout" in entries
    assert "thinned.no_such_name" not in entries


def test_every_room_that_a_page_imports_from_is_there():
    pages = [page for page in DOCS.rglob("*.md") if page.parent.name != "project"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    # What a page imports from: a public room, or one that it shows from the inside.
    found = set(re.findall(r"^[> ]*from (thinned[\w.]*) import", text, flags=re.MULTILINE))
    assert {"thinned.torch", "thinned.members.calibration"} < found
    inside = {"thinned.fit.cells"}  # to undo what `thinned predict` writes for spreadsheets
    assert found - set(MODULES) - inside == set()
