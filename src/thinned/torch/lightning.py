"""For Lightning's Trainer: `Dropout`, a callback that adopts the model while it trains."""

from thinned.torch.frameworks.lightning import Dropout

__all__ = ["Dropout"]
