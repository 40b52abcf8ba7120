"""The page that draws masks: each picture is the mask of the call that stands below it."""

from urllib.parse import urlencode

import numpy as np
import pytest

METHODS = (
    "dropout",
    "batch",
    "spatial_dropout",
    "drop_path",
    "locked_dropout",
    "stochastic_depth",
    "attention_dropout",
    "drop_node",
    "embedding_dropout",
    "word_dropout",
    "k_of_n_dropout",
)
OTHERS = (
    {"seed": 2**64 - 1, "site": 4294967295, "step": 2**32 - 2, "call": 65535, "p": 0.3},
    {"shape": "40", "p": 1},
    {"shape": "2,3,4,5", "shared": "1,3", "p": 0.25, "seed": 12345678901234567890},
    {"shape": "4,7", "start": 3, "p": 0.4, "mirror": 1},
    {"site": "näive.层", "p": 0.8},
)


def drawn(browser, folder, fields):
    """The mask that the page shows, as text of 0 and 1, and the call that it names."""
    browser.open(f"{(folder / 'draw.html').as_uri()}#{urlencode(fields)}")
    keep, code = browser.run(
        "[document.getElementById('draw-out').dataset.keep ?? null,"
        " document.getElementById('draw-python').textContent]"
    )
    return keep, code


def agree(keep, code):
    names = {}
    exec(code, names)
    np.testing.assert_array_equal(
        np.array([bit == "1" for bit in keep]), np.asarray(names["mask"]).ravel()
    )


def test_the_methods_are_those_of_the_page(site, browser):
    browser.open((site / "draw.html").as_uri())
    given = browser.run("[...document.getElementById('draw-method').options].map(o => o.value)")
    assert tuple(given) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_picture_is_the_mask_of_its_call(method, site, browser):
    keep, code = drawn(browser, site, {"method": method, "p": 0.4, "step": 3})
    agree(keep, code)
    assert set(keep) <= {"0", "1"}


@pytest.mark.parametrize("fields", OTHERS, ids=str)
def test_a_picture_is_the_mask_of_its_call(fields, site, browser):
    keep, code = drawn(browser, site, fields)
    agree(keep, code)
    squares = browser.run("document.querySelectorAll('#draw-grid rect.kept').length")
    assert squares == keep.count("1")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"seed": 2**64}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"step": 2**32 - 1}, "step"),
        ({"shape": "100,100"}, "shape"),
        ({"shape": "-3"}, "shape"),
        ({"shared": "2"}, "shared axes"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(fields, word, site, browser):
    keep, _ = drawn(browser, site, fields)
    assert keep is None
    assert word in browser.run("document.getElementById('draw-error').textContent")


def test_a_change_of_a_field_is_drawn(site, browser):
    before, _ = drawn(browser, site, {"p": 0.5})
    browser.run(
        "(() => { const field = document.getElementById('draw-step'); field.value = 8;"
        " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    keep, code = browser.run(
        "[document.getElementById('draw-out').dataset.keep,"
        " document.getElementById('draw-python').textContent]"
    )
    assert keep != before
    agree(keep, code)
