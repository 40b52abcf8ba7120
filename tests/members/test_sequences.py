"""Members that write text: one set of masks for all rows and tokens, with and without a cache."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from libraries import library
from torch import nn
from torch.nn import functional

from thinned import Address, keep_mask
from thinned.members import predict, sequence_members
from thinned.torch import adopt, release
from thinned.torch.clock import sequences
from thinned.torch.clock.sequences import SequencesAwake
from thinned.torch.rnn.masks import Masks
from thinned.window import Repeated

transformers = library("transformers")

IDS = torch.randint(3, 49, (4, 6), generator=torch.Generator().manual_seed(0))
WORDS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
START = {"decoder_input_ids": torch.zeros(4, 1, dtype=torch.long)}


def gpt2(p, attention, **how):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, embd_pdrop=p,
        attn_pdrop=attention, resid_pdrop=p, bos_token_id=1, eos_token_id=None, pad_token_id=0,
        **how,
    ))  # fmt: skip


def llama(p, attention, **how):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, attention_dropout=attention, pad_token_id=0,
        eos_token_id=None, **how,
    ))  # fmt: skip
    for layer in model.model.layers if p else ():  # it has no other dropout, until one adds some
        layer.mlp.down_proj = nn.Sequential(nn.Dropout(p), layer.mlp.down_proj)
    return model


def bart(p, attention, **how):
    return transformers.BartForConditionalGeneration(transformers.BartConfig(
        vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=p,
        attention_dropout=attention, activation_dropout=p, max_position_embeddings=32,
        forced_eos_token_id=None, eos_token_id=None, pad_token_id=0, decoder_start_token_id=2,
        bos_token_id=1, **how,
    ))  # fmt: skip


def t5(p, attention, **how):
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=p,
        decoder_start_token_id=0, eos_token_id=None, pad_token_id=0, **how,
    ))  # fmt: skip


MODELS = {"gpt2": gpt2, "llama": llama, "bart": bart, "t5": t5}
DECODERS = ("gpt2", "llama")


def made(name, p=0.2, attention=0.3, **how):
    torch.manual_seed(0)
    model = MODELS[name](p, attention, **how)
    with torch.no_grad():  # so that what is dropped shows
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.train()


def asked_with(name):
    return WORDS if name in DECODERS else {**WORDS, **START}


def written(network, words=WORDS, **how):
    """What a network writes, and the scores of all tokens at each step."""
    found = network.generate(
        **words, max_new_tokens=5, do_sample=False, output_scores=True,
        return_dict_in_generate=True, **how,
    )  # fmt: skip
    return found.sequences, torch.stack(found.scores, 1)


def check_one_network(network, name, **how):
    """The same text and scores with a cache and without, in every batch, for any number of beams;
    and what the network says of the text as a whole. Returns the scores."""
    text, scores = written(network, **how)
    for other in (
        written(network, use_cache=False, **how),
        [torch.cat(rows) for rows in zip(*(
            written(network, {k: v[i : i + 2] for k, v in WORDS.items()}, **how) for i in (0, 2)
        ), strict=True)],
    ):  # fmt: skip
        assert torch.equal(other[0], text)
        torch.testing.assert_close(other[1], scores, atol=2e-5, rtol=0)
    beams = [written(network, num_beams=3, use_cache=cached, **how)[0] for cached in (True, False)]
    assert torch.equal(*beams)
    given = {"input_ids": text} if name in DECODERS else {**WORDS, "decoder_input_ids": text}
    first = IDS.shape[1] if name in DECODERS else 1
    with torch.no_grad():
        at_once = network(**given).logits[:, first - 1 : -1]
    torch.testing.assert_close(at_once, scores, atol=2e-5, rtol=0)
    return scores


@pytest.mark.parametrize("interface", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_a_member_writes_the_same_however_it_is_asked(name, interface):
    networks = sequence_members(made(name, attn_implementation=interface), asked_with(name))
    first, second = (check_one_network(networks[k], name) for k in (0, 5))
    assert not torch.allclose(first, second, atol=1e-3)
    torch.testing.assert_close(written(networks[0])[1], first, atol=0, rtol=0)


def every_token_its_own(*shapes):
    found = lies(*shapes)
    return found and found._replace(shared=tuple(i for i in found.shared if i != 1))


def every_row_its_own(*shapes):
    found = lies(*shapes)
    return found and found._replace(shared=tuple(i for i in found.shared if i != 0))


lies = sequences._lies


@pytest.mark.parametrize("fault", [every_token_its_own, every_row_its_own])
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_a_planted_fault_in_sharing_shows(monkeypatch, name, fault):
    monkeypatch.setattr(sequences, "_lies", fault)
    with pytest.raises((AssertionError, RuntimeError)):
        check_one_network(sequence_members(made(name), asked_with(name))[0], name)


def test_a_planted_fault_in_counting_shows(monkeypatch):
    networks = sequence_members(made("gpt2"), WORDS)
    monkeypatch.setattr(SequencesAwake, "forward", lambda self: nullcontext())
    with pytest.raises(RuntimeError, match="call 1 of site"):
        check_one_network(networks[0], "gpt2")


@pytest.mark.parametrize("name", MODELS)
def test_predict_asks_the_same_networks(name):
    model, x = made(name), asked_with(name)
    networks = sequence_members(model, x, seed=3)
    how = {"members": 3, "seed": 3, "share": "sequence", "keep": True}
    answer = predict(model, x, **how)
    for k in range(3):
        with torch.no_grad():
            own = networks[k](**x).logits
        np.testing.assert_allclose(answer.outputs[k], own, atol=2e-5)
    np.testing.assert_allclose(predict(model, x, batch_size=3, **how).outputs, answer.outputs,
                               atol=2e-5)  # fmt: skip
    assert set(answer.not_reached) == set(networks.not_reached)


@pytest.mark.parametrize("name", MODELS)
def test_attention_sleeps_and_is_named(name):
    networks = sequence_members(made(name), asked_with(name))
    named = {told.partition(":")[0] for told in networks.not_reached if ": left out:" in told}
    assert named
    assert named.isdisjoint(networks.sites)
    assert all("attn" in site.lower() or "attention" in site.lower() for site in named)
    awake = sequence_members(made(name, attention=0.0), asked_with(name))
    if name != "t5":  # which has one rate for all
        assert not any(": left out:" in told for told in awake.not_reached)
    # What attention would have dropped, no member drops.
    torch.testing.assert_close(
        written(networks[1])[1], written(awake[1])[1], atol=2e-5, rtol=0
    )  # fmt: skip


def test_a_model_in_which_attention_alone_drops_has_no_such_members():
    for ask in (
        lambda m: sequence_members(m, WORDS),
        lambda m: predict(m, WORDS, members=2, share="sequence"),
    ):
        with pytest.raises(ValueError, match=r"equal.*left out"):
            ask(made("llama", p=0.0))


@pytest.mark.parametrize("adopted", [False, True])
def test_the_model_is_as_it_was(adopted):
    model = made("gpt2")
    plain = written(sequence_members(model, WORDS)[2])[1]
    if adopted:
        adopt(model, seed=9)
    flags = [part.training for part in model.modules()]
    held = [sorted(part.__dict__) for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    networks = sequence_members(model, WORDS)
    network = networks[2]
    assert torch.equal(written(network)[1], plain)
    assert [part.training for part in model.modules()] == flags
    assert [sorted(part.__dict__) for part in model.modules()] == held
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    if adopted:
        release(model)
    assert network.state_dict().keys() == model.state_dict().keys()
    assert network.transformer.wte.weight is model.transformer.wte.weight
    # Two networks stand side by side, and modes do not touch them.
    other = networks[0].train().eval()
    assert torch.equal(written(network.eval())[1], plain)
    assert not torch.allclose(written(other)[1], plain)
    assert not network.training


class Windows(nn.Module):
    """Each row's embedding is cut into two windows, which lie on the leading axis with the rows;
    the noise of all tokens of a row lies on one axis; a weight is dropped; a branch is."""

    def __init__(self):
        super().__init__()
        self.embed, self.drop, self.out = nn.Embedding(50, 8), nn.Dropout(0.5), nn.Linear(4, 3)
        self.weight = nn.Parameter(torch.ones(8, 8))

    def forward(self, words):
        x = self.embed(words)
        windows = self.drop(torch.ones(2 * len(x), 4)).unflatten(0, (-1, 2)).flatten(1)
        flat = functional.dropout(torch.ones_like(x).flatten(0, 1), 0.5).unflatten(0, x.shape[:2])
        weight = functional.dropout(self.weight, 0.5, self.training)
        return torch.stack([windows[:, None].expand_as(x), flat, weight.sum(0).expand_as(x)])


@pytest.mark.parametrize("rows", [1, 4])
def test_where_rows_and_tokens_lie_is_seen(rows):
    torch.manual_seed(0)
    network = sequence_members(Windows(), IDS, seed=7)[1]
    windows, flat, weight = network(IDS[:rows, :3]).detach()
    at = Address(seed=7, site="drop").fold_in(1)
    mask = keep_mask((2, 4), 0.5, at).reshape(8)
    np.testing.assert_array_equal(windows > 0, np.broadcast_to(mask, windows.shape))
    at = Address(seed=7, site="/dropout").fold_in(1)
    np.testing.assert_array_equal(
        flat > 0, np.broadcast_to(keep_mask(8, 0.5, at), flat.shape)
    )  # fmt: skip
    kept = keep_mask((8, 8), 0.5, Address(at.seed, "/dropout", 0, 1)).sum(0)
    np.testing.assert_array_equal(weight, np.broadcast_to(2.0 * kept, weight.shape))


class Elsewhere(nn.Module):
    """Drops twice for long texts."""

    def __init__(self):
        super().__init__()
        self.embed, self.drop = nn.Embedding(50, 8), nn.Dropout(0.5)

    def forward(self, words):
        x = self.drop(self.embed(words))
        return self.drop(x) if words.shape[1] > 6 else x


def test_what_was_not_seen_is_refused():
    network = sequence_members(Elsewhere(), IDS)[0]
    with pytest.raises(RuntimeError, match="call 1 of site 'drop'"):
        network(torch.cat([IDS, IDS], 1))


def test_bad_questions():
    model = made("gpt2")
    with pytest.raises(TypeError, match=r"sequence_members: model must be a torch\.nn\.Module"):
        sequence_members(3, WORDS)
    with pytest.raises(TypeError, match=r"x must be with an array \(rows, tokens\)"):
        sequence_members(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(3, 4))
    with pytest.raises(ValueError, match="seed must be"):
        sequence_members(model, WORDS, seed=-1)
    with pytest.raises(ValueError, match="k must be"):
        sequence_members(model, WORDS)[-1]
    with pytest.raises(RuntimeError, match=r"does not run on 2 rows of x.*decoder_input_ids"):
        sequence_members(made("t5"), WORDS)
    with pytest.raises(ValueError, match="networks would be equal: the model has no dropout"):
        sequence_members(nn.Sequential(nn.Embedding(50, 4)), IDS)


@pytest.mark.parametrize("axes", [(0,), (0, 1)])
def test_masks_of_a_recurrent_network_are_shared_over_tokens_where_they_are(axes):
    masks = Masks("LSTM", Address(seed=1), Repeated((0, 0, 0), None, axes), 3, 4)
    steps = torch.stack(masks.each_step(torch.ones(()), 64, 0.5, 0))
    assert (steps == steps[:, :1]).all()
    assert bool((steps == steps[:1]).all()) == (1 in axes)
