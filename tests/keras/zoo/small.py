"""Small models of KerasHub's with random weights, by what their constructors ask for."""

import inspect
import re
from importlib import import_module
from typing import NamedTuple
from zlib import crc32

import keras
import numpy as np

# By the argument's name. Heads divide widths, and patches divide images.
SIZES = {
    "activation_sparsity_pattern": None,
    "altup_num_inputs": 2,
    "attention_bias": False,
    "axes_dim": [2, 2, 4],
    "bucket_size": 4,
    "decoder_layer_types": ["sliding_attention", "full_attention"],
    "depth": 1,
    "depth_single_blocks": 1,
    "dilation_rates": [2, 3],
    "embed_dim": 16,
    "embedding_dim": 16,
    "encoder_layer_types": ["sliding_attention", "full_attention"],
    "feedforward_expansion_factor": 2,
    "filter_dim": 16,
    "gate_lora": 8,
    "global_attention_layer_indices": [1],
    "head_dim": 8,
    "head_size": 8,
    "hidden_act": "relu",
    "hidden_activation": "gelu_approximate",
    "image_ids_shape": (4, 3),
    "image_size": 16,
    "layer_norm_epsilon": 1e-5,
    "layer_types": ["sliding_attention", "full_attention"],
    "laurel_rank": 2,
    "mlp_bias": False,
    "mlp_ratio": 2.0,
    "num_groups": 1,
    "num_key_value_heads": 1,
    "num_mels": 8,
    "pad_token_id": 0,
    "partial_rotary_factor": 1.0,
    "patch_size": 8,
    "position_embedding_shape": (32, 32, 3),
    "projection_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_layer_enabled_list": [True, False],
    "rope_theta": 10000.0,
    "rotary_percentage": 0.5,
    "text_ids_shape": (4, 3),
    "text_shape": (4, 16),
    "theta": 10000,
    "top_k": 1,
    "use_bias": True,
    "vit_patch_size": 8,
    "window_size": 2,
    "y_shape": (16,),
}
# By how a name ends, where it stands nowhere above: the first that fits.
ENDS = (
    ("image_shape", (32, 32, 3)),
    ("vocabulary_size", 40),
    ("vocab_size", 40),
    ("vocab_size_per_layer_input", 40),
    ("num_experts", 2),
    ("num_frames", 2),
    ("num_layers_enc", 2),
    ("num_layers_dec", 2),
    ("num_hidden_layers", 2),
    ("_layers", 2),
    ("key_value_heads", 1),
    ("num_kv_heads", 1),
    ("_heads", 2),
    ("head_dim", 8),
    ("sequence_length", 16),
    ("position_embeddings", 16),
    ("sliding_window", 4),
    ("sliding_window_size", 4),
    ("_lora", 4),
    ("hidden_dim", 16),
    ("hidden_size", 16),
    ("intermediate_dim", 16),
    ("intermediate_size", 16),
    ("mlp_dim", 16),
    ("size_per_layer_input", 8),
    ("input_channels", 16),
)


class Part(NamedTuple):
    """A layer or model that a backbone is made of, small by the same rules.

    place : its module below keras_hub.src.models and its name. own : what only it means by a name.
    """

    place: str
    own: dict = {}  # noqa: RUF012 - a NamedTuple's default, never changed


def _clip(kind="clip.clip", name="CLIP"):
    return {
        "vision_encoder": Part(f"{kind}_vision_encoder:{name}VisionEncoder"),
        "text_encoder": Part(f"{kind}_text_encoder:{name}TextEncoder"),
    }


RATES = ("dropout", "drop_path", "dropout_rate", "drop_path_rate", "jitter_noise")
RATE = 0.2
# What only this model means by a name, or has as lists that belong together.
OWN = {
    "CSPNetBackbone": {
        "stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2], "stackwise_num_filters": [8, 16], "block_type": "dark_block",
        "stage_type": "dark",
    },
    "DeepLabV3Backbone": {
        "image_encoder": "ResNetBackbone", "spatial_pyramid_pooling_key": "P3",
        "upsampling_size": (2, 2), "low_level_feature_key": "P2",
    },
    "DenseNetBackbone": {"stackwise_num_repeats": [1, 1], "growth_rate": 4},
    "EfficientNetBackbone": {
        "stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [2, 2],
        "stackwise_input_filters": [8, 8], "stackwise_output_filters": [8, 8],
        "stackwise_expansion_ratios": [1, 2], "stackwise_strides": [1, 1],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_block_types": ["v1", "v1"], "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0], "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False], "input_shape": (32, 32, 3), "num_features": 16,
    },
    "HGNetV2Backbone": {
        "depths": [1, 1], "embedding_size": 8, "hidden_sizes": [16, 16],
        "stem_channels": [3, 8, 8], "use_learnable_affine_block": False,
        "stackwise_stage_filters": [[8, 8, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3]],
        "apply_downsample": [False, True], "use_lightweight_conv_block": [False, False],
    },
    "MiTBackbone": {
        "layerwise_depths": [2, 2], "num_layers": 2, "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1], "layerwise_patch_sizes": [3, 3],
        "layerwise_strides": [2, 2], "hidden_dims": [8, 16], "max_drop_path_rate": RATE,
    },
    "MoonshineBackbone": {"partial_rotary_factor": 0.5},
    "BASNetBackbone": {
        "num_classes": 1,
        "image_encoder": Part("resnet.resnet_backbone:ResNetBackbone", {
            "input_conv_filters": [64], "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 128, 256, 512], "stackwise_num_blocks": [2, 2, 2, 2],
            "stackwise_num_strides": [1, 2, 2, 2], "block_type": "basic_block",
            "image_shape": (None, None, 3),
        }),
    },
    "BLIP2Backbone": {
        "vision_encoder": Part("blip2.blip2_vision_encoder:BLIP2VisionEncoder", {
            "initializer_range": 0.02, "use_patch_bias": True, "use_class_token": True,
            "use_mha_bias": True, "use_mlp_bias": True,
        }),
        "qformer": Part("blip2.blip2_qformer:BLIP2QFormer", {
            "num_query_tokens": 4, "vision_dim": 16, "cross_attention_frequency": 2,
        }),
        "language_model": Part("blip2.blip2_custom_opt:BLIP2CustomOPT", {
            "num_query_tokens": 4, "qformer_hidden_dim": 16,
        }),
    },
    "CLIPBackbone": _clip(),
    "DFineBackbone": {
        "backbone": Part("hgnetv2.hgnetv2_backbone:HGNetV2Backbone", {
            "stem_channels": [3, 8, 8], "depths": [1, 1, 1], "hidden_sizes": [16, 16, 16],
            "stackwise_stage_filters": [
                [8, 8, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3],
            ],
            "apply_downsample": [False, True, True], "embedding_size": 8,
            "use_lightweight_conv_block": [False, False, False],
            "use_learnable_affine_block": True, "out_features": ["stage2", "stage3"],
        }),
        "decoder_in_channels": [16, 16], "encoder_hidden_dim": 16, "num_labels": 4,
        "num_denoising": 0, "learn_initial_query": False, "num_queries": 6,
        "anchor_image_size": (32, 32), "feat_strides": [8, 16], "num_feature_levels": 2,
        "encoder_in_channels": [16, 16], "encode_proj_layers": [1], "hidden_expansion": 0.5,
        "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_encoder_layers": 1,
        "depth_multiplier": 0.5, "eval_idx": -1, "decoder_n_points": [2, 2],
        "lqe_hidden_dim": 8, "num_lqe_layers": 2, "out_features": ["stage2", "stage3"], "seed": 0,
    },
    "DepthAnythingBackbone": {
        "image_encoder": "DINOV2Backbone", "reassemble_factors": [2, 1],
        "neck_hidden_dims": [8, 16], "fusion_hidden_dim": 16, "head_hidden_dim": 8,
        "head_in_index": -1, "feature_keys": ["stage1", "stage2"],
    },
    "FluxBackbone": {"image_shape": (4, 16)},  # patches, which are embedded already
    "Gemma3nBackbone": {
        "intermediate_size": [16, 16], "layer_types": ["full_attention", "full_attention"],
    },
    "MetaCLIP2Backbone": _clip("metaclip_2.metaclip_2", "MetaCLIP2"),
    "MixtralBackbone": {"router_jitter_noise": 0.0},  # with which KerasHub's own code fails
    "MobileNetBackbone": {
        "stackwise_expansion": [[8, 8], [8]], "stackwise_num_blocks": [2, 1],
        "stackwise_num_filters": [[8, 8], [8]], "stackwise_kernel_size": [[3, 3], [3]],
        "stackwise_num_strides": [[1, 1], [2]], "stackwise_se_ratio": [[None, None], [0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish"]],
        "stackwise_padding": [[1, 1], [1]], "output_num_filters": 16, "input_num_filters": 8,
        "depthwise_filters": 8, "depthwise_stride": 1, "depthwise_residual": True,
        "last_layer_filter": 16, "squeeze_and_excite": None,
    },
    "MobileNetV5Backbone": {
        "stackwise_block_types": [["er"], ["uir", "uir"]], "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [16, 16]], "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[2.0], [2.0, 2.0]], "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [3, 3]], "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]], "stackwise_use_cpe": [[False], [False, False]],
        "use_msfa": False, "num_features": 16,
        **{
            f"stackwise_{name}": [[0], [0, 0]]
            for name in (
                "dw_start_kernel_sizes", "dw_end_kernel_sizes", "num_heads", "key_dims",
                "value_dims", "kv_strides",
            )
        },
    },
    "SAMBackbone": {
        "image_encoder": Part("vit_det.vit_det_backbone:ViTDetBackbone", {
            "num_output_channels": 8, "image_shape": (32, 32, 3),
        }),
        "prompt_encoder": Part("sam.sam_prompt_encoder:SAMPromptEncoder", {
            "hidden_size": 8, "image_embedding_size": (4, 4), "input_image_size": (32, 32),
        }),
        "mask_decoder": Part("sam.sam_mask_decoder:SAMMaskDecoder", {
            "hidden_size": 8, "embedding_dim": 8, "iou_head_hidden_dim": 8,
        }),
    },
    "SAM3PromptableConceptBackbone": {
        "vision_encoder": Part("sam3.sam3_vision_encoder:SAM3VisionEncoder", {
            "hidden_activation": "gelu", "fpn_hidden_dim": 16,
            "fpn_scale_factors": [4.0, 2.0, 1.0, 0.5],
            "window_size": 2,
            "global_attn_indexes": [1], "image_shape": (32, 32, 3),
            "pretrain_image_shape": (16, 16, 3),
        }),
        "text_encoder": Part("sam3.sam3_text_encoder:SAM3TextEncoder", {
            "hidden_activation": "gelu",
        }),
        "geometry_encoder": Part("sam3.sam3_geometry_encoder:SAM3GeometryEncoder", {
            "roi_size": 2, "hidden_activation": "relu",
        }),
        "detr_encoder": Part("sam3.sam3_detr_encoder:SAM3DetrEncoder", {
            "hidden_activation": "relu",
        }),
        "detr_decoder": Part("sam3.sam3_detr_decoder:SAM3DetrDecoder", {
            "num_queries": 4, "image_shape": (32, 32, 3), "hidden_activation": "relu",
        }),
        "mask_decoder": Part("sam3.sam3_mask_decoder:SAM3MaskDecoder", {
            "num_upsampling_stages": 3,
        }),
    },
    "SigLIPBackbone": _clip("siglip.siglip", "SigLIP"),
    "StableDiffusion3Backbone": {
        "mmdit_patch_size": 2, "mmdit_position_size": 8, "mmdit_qk_norm": None,
        "mmdit_dual_attention_indices": None, "image_shape": (64, 64, 3),
        "vae": Part("vae.vae_backbone:VAEBackbone", {
            "encoder_num_filters": [32, 32, 32, 32], "encoder_num_blocks": [1, 1, 1, 1],
            "decoder_num_filters": [32, 32, 32, 32], "decoder_num_blocks": [1, 1, 1, 1],
        }),
        "clip_l": Part("clip.clip_text_encoder:CLIPTextEncoder", {
            "intermediate_output_index": 0, "name": "clip_l", "max_sequence_length": 77,
        }),
        "clip_g": Part("clip.clip_text_encoder:CLIPTextEncoder", {
            "intermediate_output_index": 0, "name": "clip_g", "max_sequence_length": 77,
        }),
    },
    "DINOV3Backbone": {"hidden_activation": "gelu", "drop_path_rate": 0.0},
    "DINOV2Backbone": {"drop_path_rate": 0.0},  # their own drop path fails on torch
    "Qwen3_5Backbone": {"layer_types": ["full_attention", "full_attention"]},
    "Qwen3_5MoeBackbone": {"layer_types": ["full_attention", "full_attention"]},
    "PARSeqBackbone": {
        "image_encoder": "ViTBackbone", "max_label_length": 8, "decoder_hidden_dim": 16,
        "num_decoder_layers": 2, "num_decoder_heads": 2, "decoder_mlp_dim": 16,
    },
    "RWKV7Backbone": {"head_size": 8},
    "ResNetBackbone": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    },
    "RetinaNetBackbone": {
        "image_encoder": "ResNetBackbone", "min_level": 2, "max_level": 3, "use_p5": False,
    },
    "RoformerV2Backbone": {"head_size": 8},
    "SegFormerBackbone": {"image_encoder": "MiTBackbone", "projection_filters": 8},
    "SwinTransformerBackbone": {
        "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "embed_dim": 8,
        "image_shape": (64, 64, 3),
    },
    "T5Gemma2Backbone": {"sliding_window": 4},
    "T5GemmaBackbone": {"sliding_window": 4},
    "VGGBackbone": {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8]},
    "XceptionBackbone": {
        "stackwise_conv_filters": [[8, 8], [8, 8]], "stackwise_pooling": [True, False],
    },
    "T5Backbone": {"key_value_dim": 8},
}  # fmt: skip
# Where a free length must be longer than 8: for the strides before the first layer.
LENGTHS = {
    "SigLIPBackbone": 16,
    "MoonshineBackbone": 1024,
    "BASNetBackbone": 64,
    "DFineBackbone": 32,
}
NEEDED = inspect.Parameter.empty


class NotBuiltError(Exception):
    """No small model that runs: why."""


def names():
    """KerasHub's backbones, by name."""
    import keras_hub

    found = [name for name in dir(keras_hub.models) if name.endswith("Backbone")]
    return [name for name in found if name not in ("Backbone", "FeaturePyramidBackbone")]


def small(name):
    """The model, its weights a function of their paths and shapes alone: in which order a model
    lists them is another on each backend."""
    keras.utils.set_random_seed(0)
    return weighted(backbone(name))


def backbone(name):
    import keras_hub

    return built(getattr(keras_hub.models, name), name, OWN.get(name, {}))


def built(kind, name, own):
    """A model or layer of these sizes. own : what only it means by an argument's name."""
    how = {}
    for argument, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if argument in ("self", "dtype", "name", "data_format") and argument not in own:
            continue
        size = _size(own, argument, parameter.default)
        if isinstance(size, Part):
            place, _, inner = size.place.partition(":")
            module = import_module(f"keras_hub.src.models.{place}")
            size = built(getattr(module, inner), inner, {**OWN.get(inner, {}), **size.own})
        elif isinstance(size, str) and size.endswith("Backbone"):
            size = backbone(size)
        if size is not NEEDED:
            how[argument] = size
        elif parameter.default is NEEDED:
            raise NotBuiltError(f"no small value is known for {argument} of {name}")
    try:
        return kind(**how)
    except Exception as error:  # whatever a constructor says of these sizes
        raise NotBuiltError(f"{type(error).__name__}: {line(error)}") from error


def weighted(model):
    rng = np.random.default_rng(0)
    for weight in sorted(model.weights, key=lambda weight: (weight.path, tuple(weight.shape))):
        drawn = rng.standard_normal(tuple(weight.shape))
        value = keras.ops.convert_to_numpy(weight)
        if value.dtype.kind == "f" and value.size and np.ptp(value) > 0:  # ones and zeros stay
            weight.assign((0.1 * drawn).astype(value.dtype))
    return model


def line(error):
    """What an error says, on one line."""
    return re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))[:120]


def _size(own, argument, default):
    if argument in own:
        return own[argument]
    if argument.endswith(RATES):
        return RATE
    if argument in SIZES and (default is NEEDED or default is not None):
        return SIZES[argument]
    if default is NEEDED or _is_large(default):
        return next((size for end, size in ENDS if argument.endswith(end)), NEEDED)
    return NEEDED


def _is_large(default):
    if isinstance(default, tuple):
        return True
    return isinstance(default, int) and not isinstance(default, bool) and default > 16


def inputs_of(model):
    """Arrays for the model's symbolic inputs: a batch of 4, 8 where a length is free, ids below 40,
    and masks of ones. By their names: Keras's backends go through a dictionary in other orders."""

    def made(spec):
        rng = np.random.default_rng(crc32(spec.name.encode()))
        free = LENGTHS.get(type(model).__name__, 8)
        shape = [4, *(free if n is None else int(n) for n in spec.shape[1:])]
        kind = keras.backend.standardize_dtype(spec.dtype)
        if "mask" in spec.name and "mask_positions" not in spec.name:
            return np.ones(shape, kind)
        if "int" in kind:
            ids = "segment" in spec.name or "position" in spec.name
            return rng.integers(0, 2 if ids else 40, shape).astype(kind)
        return rng.random(shape).astype(kind)

    return keras.tree.map_structure(made, model.input)
