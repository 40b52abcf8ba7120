"""The examples in docstrings and in the page of the spec run and give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import examples_of
import pytest
from libraries import needs

ROOT = Path(__file__).parents[2]
MODULES = [
    "thinned.address",
    "thinned.window",
    "thinned.kernel",
    "thinned.methods.bernoulli",
    "thinned.methods.alpha",
    "thinned.methods.recurrent",
    pytest.param("thinned.torch.rnn.networks", marks=needs("torch")),
    "thinned.methods.concrete",
    pytest.param("thinned.torch.layers.weights", marks=needs("torch")),
    "thinned.classic",
]
PAGES = ["docs/mask-spec.md"]


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    failed, tried = examples_of.run(import_module(name))
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_page(page):
    failed, tried = doctest.testfile(str(ROOT / page), module_relative=False, encoding="utf-8")
    assert tried > 0
    assert failed == 0
