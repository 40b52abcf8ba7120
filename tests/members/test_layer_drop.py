"""LayerDrop of a model's own code is awake in members, each of which skips layers of its own."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from libraries import library
from torch import nn

from thinned import Address, reference
from thinned.members import predict, sequence_members, waking
from thinned.torch.clock.members import Awake

IDS = torch.randint(3, 49, (4, 6), generator=torch.Generator().manual_seed(0))
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
KEEP = {"members": 6, "seed": 2, "keep": True}


class Stack(nn.Module):
    """Layers that add powers of two: what comes out says which of them ran."""

    def __init__(self, skips, layers=4, p=0.5, drop=0.0):
        super().__init__()
        self.layers, self.skips, self.p = nn.ModuleList(), skips, p
        for n in range(layers):
            layer = nn.Linear(8, 8)
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, 2.0**n)
            self.layers.append(nn.Sequential(layer, nn.Dropout(drop)))

    def forward(self, x):
        y = torch.zeros_like(x)
        for layer in self.layers:
            if self.training and self.skips(self):
                continue
            y = y + layer(x)
        return y


def compared(self):
    return torch.rand([]) < self.p


def kept_below(self):
    return not bool(torch.rand(1) < 1 - self.p)


def by_method(self):
    return torch.rand(()).lt(self.p).item()


def drawn(self):
    return torch.bernoulli(torch.tensor(1 - self.p)) == 0


FORMS = (compared, kept_below, by_method)


def ran(answer):
    """Which layers ran in each member, as bits; the same for all rows and units."""
    outputs = answer.outputs
    assert (outputs == outputs[:, :1, :1]).all()
    return outputs[:, 0, 0].astype(int).tolist()


def numbers(seed, k, layers=4, site="/dropout"):
    at = Address(seed=seed).fold_in(k).seed
    words = [reference.words(Address(at, site, 0, n), np.arange(1, dtype=np.uint64))[0]
             for n in range(layers)]  # fmt: skip
    return [(2 * (int(word) >> 9) + 1) / 2**24 for word in words]


@pytest.mark.parametrize("skips", FORMS, ids=lambda f: f.__name__)
def test_a_member_skips_the_layers_of_its_address(skips):
    answer = predict(Stack(skips), X, **KEEP)
    assert answer.not_reached == ()
    below = [[u < 0.5 for u in numbers(2, k)] for k in range(6)]
    for k, bits in enumerate(ran(answer)):
        gone = [not bits >> n & 1 for n in range(4)]
        assert gone == (below[k] if skips is not kept_below else [not one for one in below[k]])
    for other in ({"batch_size": 2}, {"share": "row"}):
        np.testing.assert_array_equal(predict(Stack(skips), X, **KEEP, **other).outputs,
                                      answer.outputs)  # fmt: skip


def test_gates_that_are_drawn_as_such_are_awake():
    answer = predict(Stack(drawn), X, **KEEP)
    assert answer.not_reached == ()
    assert len(set(ran(answer))) > 3


@pytest.mark.parametrize("skips", [*FORMS, drawn], ids=lambda f: f.__name__)
def test_what_skipped_layers_drop_is_known_and_not_named(skips):
    """Whatever layers the members of the first forwards skip: rows lie on the second axis there."""

    class Turned(Stack):
        def forward(self, x):
            return super().forward(x[None].expand(3, -1, -1)).mean(0)

    for seed in range(4):
        how = {"members": 4, "seed": seed, "keep": True}
        model = Turned(skips, drop=0.3)
        answer = predict(model, X, **how)
        assert answer.not_reached == ()
        np.testing.assert_array_equal(predict(model, X, batch_size=2, **how).outputs,
                                      answer.outputs)  # fmt: skip


def handed_on(self):
    self.last = torch.rand([])
    return self.last < self.p


def python_s(self):
    return torch.empty(()).uniform_(generator=torch.Generator().manual_seed(3)) < self.p


@pytest.mark.parametrize("skips", [handed_on, python_s], ids=lambda f: f.__name__)
def test_what_is_not_recognised_is_left_alone_and_named(skips):
    answer = predict(nn.Sequential(Stack(skips), nn.Dropout(0.5)), X, **KEEP)
    assert any(told.startswith("0/dropout: ") for told in answer.not_reached)
    assert set(np.unique(answer.outputs)) == {0.0, 30.0}  # all layers ran


def test_fault_a_number_that_is_drawn_while_modes_are_compared(monkeypatch):
    monkeypatch.setattr(waking, "UNIFORM", {})
    with pytest.raises((AssertionError, ValueError)):
        test_a_member_skips_the_layers_of_its_address(compared)


def test_fault_layers_that_are_skipped_while_it_is_looked_who_draws(monkeypatch):
    monkeypatch.setattr(Awake, "decided", property(lambda self: None, lambda *_: None),
                        raising=False)  # fmt: skip
    with pytest.raises((AssertionError, RuntimeError)):
        test_what_skipped_layers_drop_is_known_and_not_named(compared)


# ------------------------------------------------------------------------------------ transformers

transformers = library("transformers")


def bart(p):
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(
        vocab_size=50, d_model=16, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=p,
        attention_dropout=p, encoder_layerdrop=0.5, decoder_layerdrop=0.5, pad_token_id=0,
        max_position_embeddings=32, forced_eos_token_id=None, eos_token_id=None,
        decoder_start_token_id=2, bos_token_id=1,
    ))  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def wav2vec2(p):
    torch.manual_seed(0)
    return transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(
        vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2),
        num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        layerdrop=0.5, hidden_dropout=p, attention_dropout=p, activation_dropout=p,
        feat_proj_dropout=p, final_dropout=p, mask_time_prob=0.0, mask_feature_prob=0.0,
    ))  # fmt: skip


SOUND = torch.randn(4, 400, generator=torch.Generator().manual_seed(0))
MODELS = {"bart": (bart, IDS, "model.encoder"), "wav2vec2": (wav2vec2, SOUND, "wav2vec2.encoder")}


@pytest.mark.parametrize("p", [0.0, 0.1])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers(name, p):
    kind, x, encoder = MODELS[name]
    model = kind(p)
    answer = predict(model, x, **KEEP)
    assert not [told for told in answer.not_reached if told.startswith(encoder)]
    np.testing.assert_allclose(predict(model, x, batch_size=3, **KEEP).outputs, answer.outputs,
                               atol=2e-5)  # fmt: skip
    assert len({output.tobytes() for output in answer.outputs.round(5)}) > 2


def test_a_member_that_writes_skips_the_same_layers_at_every_token():
    network = sequence_members(bart(0.1), IDS)[1]
    texts = [
        network.generate(IDS, max_new_tokens=5, do_sample=False, use_cache=cached)
        for cached in (True, False)
    ]
    assert torch.equal(*texts)
