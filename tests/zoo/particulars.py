"""What single architectures need that no rule gives: fields of their configuration."""

PARTICULARS: dict[str, dict] = {
    "led": {"attention_window": 4},
    "bamba": {"attn_layer_indices": [1]},  # of two layers one that attends
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "cvt": {"depth": [1, 2, 3]},  # it takes a stage's rate by the stage's number among layers
    "diffllama": {"attention_dropout": 0.0},  # it refuses one
    # Where its encoder skips a layer, transformers 5.24 hands None to the next one.
    "pegasus_x": {"encoder_layerdrop": 0.0},
    # 16 samples of sound for each frame, where 256 take minutes.
    "vits": {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8]},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
}
