"""The names that rules look for, as facts about the frameworks: what drops, and where p stands.

Positions count from 0, `self` apart. The test tests/audit/test_layers.py holds those of installed
packages against their signatures.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADDRESSED",
    "BATCH_NORM",
    "CARRYING",
    "CARRYING_METHODS",
    "DROPOUT_LAYERS",
    "FACTORIES",
    "FLASH",
    "FUNCTIONAL",
    "KERAS_DROPOUT",
    "LOSSES",
    "MODULES",
    "NORMALISING",
    "PASSING",
    "RATES",
    "RECURRENT",
    "SAVES_OUTPUT",
    "TENSOR_METHODS",
    "TORCH_DROPOUT",
    "Functional",
    "ranks",
]

_KINDS = (
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "FeatureAlphaDropout",
)
# Layers that drop elements or channels, with torch.nn's arguments (p, inplace).
TORCH_DROPOUT = frozenset(
    f"{room}.{kind}" for room in ("torch.nn", "thinned.torch") for kind in _KINDS
)
_TORCH_PATHS = frozenset(
    {"timm.layers.DropPath", "timm.layers.DropBlock2d", "torchvision.ops.StochasticDepth"}
    | {"torchvision.ops.DropBlock2d", "torchvision.ops.DropBlock3d"}
)
# Everything of PyTorch's world that is a module and drops.
DROPOUT_LAYERS = TORCH_DROPOUT | _TORCH_PATHS

_KERAS_KINDS = (
    "Dropout",
    "AlphaDropout",
    "GaussianDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
KERAS_DROPOUT = frozenset(f"keras.layers.{kind}" for kind in _KERAS_KINDS)


@dataclass(frozen=True, slots=True)
class Functional:
    """A function that drops: where p and the mode are passed, and the mode where it is not.

    `default` is None where the mode must be passed.
    """

    p: int
    training: int
    default: bool | None
    mode: str = "training"
    inplace: int | None = None


def _functional() -> dict[str, Functional]:
    table: dict[str, Functional] = {}
    for kind in ("dropout", "dropout1d", "dropout2d", "dropout3d"):
        table[f"torch.nn.functional.{kind}"] = Functional(1, 2, True, inplace=3)
        table[f"thinned.torch.functional.{kind}"] = Functional(1, 2, None, inplace=3)
    for kind in ("alpha_dropout", "feature_alpha_dropout"):
        table[f"torch.nn.functional.{kind}"] = Functional(1, 2, False, inplace=3)
        table[f"thinned.torch.functional.{kind}"] = Functional(1, 2, None, inplace=3)
    for kind in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
        table[f"torch.{kind}"] = table[f"torch.{kind}_"] = Functional(1, 2, None, "train")
    table["torch.nn.functional.multi_head_attention_forward"] = Functional(10, 13, True)
    table["torchvision.ops.stochastic_depth"] = Functional(1, 3, True)
    table["torchvision.ops.drop_block2d"] = Functional(1, 5, True)
    table["torchvision.ops.drop_block3d"] = Functional(1, 5, True)
    table["timm.layers.drop_path"] = Functional(1, 2, False)
    table["torch_geometric.utils.dropout_edge"] = Functional(1, 3, True)
    table["torch_geometric.utils.dropout_node"] = Functional(1, 3, True)
    table["torch_geometric.utils.dropout_path"] = Functional(1, 6, True)
    table["torch_geometric.utils.dropout_adj"] = Functional(2, 5, True)
    table["torch_geometric.utils.mask_feature"] = Functional(1, 4, True)
    table["tensorflow.layers.dropout"] = Functional(1, 4, False)
    table["paddle.nn.functional.dropout"] = Functional(1, 3, True)
    for kind in ("dropout2d", "dropout3d", "alpha_dropout"):
        table[f"paddle.nn.functional.{kind}"] = Functional(1, 2, True)
    return table


FUNCTIONAL = _functional()


def _addressed() -> dict[str, Functional]:
    training = {
        **dict.fromkeys(
            (
                "alpha_dropout", "attention_dropout", "concrete_dropout", "cutout", "drop_block",
                "drop_bp", "drop_edge", "drop_grad", "drop_head", "drop_key", "drop_message",
                "drop_node", "drop_path", "dropout", "dropout_path", "embedding_dropout",
                "feature_alpha_dropout", "gaussian_dropout", "hard_concrete", "hidden_cut",
                "hidden_key", "k_of_n_dropout", "keep_edges", "locked_dropout",
                "modality_dropout", "module_dropout", "nested_dropout", "patch_dropout",
                "random_erasing", "rank_dropout", "recurrent_dropout", "spatial_dropout",
                "stochastic_depth", "stratified_dropout", "targeted_dropout", "uniform_dropout",
                "vanilla_dropout", "weight_drop", "word_dropout",
            ),
            3,
        ),
        **dict.fromkeys(
            (
                "condition_dropout", "layer_drop", "mixout", "sparse_variational_dropout",
                "variational_dropout", "zoneout",
            ),
            4,
        ),
        "gaussian_noise": 2,
        "drop_connect": 5,
        "lora_dropout": 6,
        "sparse_lora_dropout": 6,
    }  # fmt: skip
    return {
        f"{room}.{name}": Functional(at - 2, at, True)
        for name, at in training.items()
        for room in ("thinned", "thinned.methods")
    }


# Functions of an address: p, at, training stand together. A draw is what they are called for, and
# so the default is training=True; in a module's method it is the mode that is forgotten.
ADDRESSED = _addressed()

# Fused attention: where its probability to drop stands. None of these knows the mode.
FLASH: dict[str, tuple[int, str]] = {
    "flash_attn.flash_attn_func": (3, "dropout_p"),
    "flash_attn.flash_attn_qkvpacked_func": (1, "dropout_p"),
    "flash_attn.flash_attn_kvpacked_func": (2, "dropout_p"),
    "flash_attn.flash_attn_varlen_func": (7, "dropout_p"),
    "flash_attn.flash_attn_varlen_qkvpacked_func": (3, "dropout_p"),
    "flash_attn.flash_attn_varlen_kvpacked_func": (6, "dropout_p"),
    "xformers.ops.memory_efficient_attention": (4, "p"),
}

# Where else a probability to drop is passed: position and name.
RATES: dict[str, tuple[int, str]] = {
    **dict.fromkeys(TORCH_DROPOUT, (0, "p")),
    **{name: (made.p, "p") for name, made in FUNCTIONAL.items()},
    **FLASH,
    "torch.nn.functional.scaled_dot_product_attention": (4, "dropout_p"),
    "thinned.torch.functional.scaled_dot_product_attention": (4, "dropout_p"),
    "torch.nn.functional.multi_head_attention_forward": (10, "dropout_p"),
    **{f"torch.nn.{kind}": (5, "dropout") for kind in ("LSTM", "GRU")},
    "torch.nn.MultiheadAttention": (2, "dropout"),
    "torch.nn.TransformerEncoderLayer": (3, "dropout"),
    "torch.nn.TransformerDecoderLayer": (3, "dropout"),
    "torch.nn.Transformer": (5, "dropout"),
    "torchvision.ops.StochasticDepth": (0, "p"),
    "torchvision.ops.DropBlock2d": (0, "p"),
    "torchvision.ops.DropBlock3d": (0, "p"),
    "timm.layers.DropPath": (0, "drop_prob"),
    "timm.layers.drop_path": (1, "drop_prob"),
    **dict.fromkeys(KERAS_DROPOUT, (0, "rate")),
    "keras.random.dropout": (1, "rate"),
    "tensorflow.nn.dropout": (1, "rate"),
    "tensorflow.nn.experimental.stateless_dropout": (1, "rate"),
    "flax.linen.Dropout": (0, "rate"),
    "flax.nnx.Dropout": (0, "rate"),
    "equinox.nn.Dropout": (0, "p"),
    "haiku.dropout": (1, "rate"),
    "thinned.dropout": (1, "p"),
    "thinned.keep_mask": (1, "p"),
}

# Functions of torchvision that build models which drop, at the rates that they have by default.
_DROPPING_MODELS = (
    *("alexnet", "googlenet", "inception_v3", "maxvit_t", "mobilenet_v2", "mobilenet_v3_large"),
    *("mobilenet_v3_small", "squeezenet1_0", "squeezenet1_1"),
    *(f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(f"efficientnet_b{n}" for n in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"swin{v}_{size}" for v in ("", "_v2") for size in "tsb"),
    *(f"mnasnet{n}" for n in ("0_5", "0_75", "1_0", "1_3")),
)
FACTORIES = frozenset(f"torchvision.models.{name}" for name in _DROPPING_MODELS)

RECURRENT = frozenset({"torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN"})

BATCH_NORM = frozenset(
    {f"torch.nn.BatchNorm{d}d" for d in (1, 2, 3)}
    | {f"torch.nn.LazyBatchNorm{d}d" for d in (1, 2, 3)}
    | {"torch.nn.SyncBatchNorm", "torch.nn.functional.batch_norm"}
    | {"keras.layers.BatchNormalization"}
)

_BETWEEN = (
    *("Linear", "LazyLinear", "Identity", "Flatten", "Unflatten", "Upsample", "PixelShuffle"),
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "CELU", "GELU", "SiLU", "Mish"),
    *("Tanh", "Sigmoid", "Hardtanh", "Hardswish", "Hardsigmoid", "Softplus", "Softsign"),
    *("Tanhshrink", "Softshrink", "Hardshrink", "LogSigmoid", "GLU", "Threshold"),
)
_OF_AXES = (
    *("Conv", "ConvTranspose", "LazyConv", "LazyConvTranspose", "MaxPool", "AvgPool", "LPPool"),
    *("AdaptiveAvgPool", "AdaptiveMaxPool", "ZeroPad", "ReflectionPad", "ReplicationPad"),
    *("ConstantPad", "CircularPad"),
)
_FUNCTIONS_BETWEEN = (
    *("linear", "bilinear", "relu", "relu_", "relu6", "leaky_relu", "prelu", "elu", "celu", "gelu"),
    *("silu", "mish", "tanh", "sigmoid", "hardtanh", "hardswish", "softplus", "softsign", "glu"),
    *("pad", "interpolate", "upsample", "pixel_shuffle", "logsigmoid", "tanhshrink"),
    *(f"{kind}{d}d" for kind in ("conv", "conv_transpose") for d in (1, 2, 3)),
    *(f"{kind}_pool{d}d" for kind in ("max", "avg", "lp") for d in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{d}d" for kind in ("max", "avg") for d in (1, 2, 3)),
)
_KERAS_BETWEEN = (
    *("Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Activation"),
    *("DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "ReLU", "LeakyReLU", "PReLU", "ELU"),
    *("Flatten", "Reshape", "Permute", "ZeroPadding1D", "ZeroPadding2D", "UpSampling2D"),
    *(f"{kind}Pooling{d}D" for kind in ("Max", "Average") for d in (1, 2, 3)),
    *(f"Global{kind}Pooling{d}D" for kind in ("Max", "Average") for d in (1, 2, 3)),
)
# What the noise of dropout passes through, so that its variance reaches what follows: layers that
# do not normalise.
CARRYING = frozenset(
    {f"torch.nn.{kind}" for kind in _BETWEEN}
    | {f"torch.nn.{kind}{d}d" for kind in _OF_AXES for d in (1, 2, 3)}
    | {f"torch.nn.functional.{f}" for f in _FUNCTIONS_BETWEEN}
    | {f"torch.{f}" for f in ("relu", "relu_", "tanh", "sigmoid", "flatten", "reshape", "squeeze")}
    | {f"torch.{f}" for f in ("unsqueeze", "transpose", "permute", "swapaxes", "movedim")}
    | {f"torch.{f}" for f in ("cat", "concat", "add", "sub", "mul", "matmul", "mm", "bmm")}
    | {f"keras.layers.{kind}" for kind in _KERAS_BETWEEN}
)
# The same as methods of a tensor.
CARRYING_METHODS = frozenset(
    {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute"}
    | {"swapaxes", "movedim", "contiguous", "t", "float", "half", "to", "clone", "relu", "relu_"}
    | {"tanh", "sigmoid", "add", "add_", "mul", "mul_", "sub", "div", "matmul", "mm"}
)

# The methods of a tensor that are followed as functions are.
TENSOR_METHODS = CARRYING_METHODS | frozenset(
    {"sigmoid", "tanh", "softmax", "log_softmax", "exp", "exp2", "expm1", "sqrt", "rsqrt", "tan"}
    | {"reciprocal", "cumprod", "norm", "relu", "relu_"}
)

# Turn scores into probabilities.
NORMALISING = frozenset(
    {"torch.nn.Softmax", "torch.nn.LogSoftmax", "torch.nn.Softmax2d", "torch.softmax"}
    | {"torch.log_softmax", "torch.nn.functional.softmax", "torch.nn.functional.log_softmax"}
    | {"flax.linen.softmax", "flax.linen.log_softmax", "jax.nn.softmax", "jax.nn.log_softmax"}
    | {"keras.layers.Softmax", "torch.Tensor.softmax", "torch.Tensor.log_softmax"}
)

# Losses that take logits first.
LOSSES = frozenset(
    {"torch.nn.CrossEntropyLoss", "torch.nn.BCEWithLogitsLoss", "torch.nn.NLLLoss"}
    | {"torch.nn.functional.cross_entropy", "torch.nn.functional.nll_loss"}
    | {"torch.nn.functional.binary_cross_entropy_with_logits"}
)

# What keeps its output for the backward pass, so that writing into it is an error there: the
# functions whose derivative, in PyTorch's derivatives.yaml, is written with `result`. The test
# tests/audit/test_layers.py tries each. GELU, SiLU, Hardswish and most others keep their input.
_OF_RESULT = (
    *("relu", "relu_", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "exp2", "expm1", "sqrt"),
    *("rsqrt", "reciprocal", "tan", "cumprod", "norm"),
)
_MODULES_OF_RESULT = ("ReLU", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Softmin")
_FUNCTIONS_OF_RESULT = ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "softmin")
SAVES_OUTPUT = frozenset(
    {f"torch.nn.{kind}" for kind in _MODULES_OF_RESULT}
    | {f"torch.nn.functional.{f}" for f in _FUNCTIONS_OF_RESULT}
    | {f"torch.{f}" for f in _OF_RESULT}
    | {f"torch.Tensor.{f}" for f in _OF_RESULT}
)

_ACTIVATIONS = ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU", "Tanh", "Sigmoid", "Hardswish", "Mish")
# Layers after which the number of axes is what it was before.
PASSING = frozenset(
    {f"torch.nn.{kind}" for kind in _ACTIVATIONS}
    | {f"torch.nn.functional.{f}" for f in ("relu", "leaky_relu", "gelu", "silu", "elu", "tanh")}
    | {"torch.relu", "torch.tanh", "torch.sigmoid", "torch.nn.functional.selu"}
)


def ranks() -> dict[str, int]:
    """Return how many axes the output of a layer has, the batch's counted."""
    table = {}
    for d in (1, 2, 3):
        kinds = ("Conv", "ConvTranspose", "BatchNorm", "MaxPool", "AvgPool", "InstanceNorm")
        for kind in (*kinds, "AdaptiveAvgPool", "AdaptiveMaxPool"):
            table[f"torch.nn.{kind}{d}d"] = d + 2
    # These take other ranks as well: of (N, C) and (N, C, L) nothing is known for sure.
    del table["torch.nn.BatchNorm1d"]
    for kind in ("conv", "max_pool", "avg_pool"):
        for d in (1, 2, 3):
            table[f"torch.nn.functional.{kind}{d}d"] = d + 2
    table["torch.nn.Embedding"] = 3
    table.update(dict.fromkeys(RECURRENT, 3))
    return table


# The base classes by which a class is known to be a module, with a mode.
MODULES = frozenset({"torch.nn.Module", "lightning.LightningModule"})
