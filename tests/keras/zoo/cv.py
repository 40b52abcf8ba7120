"""Small models of keras-cv's with random weights. It imports beside TensorFlow alone."""

import inspect

import keras

from .small import NotBuiltError, line, weighted

RATE = 0.2
PLAIN = {"include_rescaling": False, "input_shape": (32, 32, 3)}
EFFICIENT = {
    "stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [2, 2],
    "stackwise_input_filters": [8, 8], "stackwise_output_filters": [8, 8],
    "stackwise_expansion_ratios": [1, 2], "stackwise_strides": [1, 1],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
    "stackwise_conv_types": ["fused", "unfused"],
    "width_coefficient": 1.0, "depth_coefficient": 1.0, "dropout_rate": RATE,
    "drop_connect_rate": RATE, "skip_connection_dropout": RATE,
}  # fmt: skip
MIT = {"depths": [1, 1, 1, 1], "embedding_dims": [32, 64, 160, 256]}
BACKBONES = {
    "CSPDarkNetBackbone": {"stackwise_channels": [8, 16], "stackwise_depth": [1, 1]},
    "DenseNetBackbone": {"stackwise_num_repeats": [1, 1], "growth_rate": 4},
    "EfficientNetLiteBackbone": {
        **EFFICIENT, "stackwise_input_filters": [32, 8], "stackwise_output_filters": [8, 8],
    },
    "EfficientNetV1Backbone": EFFICIENT,
    "EfficientNetV2Backbone": EFFICIENT,
    "MiTBackbone": MIT,
    "MobileNetV3Backbone": {
        "stackwise_expansion": [1, 2], "stackwise_filters": [8, 8],
        "stackwise_kernel_size": [3, 3], "stackwise_stride": [1, 1],
        "stackwise_se_ratio": [0.25, None], "stackwise_activation": ["relu", "hard_swish"],
    },
    "ResNetBackbone": {
        "stackwise_filters": [8, 16], "stackwise_blocks": [1, 1], "stackwise_strides": [1, 2],
    },
    "VideoSwinBackbone": {
        "input_shape": (4, 32, 32, 3), "embed_dim": 8, "patch_size": [2, 4, 4],
        "window_size": [2, 2, 2], "drop_rate": RATE, "attn_drop_rate": RATE,
        "drop_path_rate": RATE, "depths": [2, 2], "num_heads": [2, 2],
    },
    "ViTDetBackbone": {
        "patch_size": 8, "embed_dim": 16, "depth": 2, "mlp_dim": 16, "num_heads": 2,
        "out_chans": 8, "window_size": 2, "global_attention_indices": [1],
    },
}  # fmt: skip


def _chain(*layers):
    x = y = keras.Input((8, 8, 4))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


def _layers():
    """Its layers that drop, each in a model of its own."""
    from keras_cv import layers

    return {
        "layers.DropBlock2D": lambda: _chain(layers.DropBlock2D(RATE, block_size=3)),
        "layers.DropPath": lambda: _chain(layers.DropPath(RATE)),
        "layers.SpatialPyramidPooling": lambda: _chain(
            layers.SpatialPyramidPooling([1, 2], num_channels=4, dropout=RATE)
        ),
        "layers.StochasticDepth": _residual,
        "layers.TransformerEncoder": lambda: _chain(
            keras.layers.Reshape((64, 4)),
            layers.TransformerEncoder(4, 2, 8, mlp_dropout=RATE, attention_dropout=RATE),
        ),
    }


def _residual():
    from keras_cv import layers

    x = keras.Input((8, 8, 4))
    y = keras.layers.Conv2D(4, 1)(x)
    return keras.Model(x, layers.StochasticDepth(RATE)([x, y]))


def names():
    return [*BACKBONES, "SegFormer", *_layers()]


def small(name):
    """The model, with weights as those of KerasHub's models here."""
    keras.utils.set_random_seed(0)
    try:
        return weighted(_built(name))
    except Exception as error:  # whatever a constructor says of these sizes
        raise NotBuiltError(f"{type(error).__name__}: {line(error)}") from error


def _built(name):
    from keras_cv import models

    if name in BACKBONES:
        kind = getattr(models, name)
        asked = inspect.signature(kind.__init__).parameters
        how = {**PLAIN, **BACKBONES[name]}
        return kind(**{key: value for key, value in how.items() if key in asked})
    if name == "SegFormer":
        inner = _built("MiTBackbone")
        return models.SegFormer(backbone=inner, num_classes=3, projection_filters=8)
    return _layers()[name]()
