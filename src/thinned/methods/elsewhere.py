"""Names that the catalogue has no row for, each with the reason and where to go instead."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ELSEWHERE", "Elsewhere"]


class Elsewhere(NamedTuple):
    """names : as people type them. reason : what follows "NAME is not in the catalogue: "."""

    names: tuple[str, ...]
    reason: str


ELSEWHERE = (
    Elsewhere(
        ("swapout",),
        "it drops both a branch and its shortcut (Singh, Hoiem, Forsyth, 2016, arXiv:1605.06465). "
        "Write thinned.vanilla_dropout(x, p, at_x) + thinned.vanilla_dropout(f, q, at_f), with two "
        "sites.",
    ),
    Elsewhere(
        ("deep_ensemble", "deep_ensembles", "batch_ensemble"),
        "it trains several networks, or several sets of factors. Of one network, "
        "thinned.members.predict asks many thinned ones, and masksembles a few fixed ones.",
    ),
    Elsewhere(("maxout",), "it is an activation function. It drops nothing."),
    Elsewhere(
        ("bpe_dropout", "subword_dropout", "subword_regularization"),
        "it changes how a text is cut into tokens (Provilkov et al., 2019, arXiv:1910.13267), "
        "which the tokeniser does.",
    ),
    Elsewhere(
        ("spec_augment", "spec_dropout", "time_masking", "frequency_masking", "mask_time_prob",
         "mask_feature_prob", "xy_masking"),
        "it zeroes spans of time and of frequency (Park et al., 2019, arXiv:1904.08779). "
        "thinned.hidden_cut zeroes spans along one axis, and thinned.cutout rectangles.",
    ),
    Elsewhere(
        ("hide_and_seek", "HaS", "grid_mask", "grid_dropout"),
        "it hides cells of a grid of the image. Draw thinned.keep_mask of the grid's shape, and "
        "repeat its cells by numpy.kron.",
    ),
    Elsewhere(
        ("max_pooling_dropout", "stochastic_pooling"),
        "it draws within a pool. Dropout before the max pooling is its nearest relative "
        "(Wu and Gu, 2015, arXiv:1512.01400).",
    ),
    Elsewhere(
        ("quant_noise", "quant_noise_pq"),
        "it quantises random blocks of weights (Fan et al., 2020, arXiv:2004.07320), and drops "
        "nothing.",
    ),
    Elsewhere(
        ("maxdrop",),
        "it drops the largest activation of each channel (Park and Kwak, 2016, ACCV).",
    ),
    Elsewhere(
        ("max_dropout",),
        "it drops the largest activations of a layer (Santos et al., 2020, arXiv:2007.13723).",
    ),
    Elsewhere(
        ("dropmax",),
        "it drops classes of the softmax, with learned probabilities (Lee et al., 2018, "
        "arXiv:1712.07834).",
    ),
    Elsewhere(
        ("scheduled_sampling", "teacher_forcing"),
        "it replaces inputs of a decoder by its own outputs, and drops nothing.",
    ),
    Elsewhere(
        ("block_drop",),
        "it is a trained policy that skips residual blocks at inference (Wu et al., 2018, "
        "arXiv:1711.08393). layer_drop skips random ones in training.",
    ),
    Elsewhere(
        ("drop_activation",),
        "it replaces a random activation function by the identity (Liang et al., 2018, "
        "arXiv:1811.05850). With m = thinned.keep_mask(x.shape, p, at) it is "
        "where(m, relu(x), x) in training.",
    ),
    Elsewhere(
        ("drop_in", "gradual_drop_in"),
        "it adds layers to a network during training (Smith et al., 2016, arXiv:1511.06951). "
        "thinned.torch has the drop-in modules for torch.nn's.",
    ),
    Elsewhere(
        ("auto_dropout",),
        "it searches dropout patterns by reinforcement learning (Pham and Le, 2021, "
        "arXiv:2101.01761).",
    ),
    Elsewhere(
        ("disout", "feature_map_distortion"),
        "it distorts blocks of a feature map instead of dropping them (Tang et al., 2020, "
        "arXiv:2002.11022). drop_block drops them.",
    ),
    Elsewhere(
        ("weighted_channel_dropout", "focused_dropout", "contextual_dropout", "ising_dropout"),
        "its probabilities are computed from the activations. Of this kind there are standout, "
        "excitation_dropout and targeted_dropout.",
    ),
    Elsewhere(
        ("evolutional_dropout", "multinomial_dropout", "data_dependent_dropout"),
        "its probabilities are computed from the second moments of a batch (Li et al., 2016, "
        "arXiv:1602.02220). Compute them, and give them as p: an array that broadcasts to x.",
    ),
    Elsewhere(
        ("dart",),
        "it drops trees of a boosted ensemble (Rashmi and Gilad-Bachrach, 2015, "
        "arXiv:1505.01866), not units of a network.",
    ),
    Elsewhere(
        ("mixup", "cutmix", "manifold_mixup", "label_smoothing", "weight_decay", "laplace",
         "laplace_approximation", "noisy_student", "snapshot", "snapshot_ensemble", "SWA", "SWAG",
         "stochastic_weight_averaging", "layer_scale", "flipout", "bayes_by_backprop",
         "early_stopping"),
        "it is no dropout: nothing of the network is dropped at random.",
    ),
    Elsewhere(
        ("co_adaptation", "regularizer", "regularisation", "regularization", "overfitting", "L2",
         "ridge"),
        "it is no method but a subject: docs/learn/regulariser.md, Why dropout regularises.",
    ),
    Elsewhere(
        ("thinned_network", "thinned_networks", "subnetwork", "subnet", "model_averaging",
         "weight_scaling"),
        "it is no method but a subject: docs/learn/networks.md, 2^n thinned networks.",
    ),
    Elsewhere(
        ("thin", "thinning", "thin_execution"),
        "it is no method but a way to run one: thinned.torch.thin(model), docs/thin.md.",
    ),
    Elsewhere(
        ("calibration", "calibrate", "temperature", "conformal", "conformal_prediction",
         "temperature_scaling",
         "ECE", "NLL", "CRPS", "brier_score", "AURC", "CQR", "APS", "RAPS", "PIT", "MPIW", "PICP",
         "prediction_interval", "error_bars"),
        "it measures or corrects predictions: thinned.members.calibration, docs/uncertainty.md.",
    ),
    Elsewhere(
        ("choose_p", "which_p", "how_to_choose_p", "best_p"),
        "it is no method but a question: docs/learn/choose-p.md, and `thinned fit`.",
    ),
    Elsewhere(("lora_alpha", "lora_r"), "it sets an adapter's size. It drops nothing."),
    Elsewhere(
        ("rnn", "lstm", "gru", "cnn", "conv", "convolution", "resnet", "transformer",
         "vit", "llm", "gnn", "graph", "diffusion", "mlp", "table", "text", "words", "tokens",
         "images", "vision", "language_model", "reinforcement_learning"),
        "it is a kind of model or data: docs/methods/which.md says which method fits it.",
    ),
    Elsewhere(
        ("prune", "pruning", "sparse", "sparsity", "compression"),
        "it is no method but a purpose: targeted_dropout, hard_concrete and "
        "sparse_variational_dropout train networks that can be pruned.",
    ),
    Elsewhere(
        ("data_augmentation", "augmentation"),
        "it changes inputs. Of this kind there are cutout, random_erasing and hidden_cut.",
    ),
    Elsewhere(
        ("attention_mask", "causal_mask", "padding_mask", "key_padding_mask"),
        "it says which keys a query may see, and is not random. attention_dropout drops weights "
        "of attention, drop_key its logits.",
    ),
    Elsewhere(
        ("batch_bald", "EPIG", "active_learning"),
        "it chooses rows to label. Its ingredient is here: the mutual_information of "
        "thinned.members.predict.",
    ),
    Elsewhere(
        ("dropout_and_batch_norm", "batch_norm_dropout", "batch_norm", "batch_normalization"),
        "dropout before it shifts its statistics: docs/methods/which.md, the section on batch "
        "normalisation.",
    ),
)  # fmt: skip
