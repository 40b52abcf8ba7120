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
    "x must be a batch of maps, (N, C, ...)": lambda: thinned.drop_block(np.ones(3), 0.5, AT),
    "an axis in shared_axes must be an integer in": lambda: thinned.dropout(
        np.ones(3), 0.5, AT, shared_axes=4
    ),
    "Pass probabilities, not logits": lambda: (
        thinned.members.calibration.expected_calibration_error(np.ones((2, 2)), np.zeros(2, int))
    ),
}


def model():
    from torch import nn

    return nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 2))


def without_the_mode():
    import torch

    thinned.torch.functional.dropout(torch.ones(3), 0.5)


def twice():
    ours = model()
    thinned.torch.adopt(ours)
    thinned.torch.adopt(ours)


def scheduled(pattern):
    early = thinned.schedules.early(0.1, until=0.2)
    thinned.torch.adopt(model(), schedule={pattern: early})


SAID_OF_MODELS = {
    "training must be given": without_the_mode,
    "the model, a Sequential, is adopted already": twice,
    "member: model must be a thin model": lambda: thinned.torch.member(model(), 3),
    "no dropout of the model can run thin": lambda: thinned.torch.thin(model()[:2]),
    "schedule of 'blocks.*' matches no site": lambda: scheduled("blocks.*"),
    "is relative to the number of all training steps": lambda: scheduled("*"),
    "the model has no dropout to adopt": lambda: thinned.torch.adopt(model()[:1]),
}


@pytest.mark.parametrize("sentence", SAID)
def test_an_error_message_of_the_page_is_one(sentence):
    said(sentence, SAID[sentence])


@needs("torch")
@pytest.mark.parametrize("sentence", SAID_OF_MODELS)
def test_an_error_message_about_a_model_is_one(sentence):
    said(sentence, SAID_OF_MODELS[sentence])


def said(sentence, go):
    page = (DOCS / "look" / "troubleshooting.md").read_text(encoding="utf-8")
    assert sentence in page
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        go()
    assert sentence in str(caught.value)
