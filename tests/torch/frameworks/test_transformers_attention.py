"""attn_implementation="thinned": eager attention's numbers and masks, without its weights."""

import pytest
import torch
import transformers

import thinned.torch
import thinned.torch.transformers
from thinned.torch.frameworks import transformers_attention

# Of transformers about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 50,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "attention_dropout": 0.25,
           "pad_token_id": 0}  # fmt: skip


def llama():
    return transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED)


def mistral():
    """Attention within a window."""
    config = transformers.MistralConfig(**GROUPED, sliding_window=3)
    return transformers.MistralForCausalLM, config


def gemma():
    """Scores with a soft cap."""
    config = transformers.Gemma2Config(**GROUPED, attn_logit_softcapping=2.0, sliding_window=4)
    return transformers.Gemma2ForCausalLM, config


def gpt_oss():
    """Sinks."""
    config = transformers.GptOssConfig(
        **GROUPED, num_local_experts=2, num_experts_per_tok=1, sliding_window=4
    )
    return transformers.GptOssForCausalLM, config


def bert():
    config = transformers.BertConfig(**SMALL, attention_probs_dropout_prob=0.25)
    return transformers.BertForTokenClassification, config


def t5():
    """A bias of positions, encoder and decoder."""
    config = transformers.T5Config(
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        vocab_size=50,
        dropout_rate=0.25,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    return transformers.T5ForConditionalGeneration, config


ALL = [llama, mistral, gemma, gpt_oss, bert, t5]


def built(kind, implementation):
    torch.manual_seed(0)
    model_class, config = kind()
    config._attn_implementation = implementation
    model = model_class(config)
    for name, parameter in model.named_parameters():
        if "sinks" in name or "bias" in name:
            torch.nn.init.normal_(parameter)
    return model


def batch(model, padded=True):
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (3, 7))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return {**inputs, "labels": ids} if hasattr(model, "generate") else inputs


def numbers(model, inputs):
    outputs = model(**inputs)
    loss = outputs.loss if outputs.loss is not None else outputs.logits.square().mean()
    loss.backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    shown = inputs["attention_mask"].bool()
    return [outputs.logits[shown].detach(), *found]


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_numbers_of_eager_attention(kind):
    ours, theirs = (built(kind, name).eval() for name in ("thinned", "eager"))
    assert ours.config._attn_implementation == "thinned"
    for padded in (True, False):
        close(numbers(ours, batch(ours, padded)), numbers(theirs, batch(theirs, padded)))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_adopted_model_has_the_masks_of_eager_attention(kind):
    found = []
    for name in ("thinned", "eager"):
        model = built(kind, name).train()
        thinned.torch.adopt(model, seed=4)
        found.append([n for _ in range(2) for n in numbers(model, batch(model))])
    close(*found)
    # Two forwards of a step have masks of their own.
    half = len(found[0]) // 2
    assert not torch.equal(found[0][0], found[0][half])


@pytest.mark.parametrize("kind", [llama, gemma], ids=lambda kind: kind.__name__)
def test_dropout_without_adoption_draws_from_pytorchs_generator(kind):
    model = built(kind, "thinned").train()
    found = []
    for seed in (1, 1, 2):
        inputs = batch(model)
        torch.manual_seed(seed)
        found.append(numbers(model, inputs)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_checkpointing_and_compilation_keep_the_masks():
    found = []
    for way in ("plain", "checkpointed", "compiled"):
        model = built(llama, "thinned").train()
        thinned.torch.adopt(model, seed=4)
        if way == "checkpointed":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        inputs = batch(model)
        runs = torch.compile(model, backend="eager") if way == "compiled" else model
        loss = runs(**inputs).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    close(found[1], found[0])
    close(found[2], found[0])


def test_tokens_are_generated_as_by_sdpa():
    ours, theirs = (built(llama, name).eval() for name in ("thinned", "sdpa"))
    ids = torch.randint(1, 50, (2, 5), generator=torch.Generator().manual_seed(3))
    made = [m.generate(ids, max_new_tokens=6, do_sample=False) for m in (ours, theirs)]
    assert torch.equal(*made)


@pytest.mark.filterwarnings("default")  # PyTorch's compiler about itself
def test_where_flex_attention_refuses_dropout():
    model = built(llama, "flex_attention").train()
    with pytest.raises(ValueError, match="dropout"):
        numbers(model, batch(model))
    numbers(built(llama, "thinned").train(), batch(model))


def test_a_row_to_which_nothing_is_shown_is_zero():
    module = torch.nn.Identity()
    q = torch.randn(1, 2, 3, 4)
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    mask[..., 1, :] = False
    for more in ({}, {"softcap": 5.0}):
        y, weights = transformers_attention.attention(module, q, q, q, mask, **more)
        assert weights is None
        assert torch.equal(y[:, 1], torch.zeros(1, 2, 4))
        assert y.isfinite().all()


# ----------------------------------------------------------------------------------- planted faults


def test_fault_dropout_is_forgotten(monkeypatch):
    attend = transformers_attention._attend
    monkeypatch.setattr(
        transformers_attention, "_attend", lambda *args: attend(*args[:5], 0.0, *args[6:])
    )
    with pytest.raises(AssertionError):
        test_an_adopted_model_has_the_masks_of_eager_attention(llama)


def test_fault_the_mask_is_forgotten(monkeypatch):
    attend = transformers_attention._attend
    monkeypatch.setattr(
        transformers_attention, "_attend", lambda *args: attend(*args[:4], None, *args[5:])
    )
    with pytest.raises(AssertionError):
        test_the_numbers_of_eager_attention(bert)


def test_fault_sinks_are_forgotten(monkeypatch):
    weights = transformers_attention._weights
    monkeypatch.setattr(transformers_attention, "_weights", lambda *args: weights(*args[:6], None))
    with pytest.raises(AssertionError):
        test_the_numbers_of_eager_attention(gpt_oss)
