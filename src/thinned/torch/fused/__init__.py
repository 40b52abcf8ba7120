"""Dropout fused with its neighbours in the residual stream of a transformer.

`bias_dropout_add` and `dropout_add_norm` are what Megatron and flash-attn have under such names,
with masks that have an address: one pass over memory, and nothing of a mask saved.
"""

from thinned.torch.fused.add import bias_dropout_add
from thinned.torch.fused.norm import dropout_add_norm

__all__ = ["bias_dropout_add", "dropout_add_norm"]
