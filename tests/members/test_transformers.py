"""predict on models of transformers: attention is awake, and nothing else has changed."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from libraries import library
from torch.utils.data import DataLoader

from thinned.members import predict
from thinned.torch import adopt

transformers = library("transformers")

SMALL = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_size": 16,
}
IDS = torch.randint(3, 90, (6, 7), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([7, 5, 7, 3, 4, 7])
MASK = (torch.arange(7) < LENGTHS[:, None]).long()
IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def bert(kind, hidden, attention, labels=3, **how):
    config = transformers.BertConfig(
        vocab_size=99, max_position_embeddings=32, hidden_dropout_prob=hidden,
        attention_probs_dropout_prob=attention, num_labels=labels, **SMALL, **how,
    )  # fmt: skip
    return kind(config)


def a_bert(hidden, attention, **how):
    return bert(transformers.BertForSequenceClassification, hidden, attention, **how)


def a_vit(hidden, attention, **how):
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_dropout_prob=hidden,
        attention_probs_dropout_prob=attention, **SMALL, **how,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def a_llama(hidden, attention, **how):
    config = transformers.LlamaConfig(
        vocab_size=99, max_position_embeddings=32, attention_dropout=attention,
        num_key_value_heads=1, pad_token_id=0, **SMALL, **how,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def a_bart(hidden, attention, **how):
    config = transformers.BartConfig(
        vocab_size=99, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=hidden,
        max_position_embeddings=32, attention_dropout=attention, activation_dropout=hidden, **how,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


WORDS = {"input_ids": IDS, "attention_mask": MASK}
MODELS = {
    "bert": (a_bert, WORDS),
    "vit": (a_vit, {"pixel_values": IMAGES}),
    "llama": (a_llama, WORDS),
    "bart": (a_bart, {**WORDS, "decoder_input_ids": IDS.flip(1)}),
}
INTERFACES = ("sdpa", "eager")


def made(name, hidden=0.2, attention=0.3, interface="sdpa", seed=0):
    torch.manual_seed(seed)
    model = MODELS[name][0](hidden, attention, attn_implementation=interface)
    with torch.no_grad():  # so that what attention does shows in the answers
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.train()


def ask(model, x, **how):
    return predict(model, x, members=4, keep=True, task="classification", **how)


def asleep(answer):
    """What is named and is dropout; LayerDrop and the like, which draw by torch.rand, aside."""
    return [told for told in answer.not_reached if "not reached: rand" not in told]


def check_attention_is_awake(name, interface):
    """Its p alone makes members differ, and another p makes others."""
    x = dict(MODELS[name][1])
    answers = [ask(made(name, 0.0, p, interface), x) for p in (0.3, 0.1)]
    for answer in answers:
        assert answer.std.max() > 1e-4
        assert asleep(answer) == []
    assert not np.allclose(answers[0].outputs, answers[1].outputs, atol=1e-4)
    with pytest.raises(ValueError, match=r"all 4 members|nothing in the model drew"):
        ask(made(name, 0.0, 0.0, interface), x)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("name", MODELS)
def test_attention_is_awake(name, interface):
    check_attention_is_awake(name, interface)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", MODELS)
def test_members_are_the_same_for_every_batch_size_and_interface(name):
    x, model = dict(MODELS[name][1]), made(name)
    whole = ask(model, x)
    assert not np.allclose(whole.outputs[0], whole.outputs[1], atol=1e-4)
    assert asleep(whole) == []
    rows = [{key: value[i] for key, value in x.items()} for i in range(6)]
    for other in (
        ask(model, transformers.BatchEncoding(x), batch_size=1),
        ask(model, {**x, "output_hidden_states": True, "return_dict": None}, batch_size=4),
        ask(model, DataLoader(rows, batch_size=4)),
        ask(made(name, interface="eager"), x),
        ask(model.eval(), x),
    ):
        np.testing.assert_allclose(other.outputs, whole.outputs, atol=2e-6)
    ours = ask(model, x, share="row").outputs
    np.testing.assert_allclose(ask(model, x, share="row", batch_size=4).outputs, ours, atol=2e-6)
    assert not np.allclose(ours, whole.outputs, atol=1e-4)


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_as_it_was(name, adopted):
    model, x = made(name), dict(MODELS[name][1])
    if adopted:
        adopt(model, seed=3)
    next(model.children()).eval()
    flags = [part.training for part in model.modules()]
    held = [sorted(part.__dict__) for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    plain = ask(made(name), x).outputs
    np.testing.assert_array_equal(ask(model, x).outputs, plain)
    assert [part.training for part in model.modules()] == flags
    assert [sorted(part.__dict__) for part in model.modules()] == held
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    torch.set_rng_state(state)


# ------------------------------------------------------------------------------------------ results


def test_labels_are_given_and_their_loss_is_no_answer():
    model, x = made("bert"), dict(WORDS)
    expected = ask(model, x).outputs
    got = ask(model, {**x, "labels": torch.zeros(6, dtype=torch.long)}, batch_size=4).outputs
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_token_classification():
    torch.manual_seed(0)
    model = bert(transformers.BertForTokenClassification, 0.2, 0.3)
    answer = ask(model, dict(WORDS))
    assert answer.probabilities.shape == (6, 7, 3)
    assert answer.predictive_entropy.shape == (6, 7)
    np.testing.assert_allclose(answer.probabilities.sum(-1), 1.0)


def test_results_with_several_answers_are_said():
    torch.manual_seed(0)
    several = bert(transformers.BertForQuestionAnswering, 0.2, 0.3, labels=2)
    with pytest.raises(TypeError, match=r"start_logits \(6, 7\), end_logits \(6, 7\).*output="):
        predict(several, dict(WORDS))
    answer = predict(several, dict(WORDS), members=4, output=lambda y: y.start_logits)
    assert answer.mean.shape == (6, 7)
    with pytest.raises(TypeError, match=r"last_hidden_state .*pooler_output "):
        predict(bert(transformers.BertModel, 0.2, 0.3), dict(WORDS))
    whole = bert(transformers.BertModel, 0.2, 0.3, attn_implementation="eager")
    whole.pooler = None
    x = {**WORDS, "output_attentions": True}
    assert predict(whole, x, members=4).mean.shape == (6, 7, 16)


# ----------------------------------------------------------------------------------- planted faults


def test_attention_that_sleeps_is_caught(monkeypatch):
    monkeypatch.setattr("thinned.members.observing.asleep", lambda *_: [])
    for name in ("bert", "llama"):
        with pytest.raises((AssertionError, ValueError)):
            check_attention_is_awake(name, "sdpa")
