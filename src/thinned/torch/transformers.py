"""For transformers: `Dropout`, a callback of its Trainer that adopts the model while it trains, and
attn_implementation="thinned", known to its models from the import of this module on."""

from thinned.torch.frameworks.transformers import Dropout
from thinned.torch.frameworks.transformers_attention import register

__all__ = ["Dropout"]

register()
