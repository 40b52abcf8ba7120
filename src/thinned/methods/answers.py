"""What people call methods, beyond the names of libraries: words of papers, and names of arguments.

The rows hold the libraries' names. Here stand the names that belong to no row alone, each with the
row that answers it, and with a sentence where the row by itself would mislead.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ANSWERS", "Answer"]


class Answer(NamedTuple):
    """names : as people type them; case, blanks and underscores do not matter.
    row : the name of the row that answers them, or None where the catalogue has none.
    remark : what must be said beside it, or "".
    """

    names: tuple[str, ...]
    row: str | None
    remark: str = ""


ANSWERS = (
    Answer(
        (
            "mc_dropout", "monte_carlo_dropout", "bayesian_dropout", "bayesian", "uncertainty",
            "test_time_dropout", "MC", "ensemble", "implicit_ensemble", "dropout_ensemble",
            "members", "BALD",
        ),
        "dropout",
        "MC dropout is dropout that stays on after training, over many masks: "
        "thinned.members.predict(model, x, members=64), docs/members.md.",
    ),
    Answer(
        ("inverted", "inverted_dropout"),
        "dropout",
        "Inverted dropout scales in training and does nothing in evaluation, as dropout does here. "
        "The form that scales in evaluation is vanilla_dropout.",
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
            "dropout_prob", "drop_prob", "dropout_p", "p", "proj_drop", "pos_drop", "ffn_dropout",
            "activation_dropout", "classifier_dropout", "head_drop", "input_dropout", "bernoulli",
            "bernoulli_dropout", "binary", "binary_dropout", "unit_dropout",
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
            "stoch_depth", "path_drop", "residual_drop",
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
            "channel", "channelwise", "channel_wise_dropout", "channel_dropout", "2d_dropout",
            "feature_map", "feature_map_dropout", "dropout_2d", "dropout_1d", "dropout_3d",
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
    Answer(("continuous", "continuous_dropout"), "uniform_dropout"),
    Answer(("multiplicative_gaussian", "gaussian_multiplicative_noise"), "gaussian_dropout"),
    Answer(("selu_dropout",), "alpha_dropout"),
    Answer(("block_dropout", "dropblock2d", "structured_dropout"), "drop_block"),
    Answer(("token_dropout", "unk_dropout", "word_dropout_rate"), "word_dropout"),
    Answer(("patch_drop", "token_drop", "masked_tokens"), "patch_dropout"),
    Answer(("embed_dropout", "vocabulary_dropout"), "embedding_dropout"),
    Answer(("weight_dropout", "wdrop", "hidden_to_hidden_dropout"), "weight_drop"),
    Answer(("erase", "erasing", "reprob"), "random_erasing"),
    Answer(("layer_dropout", "skip_layers", "structured_layer_dropout"), "layer_drop"),
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
        ),
        "condition_dropout",
    ),
    Answer(
        ("moddrop", "modal_dropout", "modality_drop", "sensor_dropout", "view_dropout"),
        "modality_dropout",
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
        ("swapout",),
        None,
        "it drops both a branch and its shortcut (Singh, Hoiem, Forsyth, 2016, arXiv:1605.06465). "
        "Write thinned.vanilla_dropout(x, p, at_x) + thinned.vanilla_dropout(f, q, at_f), with two "
        "sites.",
    ),
    Answer(
        ("additive_noise", "noise_injection", "input_noise"),
        "gaussian_noise",
        "It adds noise. The form that multiplies is gaussian_dropout.",
    ),
    Answer(
        ("deep_ensemble", "deep_ensembles", "batch_ensemble"),
        None,
        "it trains several networks, or several sets of factors. Of one network, "
        "thinned.members.predict asks many thinned ones, and masksembles a few fixed ones.",
    ),
    Answer(("maxout",), None, "it is an activation function. It drops nothing."),
)  # fmt: skip
