"""Architectures of transformers, chosen for variety: all that the zoo tries on every one."""

import os

import numpy as np
import pytest
import torch
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


def test_timesformer_takes_class_tokens_from_the_frames_of_the_first_row_and_is_told(zoo):
    from thinned.members import predict
    from thinned.torch import set_p

    (subject,) = zoo.subjects("timesformer")
    model, how = subject.model, {"members": 3, "keep": True, "output": lambda y: y[0]}
    with pytest.raises(RuntimeError, match=r"At 'embeddings\.pos_drop' the.*batch_size=1"):
        predict(model, subject.given, **how)
    assert predict(model, subject.given, batch_size=1, **how).outputs.shape[:2] == (3, 2)
    with set_p(model, "embeddings.pos_drop", 0.0):
        whole, alone = (predict(model, subject.given, batch_size=n, **how) for n in (None, 1))
    np.testing.assert_allclose(alone.outputs, whole.outputs, atol=1e-4)


def test_of_the_losses_of_all_models_only_the_models_own_is_read():
    """transformers has them in one table, and some of them draw."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from thinned.torch import adopt

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32}
    few = {"num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **few, attention_dropout=0.1)).train()
    report, words = adopt(model), torch.arange(16).reshape(2, 8)
    assert report.not_reached == ()
    model(words, labels=words).loss.backward()
    assert report.not_reached == ()
