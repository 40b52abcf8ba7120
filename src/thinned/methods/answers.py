"""What people call methods, beyond the names of libraries: words of papers, and names of arguments.

The rows hold the libraries' names. Here stand the names that belong to no row alone, each with the
row that answers it, and with a sentence where the row by itself would mislead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from thinned.methods.elsewhere import ELSEWHERE

__all__ = ["ANSWERS", "Answer", "in_a_place", "shortened"]


class Answer(NamedTuple):
    """names : as people type them; case, blanks and underscores do not matter.
    row : the name of the row that answers them, or None where the catalogue has none.
    remark : a sentence to print beside the row, or "".
    """

    names: tuple[str, ...]
    row: str | None
    remark: str = ""


ANSWERS = (
    Answer(
        (
            "mc_dropout", "monte_carlo_dropout", "monte_carlo", "bayesian_dropout", "bayesian",
            "uncertainty",
            "test_time_dropout", "MC", "ensemble", "implicit_ensemble", "dropout_ensemble",
            "members", "member", "BALD", "approximate_inference", "stochastic_forward_passes",
            "epistemic", "epistemic_uncertainty", "model_uncertainty", "predictive_entropy",
            "dropout_at_test_time",
        ),
        "dropout",
        "MC dropout is dropout that stays on after training, over many masks: "
        "thinned.members.predict(model, x, members=64), docs/members.md.",
    ),
    Answer(
        ("mask", "dropout_mask"),
        "dropout",
        "The mask itself is thinned.keep_mask(shape, p, at), with True for what is kept.",
    ),
    Answer(
        ("backward", "backward_pass", "gradient", "dropout_backward"),
        "dropout",
        "The backward pass is the same call on the gradient, with the same address: "
        "docs/learn/by-hand.md. With the cache of the courses: thinned.classic.dropout_backward.",
    ),
    Answer(
        ("seed", "random_seed", "manual_seed", "random_state", "rng", "rngs", "generator", "key"),
        "dropout",
        "The seed is a part of the address: thinned.Address(seed=0, site=\"fc1\", step=7).",
    ),
    Answer(
        ("time_dropout", "temporal_dropout", "sequence_dropout", "timestep_dropout"),
        "dropout",
        "For whole time steps of an array (samples, time, features): shared_axes=(2,). For one "
        "mask at all time steps it is locked_dropout.",
    ),
    Answer(
        ("inverted", "inverted_dropout"),
        "dropout",
        "Inverted dropout scales in training and does nothing in evaluation, as dropout does here. "
        "The form that scales in evaluation is vanilla_dropout.",
    ),
    Answer(
        ("noise_shape",),
        "dropout",
        "Axes that have length 1 in noise_shape are shared_axes here.",
    ),
    Answer(
        ("DropoutWrapper",),
        "dropout",
        "For recurrent networks thinned.torch.LSTM has dropout of inputs, states and weights. "
        "TensorFlow's keep_prob is 1 - p.",
    ),
    Answer(("pixel_dropout",), "dropout", "One draw for all channels: shared_axes=(1,)."),
    Answer(
        ("feature_mask", "mask_feature", "feature_masking", "drop_feature"),
        "dropout",
        "One draw for each feature, shared by all rows: shared_axes=(0,).",
    ),
    Answer(
        ("token_cutoff", "feature_cutoff"),
        "dropout",
        "Cutoff (Shen et al., 2020, arXiv:2009.13818) of embeddings (rows, tokens, features): "
        "shared_axes=(2,) for tokens, (1,) for features. For spans it is hidden_cut.",
    ),
    Answer(
        ("keep_prob", "keep_probability", "retain_prob", "keep_rate"),
        "dropout",
        "It is the probability to keep: p = 1 - keep_prob.",
    ),
    Answer(
        (
            "hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "residual_dropout",
            "embd_pdrop", "embd_drop", "emb_dropout", "dropout_rate", "drop_rate", "rate",
            "dropout_prob", "drop_prob", "dropout_p", "p", "p_drop", "proj_drop", "pos_drop",
            "ffn_dropout", "activation_dropout", "classifier_dropout", "head_drop",
            "input_dropout", "bernoulli", "bernoulli_dropout", "binary", "binary_dropout",
            "unit_dropout",
        ),
        "dropout",
    ),
    Answer(
        (
            "attn_pdrop", "attn_drop_rate", "attn_dropout", "attention_dropout_prob", "dropout_att",
            "attention_probs_dropout", "attn_p",
        ),
        "attention_dropout",
    ),
    Answer(
        (
            "drop_path_rate", "drop_path_prob", "stochastic_depth_prob", "stochastic_depth_rate",
            "stoch_depth", "path_drop", "residual_drop", "sd_prob", "skip_connection_dropout",
        ),
        "drop_path",
    ),
    Answer(
        ("survival_prob", "survival_probability", "survival_rate"),
        "drop_path",
        "It is the probability to keep: p = 1 - survival_prob.",
    ),
    Answer(
        ("drop_connect_rate", "connect_rate"),
        "drop_path",
        "EfficientNet's drop_connect_rate drops residual branches: it is drop_path. DropConnect "
        "itself, of weights, is drop_connect.",
    ),
    Answer(
        (
            "channel", "channel_drop", "channelwise", "channel_wise_dropout", "channel_dropout",
            "2d_dropout", "feature_map", "feature_map_dropout", "dropout_2d", "dropout_1d",
            "dropout_3d",
        ),
        "spatial_dropout",
    ),
    Answer(("adaptive", "adaptive_dropout", "binary_belief_network"), "standout"),
    Answer(
        ("variational",),
        "variational_dropout",
        "In recurrent networks, where one mask serves all time steps, it is locked_dropout.",
    ),
    Answer(
        ("variational_rnn", "bayesian_rnn", "rnn_dropout", "variational_lstm", "tied_dropout"),
        "locked_dropout",
    ),
    Answer(
        ("awd_lstm",),
        "weight_drop",
        "AWD-LSTM's wdrop is weight_drop, its dropouti and dropouth are locked_dropout, and its "
        "dropoute is embedding_dropout.",
    ),
    Answer(("dropouti", "dropouth", "lockdrop", "lock_dropout", "dropout_W"), "locked_dropout"),
    Answer(
        ("dropout_U",),
        "locked_dropout",
        "Of the recurrent state, as Gal and Ghahramani (2015, arXiv:1512.05287) drop it; "
        "thinned.torch.LSTM has it as recurrent_p.",
    ),
    Answer(("dropoute",), "embedding_dropout"),
    Answer(("zoneout_hidden",), "zoneout"),
    Answer(
        ("ordered_dropout", "fjord"),
        "nested_dropout",
        "FjORD (Horvath et al., 2021, arXiv:2102.13451) draws one width for a whole step.",
    ),
    Answer(
        ("matryoshka", "matryoshka_representation_learning"),
        "nested_dropout",
        "Matryoshka training (Kusupati et al., 2022, arXiv:2205.13147) adds the losses of several "
        "prefixes; nested dropout draws one prefix.",
    ),
    Answer(
        ("quantizer_dropout", "quantize_dropout"),
        "nested_dropout",
        "Residual quantisers (Zeghidour et al., 2021, arXiv:2107.03312) use the first few of "
        "their codebooks: nested dropout along the axis of codebooks.",
    ),
    Answer(
        ("variational_information_bottleneck", "VIB"),
        "information_dropout",
        "The bottleneck of Alemi et al. (2016, arXiv:1612.00410) adds its noise; information "
        "dropout multiplies by it.",
    ),
    Answer(
        ("GRAND", "random_propagation"),
        "drop_node",
        "GRAND (Feng et al., 2020, arXiv:2005.11079) drops nodes' rows, propagates, and adds a "
        "consistency loss over several draws.",
    ),
    Answer(("drop_gnn",), "drop_node", "DropGNN averages several runs with nodes dropped."),
    Answer(
        ("graph_dropout",),
        "drop_edge",
        "It drops edges. For nodes there is drop_node, for messages drop_message.",
    ),
    Answer(("gradient_dropout", "gradient_drop"), "drop_grad"),
    Answer(("weight_noise",), "gaussian_noise", "Give it the weight in place of the activations."),
    Answer(
        ("dropout_schedule", "schedule", "dropout_scheduler", "scheduled_dropout", "dropout_decay",
         "dropout_rate_schedule", "warmup_dropout"),
        "scheduled_drop_path",
        "thinned.schedules has p over training and over depth, for any method.",
    ),
    Answer(("continuous", "continuous_dropout"), "uniform_dropout"),
    Answer(("multiplicative_gaussian", "gaussian_multiplicative_noise"), "gaussian_dropout"),
    Answer(("selu_dropout", "selu", "SNN"), "alpha_dropout"),
    Answer(("block_dropout", "dropblock2d", "structured_dropout", "block_size"), "drop_block"),
    Answer(("token_dropout", "unk_dropout", "word_dropout_rate", "tag_dropout"), "word_dropout"),
    Answer(("patch_drop", "token_drop", "drop_token", "masked_tokens"), "patch_dropout"),
    Answer(("embed_dropout", "vocabulary_dropout"), "embedding_dropout"),
    Answer(("weight_dropout", "wdrop", "hidden_to_hidden_dropout"), "weight_drop"),
    Answer(("erase", "erasing", "reprob"), "random_erasing"),
    Answer(
        ("layer_dropout", "skip_layers", "structured_layer_dropout", "layer_skip"), "layer_drop"
    ),
    Answer(("l0", "l0_gates", "l0_regularization"), "hard_concrete"),
    Answer(("ard", "sparse_vd", "sparse_vi"), "sparse_variational_dropout"),
    Answer(("consistency", "regularized_dropout"), "r_drop"),
    Answer(("annealing", "dropout_annealing"), "annealed_dropout"),
    Answer(("k_of_n", "exact", "exact_dropout", "fixed_size_dropout"), "k_of_n_dropout"),
    Answer(("fast", "moment_matching", "deterministic_dropout"), "fast_dropout_moments"),
    Answer(
        (
            "cfg", "cfg_dropout", "class_dropout", "class_dropout_prob", "caption_dropout",
            "caption_dropout_rate", "cond_drop_prob", "conditioning_dropout", "label_dropout",
            "prompt_dropout", "text_dropout", "uncond_prob", "unconditional_prob", "ucg_rate",
            "uncond_p",
        ),
        "condition_dropout",
    ),
    Answer(
        ("moddrop", "modal_dropout", "modality_drop", "sensor_dropout", "sensor_drop",
         "view_dropout"),
        "modality_dropout",
    ),
    Answer(
        ("progressive_layer_dropping", "progressive_layer_drop", "PLD"),
        "layer_drop",
        "Its p grows over training and over depth (Zhang and He, 2020, arXiv:2010.13369): "
        "thinned.schedules has both.",
    ),
    Answer(
        ("fractal_net", "fractal_drop_path"),
        "drop_path",
        "FractalNet (Larsson et al., 2017, arXiv:1605.07648), where the name is from, drops the "
        "paths that join, and keeps at least one. drop_path drops residual branches.",
    ),
    Answer(
        ("batch_drop_block", "batch_drop_block_network"),
        "drop_block",
        "Batch DropBlock (Dai et al., 2019, arXiv:1811.07130) drops one rectangle in all images "
        "of a batch: multiply by thinned.cutout(ones, 1.0, at, size=...) of one image of ones.",
    ),
    Answer(("lora_rank_dropout",), "rank_dropout"),
    Answer(("lora_module_dropout",), "module_dropout"),
    Answer(("lora_sparsity", "sparse_lora"), "sparse_lora_dropout"),
    Answer(("column_wise_drop_key", "key_dropout"), "hidden_key"),
    Answer(("span_dropout", "cutoff", "span_cutoff"), "hidden_cut"),
    Answer(
        ("backward_dropout", "drop_backward", "dropping_backward_propagation"), "drop_bp"
    ),
    Answer(("mask_path", "random_walk_dropout", "path_masking"), "dropout_path"),
    Answer(
        ("consistent", "consistent_dropout", "policy_gradient_dropout"),
        "dropout",
        "A policy's update must see the masks of its rollout (Hausknecht and Wagener, 2022, "
        "arXiv:2202.11818). Keep the address of each step, Address(seed, site, step=t), and give "
        "it again in the update: nothing else has to be stored.",
    ),
    Answer(("stochastic_deactivation",), "dropout", "It is thinned.classic's."),
    Answer(
        ("additive_noise", "noise_injection", "input_noise", "noise"),
        "gaussian_noise",
        "It adds noise. The form that multiplies is gaussian_dropout.",
    ),
    Answer(
        ("training", "is_training", "train", "train_mode", "eval", "eval_mode", "model_eval",
         "deterministic", "inference", "inference_mode", "disable_dropout", "turn_off_dropout",
         "dropout_at_inference", "freeze_dropout"),
        "dropout",
        "The mode is training=; in PyTorch model.train() and model.eval() set it. Flax's "
        "deterministic and Equinox's inference are its opposite.",
    ),
    Answer(
        ("broadcast_dims", "broadcast_dropout", "shared_axes", "same_mask", "group_dropout",
         "row_dropout", "column_dropout", "batch_dropout"),
        "dropout",
        "Along shared_axes one draw is shared: (0,) gives all rows of a batch one mask.",
    ),
    Answer(
        ("scale", "scaling", "rescale", "scale_by_keep"),
        "dropout",
        "Kept elements are scaled by 1 / (1 - p) in training. Without a scale it is "
        "vanilla_dropout.",
    ),
    Answer(
        ("fused_dropout", "dropout_add", "bias_dropout_add", "dropout_add_layer_norm"),
        "dropout",
        "With what stands around it, in one pass: thinned.torch.bias_dropout_add and "
        "dropout_add_norm.",
    ),
    Answer(("random_dropout", "stochastic_dropout", "regular_dropout", "inplace"), "dropout"),
    Answer(("dropout_nd", "drop_filter", "filter_dropout"), "spatial_dropout"),
    Answer(("sdpa", "flash_attention"), "attention_dropout"),
    Answer(
        ("masked_autoencoder", "MAE", "mask_ratio"),
        "patch_dropout",
        "A masked autoencoder drops most patches (He et al., 2021, arXiv:2111.06377) and learns to "
        "reconstruct them; patch_dropout draws which ones stay.",
    ),
    Answer(
        ("masked_language_model", "MLM", "mask_token", "mlm_probability"),
        "word_dropout",
        "A masked language model learns to predict the tokens that were replaced; word_dropout "
        "only replaces them.",
    ),
    Answer(("gumbel", "gumbel_softmax", "relaxed_bernoulli"), "concrete_dropout"),
    Answer(("vd",), "variational_dropout"),
    Answer(("mask_ensembles",), "masksembles"),
    *(Answer(names, None, reason) for names, reason in ELSEWHERE),
)  # fmt: skip

# Words of arguments that say where in a network dropout stands: classifier_dropout, mlp_drop_rate.
PLACES = {
    "act", "activation", "attn", "block", "bottom", "cls", "classif", "classifier", "cnn", "conv",
    "cross", "dec", "decoder", "dense", "emb", "embd", "embed", "embedding", "embeddings", "enc",
    "encoder", "expert", "fc", "feat", "feature", "ff", "ffn", "final", "first", "gelu", "gru",
    "head", "hidden", "in", "input", "last", "linear", "lm", "lstm", "mlp", "model", "moe", "out",
    "output", "pooler", "pos", "position", "post", "postnet", "pre", "predictor", "prenet", "proj",
    "projection", "qa",
    "quantizer", "relu", "resid", "residual", "router", "self", "seq", "state", "stem", "summary",
    "top", "transformer", "unit", "value",
}  # fmt: skip
_DROP = {"dropout", "drop", "pdrop", "dropouts"}
_RATES = ("probability", "prob", "rate", "ratio", "p")


def in_a_place(name: str) -> Answer | None:
    """The answer to dropout that is named after its place, or to a rate; None for other names.

    Examples
    --------
    >>> in_a_place("classifier_dropout_prob").row
    'dropout'
    >>> in_a_place("output_keep_prob").remark
    'It is the probability to keep: p = 1 - output_keep_prob.'
    """
    words: set[str] = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    if not words <= {"keep", "layer", *_DROP, *_RATES, *PLACES}:
        return None
    if "keep" in words and words & {*_DROP, *_RATES}:
        return Answer((name,), "dropout", f"It is the probability to keep: p = 1 - {name}.")
    return Answer((name,), "dropout") if words & _DROP else None


def shortened(name: str) -> Iterator[str]:
    """The name without the word for a rate at its end: attention_dropout_rate.

    Examples
    --------
    >>> list(shortened("modality_dropout_prob"))
    ['modality_dropout']
    """
    words = re.split(r"[\s_-]+", name)
    while len(words) > 1 and words[-1].lower() in _RATES:
        words.pop()
        yield "_".join(words)
        if words[-1].lower() == "drop":
            yield "_".join(words[:-1])
