"""What a JAX user touches besides thinned's functions, which take JAX's arrays as they are.

`address` makes an Address of a random key, `window` says in a shard_map which part is at hand;
`thinned.jax.equinox` and `thinned.jax.nnx` are layers for these libraries, and
`thinned.jax.linen` and `thinned.jax.haiku` adopt models of Flax Linen and of Haiku.
`dot_product_attention` drops attention's weights, `member` is a thinned network by its number,
`thin_mlp` computes only the units that a perceptron keeps, `audit` tells by running a model what is
wrong with its dropout.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thinned.jax.attention import dot_product_attention
from thinned.jax.auditing import audit
from thinned.jax.keys import address, window
from thinned.jax.networks import member
from thinned.jax.thinning import Kept, kept_units, thin_mlp
from thinned.methods import foreign

if TYPE_CHECKING:
    from thinned.jax import equinox as equinox, haiku as haiku, linen as linen, nnx as nnx

__all__ = [
    "Kept",
    "address",
    "audit",
    "dot_product_attention",
    "equinox",
    "kept_units",
    "linen",
    "member",
    "nnx",
    "thin_mlp",
    "window",
]


def __getattr__(name: str) -> Any:
    if name not in ("equinox", "haiku", "linen", "nnx"):
        raise AttributeError(foreign.no_name("thinned.jax", name, __all__))
    return import_module(f"thinned.jax.{name}")
