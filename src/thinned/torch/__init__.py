"""Thinned for PyTorch: torch.nn's dropout modules, faster, and with masks that have an address."""

try:
    import torch as _torch  # noqa: F401 - asked for here, to say what to do where it is not
except ImportError as error:
    raise ImportError('thinned.torch needs PyTorch: pip install "thinned[torch]".') from error

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thinned import _later
from thinned.methods import foreign
from thinned.torch import functional, fused
from thinned.torch.adoption.adopt import adopt, release
from thinned.torch.adoption.report import Report
from thinned.torch.adoption.switching import no_dropout, set_p
from thinned.torch.attention.flex import drop_key_mod, flex_attention
from thinned.torch.attention.functional import scaled_dot_product_attention
from thinned.torch.auditing.audit import audit
from thinned.torch.auditing.result import ModelAudit
from thinned.torch.auditing.rules import Finding
from thinned.torch.clock.checkpoints import checkpoint_context
from thinned.torch.clock.clock import Clock
from thinned.torch.dropin.modules import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from thinned.torch.layers import from_rows
from thinned.torch.layers.around import (
    DropBP,
    DropEdge,
    DropGrad,
    EmbeddingDropout,
    LayerDrop,
    LoRALinear,
)
from thinned.torch.layers.drop_connect import DropConnectLinear
from thinned.torch.layers.gates import HardConcrete, L0Linear
from thinned.torch.layers.learned import (
    ConcreteDropout,
    SparseVariationalConv2d,
    SparseVariationalLinear,
    VariationalLinear,
    regularizer,
)
from thinned.torch.layers.masksembles import Masksembles
from thinned.torch.layers.weights import (
    drop_connect,
    mixout,
    remove_noise,
    targeted_dropout,
    weight_drop,
)
from thinned.torch.rnn.networks import GRU, LSTM
from thinned.torch.thinning.member import member
from thinned.torch.thinning.thin import thin

if TYPE_CHECKING:
    from thinned.torch import lightning as lightning, transformers as transformers

# Modules for other libraries, which are loaded at their first use.
_FRAMEWORKS = ("lightning", "transformers")

__all__ = [
    "GRU",
    "LSTM",
    "AlphaDropout",
    "Clock",
    "ConcreteDropout",
    "DropBP",
    "DropConnectLinear",
    "DropEdge",
    "DropGrad",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "Finding",
    "HardConcrete",
    "L0Linear",
    "LayerDrop",
    "LoRALinear",
    "Masksembles",
    "ModelAudit",
    "Report",
    "SparseVariationalConv2d",
    "SparseVariationalLinear",
    "VariationalLinear",
    "adopt",
    "audit",
    "checkpoint_context",
    "drop_connect",
    "drop_key_mod",
    "flex_attention",
    "functional",
    "fused",
    "member",
    "mixout",
    "no_dropout",
    "regularizer",
    "release",
    "remove_noise",
    "scaled_dot_product_attention",
    "set_p",
    "targeted_dropout",
    "thin",
    "weight_drop",
]
# The catalogue's classes are made from its rows; those written here take their place.
__all__ += sorted(set(from_rows.made()) - set(__all__))


def __getattr__(name: str) -> Any:
    if name in _FRAMEWORKS:
        return import_module(f"thinned.torch.{name}")
    if name.startswith("_") or name not in from_rows.made():
        raise AttributeError(foreign.no_name("thinned.torch", name, __dir__()))
    return from_rows.made()[name]


def __dir__() -> list[str]:
    return _later.public(globals(), (*__all__, *_FRAMEWORKS))
