"""For transformers' Trainer: `Dropout`, a callback that adopts the model while it trains."""

from thinned.torch.frameworks.transformers import Dropout

__all__ = ["Dropout"]
