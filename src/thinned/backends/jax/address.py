"""Addresses under JAX: trees of five 32-bit words, which may be traced.

A 64-bit seed does not fit JAX's integers, unless x64 is on, and a jitted function takes no larger
ones: traced, a seed is two words. What is known stays Python's own numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.address import Address
from thinned.backends.jax.fold_in import folded
from thinned.checks import integer, message

__all__ = ["Halves", "coordinate", "fold_in", "is_traced", "settled", "shown", "words_of"]

MASK32 = 0xFFFFFFFF


class Halves(NamedTuple):
    """A traced 64-bit number: its lower and its upper 32 bits."""

    low: Any
    high: Any


def is_traced(value: Any) -> bool:
    return isinstance(value, (jax.core.Tracer, Halves))


def _word(who: str, name: str, value: Any) -> Any:
    """A traced integer as uint32; wider ones lose their upper bits."""
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.integer):
        got = f"a traced array of shape {value.shape} and type {value.dtype}"
        raise TypeError(message(who, name, "one integer", got))
    return lax.convert_element_type(value, jnp.uint32)


def _halves(who: str, name: str, value: Any) -> Halves:
    if isinstance(value, Halves):
        return value
    low = _word(who, name, value)
    if value.dtype.itemsize == 8:
        return Halves(
            low, _word(who, name, lax.shift_right_logical(value, jnp.full_like(value, 32)))
        )
    return Halves(low, jnp.zeros_like(low))


def coordinate(name: str, value: Any) -> Any:
    """A traced coordinate as an Address holds it: uint32, the seed two of them."""
    if isinstance(value, Halves) and not any(isinstance(v, jax.core.Tracer) for v in value):
        low, high = (integer("Address", name, v, 0, 2**32) for v in value)
        return low | high << 32
    return _halves("Address", name, value) if name == "seed" else _word("Address", name, value)


def _split(number: int) -> tuple[int, int]:
    return number & MASK32, number >> 32


def words_of(at: Address) -> tuple[Any, ...]:
    """seed_low, seed_high, site, step, call: ints, or uint32 arrays and tracers."""
    seed: Any = at.seed
    return (*(_split(seed) if type(seed) is int else seed), at.site, at.step, at.call)


def _made(words: Any) -> Address:
    """An address of five words of any kind, unchecked."""
    low, high, site, step, call = words
    if all(type(word) in (int, np.uint32) for word in words):
        return Address(int(low) | int(high) << 32, int(site), int(step), int(call))
    at = object.__new__(Address)
    named = {"seed": Halves(low, high), "site": site, "step": step, "call": call}
    for name, value in {**named, "_name": None, "known": False}.items():
        object.__setattr__(at, name, value)
    return at


def settled(who: str, at: Address) -> Address:
    """The same address in Python's numbers. TypeError while it is traced."""
    words = words_of(at)
    if any(isinstance(word, jax.core.Tracer) for word in words):
        remedy = "Give it an array of JAX's: thinned.keep_mask(..., like=x)."
        raise TypeError(message(who, "at", "known here", "a traced address", remedy))
    return _made([integer(who, "a word of at", word, 0, 2**32) for word in words])


def shown(at: Address) -> str:
    """The repr of an address that holds arrays: its numbers, or what they are where traced."""
    words = words_of(at)
    if any(isinstance(w, jax.core.Tracer) or np.shape(w) != () for w in words):
        return f"Address(seed={at.seed}, site={at.site}, step={at.step}, call={at.call})"
    return repr(settled("Address", at))


def fold_in(at: Address, n: Any) -> Address:
    """Address.fold_in where the address or n is traced."""
    if isinstance(n, Halves) and at.known and not any(isinstance(v, jax.core.Tracer) for v in n):
        return at.fold_in(coordinate("seed", n))
    if not is_traced(n):
        n = Halves(*_split(integer("Address.fold_in", "n", n, 0, 2**64)))
    n = _halves("Address.fold_in", "n", n)
    low, high, *rest = words_of(at)
    return _made((*folded((low, high), n), *rest))


def _flatten(at: Address) -> tuple[tuple[Any, ...], None]:
    """Known coordinates as NumPy's words, which a jitted function takes as they are. Without the
    site's name, which would make each site a program of its own."""
    return tuple(np.uint32(w) if type(w) is int else w for w in words_of(at)), None


jax.tree_util.register_pytree_node(Address, _flatten, lambda _, words: _made(words))
