"""Configurations of transformers made small: every size and every rate set by its field's name."""

import dataclasses
import re

from transformers import PreTrainedConfig

RATE = 0.2
SKIPPED = 0.3  # of layers: there are few
WIDTH = 32

RECIPES = ("constant", "wider", "proportional", "few layers")

# The first that matches a field's name decides. None leaves the default.
_NAMES = [
    (r"^qk_head_dim$", None),
    (r"mamba_d_head|mamba_head_?dim", "mamba head"),
    (r"qk_.*head_dim|rope_head_dim|^qk_nope", "head dim"),
    (r"(experts?|experts)_per_tok|top_?k(_experts)?$|moe_topk|index_topk", "chosen"),
    (r"^n_group$|topk_group|num_expert_group", "one"),
    ((r"sampling_rate|sample_rate|rope|theta|temperature|buckets|bins|_ratio|stride|kernel|scale|"
     r"dilation|hop_length|token_num|expand|groups?$|per_tok|period|offset|mask_time|"
     r"mask_feature|indices|indexes|index_end|divisor|factor|types?$|rate|ignore|steps|"
     r"chunk_length|conv_pos|interval|output_channels_per|max_distance|num_labels"), None),
    (r"num_labels|num_mel_frames", None),
    (r"rotary_dim", "rotary"),
    (r"vocab", "vocab"),
    (r"(token|bos|eos|pad|sep|start|end|newline)(_id|_index|_token)?$", "id"),
    (r"image_size|img_size|pretrain_image|crop_size|spec_size|resolution$|train_size", "image"),
    (r"patch_size", "patch"),
    (r"window", "window"),
    (r"(key_value|kv)_(attention_)?heads|query_groups|linear_num_key_heads", "kv heads"),
    (r"heads?$|n_head|heads_per", "heads"),
    (r"head_dim|d_kv$|head_size|d_head|kv_channels|dim_head|headdim|key_dim", "head dim"),
    (r"lora_rank", "rank"),
    ((r"max_.*(position|length|seq|source|target|text)|n_positions|position_embeddings|n_ctx|"
     r"context_length|seq_len|block_size|max_length|model_max"), "positions"),
    (r"num_experts$|num_local_experts|n_routed_experts|moe_num_experts", "experts"),
    (r"num_queries|num_query|num_latents|num_proposals|query_num|n_latents", "few"),
    (r"layerdrop|layer_norm|layers_to|feature_layer|layer_scale|layer_types", None),
    (r"num_denoising|num_negatives", None),
    (r"layers?$|^depth$|n_layer|num_blocks$|layers_per_stack|self_attends_per", "layers"),
    (r"intermediate|ffn|d_ff|d_inner|mlp|feed_?forward|dff|dim_ff", "wide"),
    (r"mel_bins|num_mel|feature_size|input_feat_size|input_feat_per|n_mel", "mel"),
    ((r"hidden|d_model|dim|embed|width|channels|n_embd|filters|features|d_latents|units|emb_size|"
     r"in_planes|size$|d_rel"), "width"),
]  # fmt: skip
_NAMES = [(re.compile(pattern), kind) for pattern, kind in _NAMES]

_CONSTANT = {
    "vocab": 160, "image": 64, "patch": 16, "window": 2, "kv heads": 2, "heads": 4, "head dim": 8,
    "rank": 8, "positions": 128, "experts": 8, "chosen": 2, "one": 1, "few": 8, "layers": 2,
    "wide": 2 * WIDTH, "mel": 16,
    "width": WIDTH, "rotary": 4, "mamba head": 16,
}  # fmt: skip
_WIDER = {
    "width": 64, "wide": 128, "layers": 4, "head dim": 16, "rank": 16, "rotary": 8,
    "positions": 256, "mel": 80, "mamba head": 32,
}  # fmt: skip


def kind_of(name):
    return next((kind for pattern, kind in _NAMES if pattern.search(name)), None)


def is_rate(name, value):
    """Fields of rates have numbers from 0 to 1; counts and switches of these names have not."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and "drop" in name.lower() and 0 <= value < 1 and "token_drop" not in name


def shrunk(config_class, recipe="constant", rate=RATE, particulars=None):
    """A small configuration of this class."""
    with_defaults = config_class()
    return _shrunk(with_defaults, recipe, rate, particulars or {})


def _carried(part):
    """What a configuration says of its part that the part's own class would say otherwise."""
    plain = vars(type(part)())
    names = [field.name for field in dataclasses.fields(type(part)) if field.init]
    said = {n: vars(part)[n] for n in names if n in vars(part) and vars(part)[n] != plain.get(n)}
    said = {n: v for n, v in said.items() if not isinstance(v, PreTrainedConfig)}
    said = {n: v for n, v in said.items() if not n.endswith("types")}  # one for each layer
    if vars(part).get("_out_indices") != plain.get("_out_indices"):
        said["out_indices"] = list(part._out_indices)
    return said


def _shrunk(default, recipe, rate, particulars, carried=()):
    changes, ids = dict(carried), 100
    for field in dataclasses.fields(type(default)):
        name = field.name
        if not field.init or name not in vars(default):
            continue
        value = getattr(default, name)
        if isinstance(value, PreTrainedConfig):
            more = particulars.get(name, {})
            changes[name] = _shrunk(value, recipe, rate, more, _carried(value))
            continue
        if name in QUIET:
            changes[name] = QUIET[name]
        elif isinstance(value, (list, tuple)) and value and all(is_rate(name, v) for v in value):
            changes[name] = type(value)(rate for _ in value)
        elif is_rate(name, value) and field.type not in (int, "int"):
            changes[name] = SKIPPED if "layerdrop" in name.replace("_", "") else rate
        elif name in REQUIRED and value is None:
            changes[name] = REQUIRED[name]
        elif field.default is None:
            continue  # the class derives it
        elif kind_of(name) == "id":
            if isinstance(value, int) and not isinstance(value, bool) and value >= 100:
                ids += 1
                changes[name] = ids
        else:
            smaller = _smaller(name, value, recipe, default)
            if smaller is not None and smaller != value:
                changes[name] = smaller
            if kind_of(name) == "kv heads" and value == vars(default).get("num_attention_heads"):
                changes[name] = _CONSTANT["heads"]
    _rope(default, changes, recipe)
    deepest = max(vars(default).get("_out_indices") or [0])
    if "num_hidden_layers" in changes and deepest > changes["num_hidden_layers"]:
        changes["num_hidden_layers"] = deepest  # what is taken from a backbone must be there
    changes |= particulars
    if getattr(default, "model_type", "") == "" and not changes:
        return default
    return type(default)(**changes)


# What has no default and is needed.
REQUIRED = {
    "prediction_length": 8, "context_length": 16, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
}  # fmt: skip

# Noise that is none of dropout's, and caches that training has no use for.
QUIET = {
    "use_cache": False, "apply_spec_augment": False,
    "mask_time_prob": 0.0, "mask_feature_prob": 0.0,
    "router_jitter_noise": 0.0, "input_jitter_noise": 0.0, "return_dict": True,
    "mask_feature_length": 1, "mask_time_length": 1, "output_hidden_states": False,
    "use_timm_backbone": False,
}  # fmt: skip


def _rope(default, changes, recipe):
    """The shares of a head that positions in time, height and width turn: with its new size."""
    rope = vars(default).get("rope_parameters")
    if not isinstance(rope, dict) or ("mrope_section" not in rope and recipe != "wider"):
        return  # some have it in their code alone: wider ones are told
    heads = changes.get("num_attention_heads") or vars(default).get("num_attention_heads", 1)
    width = changes.get("hidden_size") or vars(default).get("hidden_size", 1)
    half = (changes.get("head_dim") or vars(default).get("head_dim") or width // heads) // 2
    half = int(half * rope.get("partial_rotary_factor", 1.0))
    third = half // 3
    changes["rope_parameters"] = {**rope, "mrope_section": [half - 2 * third, third, third]}


def _smaller(name, value, recipe, config):
    kind = kind_of(name)
    if isinstance(value, bool) or kind in (None, "id"):
        return None
    if isinstance(value, (list, tuple)):
        return _smaller_list(name, kind, value, recipe)
    if not isinstance(value, int):
        return None
    return _number(kind, value, recipe, _hidden(config))


def _number(kind, value, recipe, hidden):
    most = _most(kind, recipe)
    if kind in ("vocab", "positions", "image", "experts", "few", "layers", "chosen", "one"):
        return min(value, most)
    if recipe == "few layers":
        return value
    if recipe == "proportional" and kind in ("width", "wide"):
        ratio = max(1, hidden // WIDTH)
        return max(8, value // ratio) if value >= 8 * ratio else value
    if recipe == "proportional" and kind == "head dim":
        return min(value, 8)
    return min(value, most)


def _most(kind, recipe):
    wider = _WIDER.get(kind) if recipe == "wider" else None
    return wider or _CONSTANT[kind]


def _hidden(config):
    for name in ("hidden_size", "d_model", "embed_dim", "dim", "n_embd", "hidden_dim"):
        value = vars(config).get(name)
        if isinstance(value, int):
            return value
    return 768


def _smaller_list(name, kind, value, recipe):
    if not value or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        return None
    if (
        name in ("depths", "layers", "stage_num_blocks", "num_layers", "blocks_per_stage")
        or kind == "layers"
    ):
        return type(value)(1 for _ in value)
    if kind in ("image", "patch"):
        return type(value)(min(v, _CONSTANT[kind]) for v in value)
    if kind == "heads":  # one head has the width of the first stage, and so all have
        return type(value)(max(1, v // min(value)) for v in value)
    if kind in ("width", "wide") and recipe != "few layers" and min(value) >= 8:
        first = min(value)
        least = 32 if recipe == "wider" else 16
        return type(value)(max(8, v * least // first) for v in value)
    return None
