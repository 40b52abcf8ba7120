"""The catalogue of methods: one row each, in the file that holds the method's code.

`find(name)` finds a row by any name that people use; `every()` is the whole table. The functions
stand in `thinned` too, under the same names. A file is loaded when one of its names is first used.
"""

from typing import TYPE_CHECKING, Any

from thinned import _later

if TYPE_CHECKING:  # for type checkers and editors; what runs goes by _FILES
    from thinned.methods.adapters import module_dropout, rank_dropout, sparse_lora_dropout
    from thinned.methods.alpha import alpha_dropout, feature_alpha_dropout
    from thinned.methods.attention import attention_dropout, drop_head, drop_key, hidden_key
    from thinned.methods.banks import masksembles, masksembles_bank
    from thinned.methods.bernoulli import dropout, keep_mask, packed_mask, vanilla_dropout
    from thinned.methods.blocks import drop_block
    from thinned.methods.concrete import concrete_dropout, concrete_entropy
    from thinned.methods.conditions import condition_dropout, modality_dropout
    from thinned.methods.counts import k_of_n_dropout
    from thinned.methods.gates import expected_l0, hard_concrete
    from thinned.methods.gaussian import gaussian_dropout, gaussian_noise, uniform_dropout
    from thinned.methods.gradients import drop_bp, drop_grad
    from thinned.methods.graphs import (
        drop_edge,
        drop_message,
        drop_node,
        keep_edges,
        normalise_adjacency,
    )
    from thinned.methods.layers import layer_drop, lora_dropout
    from thinned.methods.losses import fraternal_dropout, multi_sample_dropout, r_drop
    from thinned.methods.members import stratified_dropout
    from thinned.methods.moments import expected_relu, expected_sigmoid, fast_dropout_moments
    from thinned.methods.nested import nested_dropout
    from thinned.methods.paths import drop_path, stochastic_depth
    from thinned.methods.recurrent import locked_dropout, recurrent_dropout, zoneout
    from thinned.methods.regions import cutout, random_erasing
    from thinned.methods.spans import hidden_cut
    from thinned.methods.spatial import spatial_dropout
    from thinned.methods.table import (
        LEFT_OUT as LEFT_OUT,
        Method as Method,
        every as every,
        find as find,
    )
    from thinned.methods.targeted import targeted_dropout
    from thinned.methods.tokens import patch_dropout
    from thinned.methods.variational import (
        sparse_variational_dropout,
        variational_dropout,
        variational_kl,
    )
    from thinned.methods.walks import dropout_path
    from thinned.methods.weights import drop_connect, mixout, weight_drop
    from thinned.methods.words import embedding_dropout, word_dropout

# What `thinned` takes over: the functions alone.
__all__ = [
    "alpha_dropout",
    "attention_dropout",
    "concrete_dropout",
    "concrete_entropy",
    "condition_dropout",
    "cutout",
    "drop_block",
    "drop_bp",
    "drop_connect",
    "drop_edge",
    "drop_grad",
    "drop_head",
    "drop_key",
    "drop_message",
    "drop_node",
    "drop_path",
    "dropout",
    "dropout_path",
    "embedding_dropout",
    "expected_l0",
    "expected_relu",
    "expected_sigmoid",
    "fast_dropout_moments",
    "feature_alpha_dropout",
    "fraternal_dropout",
    "gaussian_dropout",
    "gaussian_noise",
    "hard_concrete",
    "hidden_cut",
    "hidden_key",
    "k_of_n_dropout",
    "keep_edges",
    "keep_mask",
    "layer_drop",
    "locked_dropout",
    "lora_dropout",
    "masksembles",
    "masksembles_bank",
    "mixout",
    "modality_dropout",
    "module_dropout",
    "multi_sample_dropout",
    "nested_dropout",
    "normalise_adjacency",
    "packed_mask",
    "patch_dropout",
    "r_drop",
    "random_erasing",
    "rank_dropout",
    "recurrent_dropout",
    "sparse_lora_dropout",
    "sparse_variational_dropout",
    "spatial_dropout",
    "stochastic_depth",
    "stratified_dropout",
    "targeted_dropout",
    "uniform_dropout",
    "vanilla_dropout",
    "variational_dropout",
    "variational_kl",
    "weight_drop",
    "word_dropout",
    "zoneout",
]

# File -> what stands here of it.
_FILES = {
    "adapters": ("module_dropout", "rank_dropout", "sparse_lora_dropout"),
    "alpha": ("alpha_dropout", "feature_alpha_dropout"),
    "attention": ("attention_dropout", "drop_head", "drop_key", "hidden_key"),
    "banks": ("masksembles", "masksembles_bank"),
    "bernoulli": ("dropout", "keep_mask", "packed_mask", "vanilla_dropout"),
    "blocks": ("drop_block",),
    "concrete": ("concrete_dropout", "concrete_entropy"),
    "conditions": ("condition_dropout", "modality_dropout"),
    "counts": ("k_of_n_dropout",),
    "gates": ("expected_l0", "hard_concrete"),
    "gaussian": ("gaussian_dropout", "gaussian_noise", "uniform_dropout"),
    "gradients": ("drop_bp", "drop_grad"),
    "graphs": ("drop_edge", "drop_message", "drop_node", "keep_edges", "normalise_adjacency"),
    "layers": ("layer_drop", "lora_dropout"),
    "losses": ("fraternal_dropout", "multi_sample_dropout", "r_drop"),
    "members": ("stratified_dropout",),
    "moments": ("expected_relu", "expected_sigmoid", "fast_dropout_moments"),
    "nested": ("nested_dropout",),
    "paths": ("drop_path", "stochastic_depth"),
    "recurrent": ("locked_dropout", "recurrent_dropout", "zoneout"),
    "regions": ("cutout", "random_erasing"),
    "spans": ("hidden_cut",),
    "spatial": ("spatial_dropout",),
    "targeted": ("targeted_dropout",),
    "tokens": ("patch_dropout",),
    "variational": ("sparse_variational_dropout", "variational_dropout", "variational_kl"),
    "walks": ("dropout_path",),
    "weights": ("drop_connect", "mixout", "weight_drop"),
    "words": ("embedding_dropout", "word_dropout"),
}
_TABLE = ("LEFT_OUT", "Method", "every", "find")
_ROOMS = (
    *_FILES,
    "answers",
    "arguments",
    "classic",
    "draws",
    "elsewhere",
    "equation",
    "foreign",
    "made",
    "placing",
    "rates",
    "shown",
    "stored",
    "table",
    "varying",
)
_LATER = {
    **{room: f"{__name__}.{room}" for room in _ROOMS},
    **{name: f"{__name__}.{file}" for file, names in _FILES.items() for name in names},
    **dict.fromkeys(_TABLE, f"{__name__}.table"),
}


if not TYPE_CHECKING:  # it would make every name a name, and a checker would find no misspelt one

    def __getattr__(name: str) -> Any:
        return _later.attribute(__name__, _LATER, name)


def __dir__() -> list[str]:
    return _later.public(globals(), (*__all__, *_TABLE, "classic"))
