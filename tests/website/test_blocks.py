"""The Python of pages that are no notebooks runs in its order; error messages are what is said."""

import re
from pathlib import Path

import numpy as np
import pytest
from libraries import needs

import thinned

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("README.md", 1),
        ("use/start.md", 1),
        pytest.param("use/migrate.md", 5, marks=needs("torch")),
    ],
)
def test_the_blocks_of_a_page_run_in_their_order(page, count):
    found = blocks(page)
    assert len(found) == count
    names = {}
    for block in found:
        exec(compile(block, page, "exec"), names)


AT = thinned.Address()
SAID = {
    "dropout: 'keep_prob' is no argument": lambda: thinned.dropout(
        np.ones(3), keep_prob=0.5, at=AT
    ),
    "dropout: 'seed' is no argument": lambda: thinned.dropout(np.ones(3), 0.5, seed=1),
    "at must be a thinned.Address, got nothing": lambda: thinned.dropout(np.ones(3), 0.5),
    "module 'thinned' has no attribute 'Dropout'": lambda: thinned.Dropout,
    "p must be a float in [0, 1], got 20": lambda: thinned.dropout(np.ones(3), 20, AT),
    "x must be of type float16, bfloat16, float32 or float64": lambda: thinned.dropout(
        np.ones(3, int), 0.5, AT
    ),
}


@pytest.mark.parametrize("sentence", SAID)
def test_an_error_message_of_the_page_is_one(sentence):
    page = (DOCS / "look" / "troubleshooting.md").read_text(encoding="utf-8")
    assert sentence in page
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        SAID[sentence]()
    assert sentence in str(caught.value)
