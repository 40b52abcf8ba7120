"""The API reference: every public name has an entry."""

import inspect
import zlib
from importlib import import_module

import pytest

MODULES = (
    "thinned",
    "thinned.classic",
    "thinned.audit",
    "thinned.jax",
    "thinned.jax.equinox",
    "thinned.jax.haiku",
    "thinned.jax.linen",
    "thinned.jax.nnx",
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
def test_every_public_name_has_an_entry(module, entries):
    room = import_module(module)
    names = [name for name in room.__all__ if not inspect.ismodule(getattr(room, name))]
    assert names
    assert [name for name in names if f"{module}.{name}" not in entries] == []


def test_a_name_without_an_entry_is_seen(entries):
    assert "thinned.dropout" in entries
    assert "thinned.no_such_name" not in entries
