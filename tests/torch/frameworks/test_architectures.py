"""Architectures of transformers, chosen for variety: all that the zoo tries on every one."""

import os

import pytest
from libraries import needs

# Encoders, decoders, both; pictures, sound, both with text; experts, state spaces, windows, layers
# that are skipped.
CHOSEN = {
    "bert": 9, "deberta-v2": 7, "distilbert": 7, "layoutlm": 9, "big_bird": 7,
    "gpt2": 9, "opt": 4, "llama": 2, "gemma2": 2, "mistral": 2, "qwen3": 2, "mixtral": 2,
    "bamba": 1, "t5": 22, "bart": 12, "whisper": 12, "switch_transformers": 50,
    "vit": 5, "swin": 25, "convnext": 0, "falcon": 6, "clip": 4, "wav2vec2": 10,
    "perceiver": 3, "yolos": 7,
}  # fmt: skip
COMPILED = ("bert", "llama")

pytestmark = [
    needs("transformers"),
    # What transformers and PyTorch warn of in each other is theirs.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def zoo():
    """Imported by the first test: it takes seconds."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from zoo import architectures

    return architectures


@pytest.mark.parametrize("name", CHOSEN)
def test_what_adoption_promises_holds(zoo, name):
    from zoo.page import faults_of
    from zoo.trial import tried

    subject = zoo.subjects(name)[0]
    row = tried(subject, compiled=name in COMPILED)
    assert row["drops"] == "yes"
    assert row["adopted"] == "yes"
    assert faults_of(row) == []
    assert row["sites"] >= CHOSEN[name]
    assert row["replayed"] == "yes"
