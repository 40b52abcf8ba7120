"""The catalogue of methods."""

from thinned.methods.bernoulli import dropout, keep_mask, packed_mask

__all__ = ["dropout", "keep_mask", "packed_mask"]
