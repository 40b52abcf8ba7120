"""Models of transformers and timm, built small, have no findings."""

import pytest
import torch

import thinned.torch as tt

WIDTHS = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
    "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "d_model": 32, "encoder_layers": 2,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_dim": 64, "d_inner": 64, "d_ff": 64,
    "d_kv": 8, "num_layers": 2, "num_heads": 4, "embedding_size": 32, "word_embed_proj_dim": 32,
    "image_size": 32, "patch_size": 8, "pad_token_id": 0,
}  # fmt: skip
MODELS = {
    "BertForSequenceClassification": "input_ids",
    "DebertaV2ForMaskedLM": "input_ids",
    "GPT2LMHeadModel": "input_ids",
    "OPTForCausalLM": "input_ids",
    "BartModel": "both",
    "T5ForConditionalGeneration": "both",
    "ViTForImageClassification": "pixel_values",
}


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    told = {*kind.config_class().to_dict(), *kind.config_class.attribute_map}
    config = kind.config_class(**{key: WIDTHS[key] for key in WIDTHS if key in told})
    ids = torch.randint(5, 90, (8, 12))
    inputs = {"input_ids": ids}
    if MODELS[name] == "both":
        inputs["decoder_input_ids"] = ids
    elif MODELS[name] == "pixel_values":
        inputs = {"pixel_values": torch.randn(8, 3, 32, 32)}
    report = tt.audit(kind(config), inputs, measure=False)
    assert report.findings == ()


RATES = {"drop_rate": 0.1, "drop_path_rate": 0.2}
PICTURES = {
    "vit_tiny_patch16_224": {
        "img_size": 32, "patch_size": 8, "depth": 2, "attn_drop_rate": 0.2, "proj_drop_rate": 0.1,
    },
    "resnet18": {},
    "efficientnet_b0": {},
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_timm(name):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **RATES, **PICTURES[name])
    size = PICTURES[name].get("img_size", 64)
    report = tt.audit(model, torch.randn(8, 3, size, size), measure=False)
    assert [one for one in report.findings if one.kind != "feeds BatchNorm"] == []
