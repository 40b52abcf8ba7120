"""Addresses under JAX: trees of five 32-bit words, which may be traced.

Without x64 JAX has no 64-bit integers, and a jitted function takes none. So a traced seed is two
words. A coordinate that is known stays a number of Python's.
"""

from __future__ import annotations

import functools
import operator
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.address import Address, Mirrored
from thinned.backends.jax.fold_in import folded
from thinned.checks import integer, message

__all__ = [
    "Halves",
    "at_one_of",
    "coordinate",
    "fold_in",
    "is_traced",
    "poison",
    "register_with_flax",
    "settled",
    "shown",
    "words_of",
]

MASK32 = 0xFFFFFFFF


class Halves(NamedTuple):
    """A traced 64-bit number: its lower and its upper 32 bits."""

    low: Any
    high: Any


def is_traced(value: Any) -> bool:
    return isinstance(value, (jax.core.Tracer, Halves))


# What a traced step or call becomes if a coordinate is out of its range: beyond that of both, so
# that noise is NaN (backend.py), whatever else is narrowed to 32 bits.
OUT_OF_RANGE = np.uint32(MASK32)


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


def _strays(value: Any, bits: int) -> Any:
    """Whether a traced integer is negative or has more bits; None where its type allows neither."""
    if isinstance(value, Halves) or not is_traced(value):
        return None
    width = value.dtype.itemsize * 8
    is_signed = jnp.issubdtype(value.dtype, jnp.signedinteger)
    strays = (value < 0) if is_signed else None
    if width - is_signed > bits:
        large = lax.shift_right_logical(value, jnp.full_like(value, bits)) != 0
        strays = large if strays is None else strays | large
    return strays


def poison(at: Address, given: dict[str, Any]) -> None:
    """Put an address out of its range where one of the given coordinates is. A coordinate that is
    negative, or wider than its field, would be another address's once it is narrowed.

    given : the values that came, by the coordinates' names.
    """
    found = [_strays(value, 64 if name == "seed" else 32) for name, value in given.items()]
    strays = [one for one in found if one is not None]
    if not strays:
        return
    is_out = functools.reduce(operator.or_, strays)
    for name in ("step", "call"):  # both, because one of them may be replaced
        word = jnp.asarray(getattr(at, name), jnp.uint32)
        # Not by `where`: beside JAX 0.12 a choice of two constants forgets its mesh under vmap.
        object.__setattr__(at, name, word | is_out.astype(jnp.uint32) * OUT_OF_RANGE)


def _split(number: int) -> tuple[int, int]:
    return number & MASK32, number >> 32


def words_of(at: Address) -> tuple[Any, ...]:
    """seed_low, seed_high, site, step, call: ints, or uint32 arrays and tracers."""
    seed: Any = at.seed
    return (*(_split(seed) if type(seed) is int else seed), at.site, at.step, at.call)


def _is_known(word: Any) -> bool:
    return type(word) is np.ndarray and word.shape == () and word.dtype == np.uint32


def _made(words: Any, kind: type[Address] = Address) -> Address:
    """An address of five words of any kind, unchecked."""
    low, high, site, step, call = words
    if all(type(word) in (int, np.uint32) or _is_known(word) for word in words):
        return kind(int(low) | int(high) << 32, int(site), int(step), int(call))
    at = object.__new__(kind)
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
    return _made([integer(who, "a word of at", word, 0, 2**32) for word in words], type(at))


def _is_number(word: Any) -> bool:
    if isinstance(word, jax.core.Tracer):
        return False
    return isinstance(word, int) or jnp.issubdtype(getattr(word, "dtype", object), jnp.integer)


def shown(at: Address) -> str:
    """The repr of an address that holds arrays: its numbers, or what they are where traced."""
    words = words_of(at)
    # Not traced, not a batch, and not a gradient, whose words have a type without numbers.
    if not all(np.shape(w) == () and _is_number(w) for w in words):
        return f"Address(seed={at.seed}, site={at.site}, step={at.step}, call={at.call})"
    return repr(settled("Address", at))


def fold_in(at: Address, n: Any) -> Address:
    """Address.fold_in where the address or n is traced."""
    if isinstance(n, Halves) and at.known and not any(isinstance(v, jax.core.Tracer) for v in n):
        return at.fold_in(coordinate("seed", n))
    if not is_traced(n):
        n = Halves(*_split(integer("Address.fold_in", "n", n, 0, 2**64)))
    halves = _halves("Address.fold_in", "n", n)
    low, high, *rest = words_of(at)
    made = _made((*folded((low, high), halves), *rest), type(at))
    poison(made, {"seed": n})
    return made


@functools.lru_cache(maxsize=4096)
def _kept(word: int) -> Any:
    """A known word as an array of NumPy's, which checkpoints of any library hold.

    Equal words are one object. So a tree has the same leaves each time that it is flattened, which
    code that picks leaves out (eqx.tree_at) expects.
    """
    array = np.array(word, np.uint32)
    array.flags.writeable = False
    return array


_KEYS = [
    jax.tree_util.GetAttrKey(name) for name in ("seed_low", "seed_high", "site", "step", "call")
]


def at_one_of(is_first: Any, at: Address, other: Address) -> Address:
    """`at` with its own seed where a traced condition holds, and with that of `other` elsewhere."""
    pairs = zip(words_of(at)[:2], words_of(other)[:2], strict=True)
    words = (jnp.where(is_first, *(jnp.asarray(w, jnp.uint32) for w in pair)) for pair in pairs)
    seed: Any = Halves(*words)
    return at.replace(seed=seed)


def _flatten(at: Address) -> tuple[tuple[Any, ...], None]:
    """Known coordinates as NumPy's words, which a jitted function takes as they are. The site's
    name is left out: with it each site would compile another program."""
    return tuple(_kept(w) if type(w) is int else w for w in words_of(at)), None


def _flatten_with_names(at: Address) -> tuple[Any, None]:
    leaves, form = _flatten(at)
    return tuple(zip(_KEYS, leaves, strict=True)), form


for _kind in (Address, Mirrored):
    jax.tree_util.register_pytree_with_keys(
        _kind,
        _flatten_with_names,
        lambda _, words, kind=_kind: _made(words, kind),  # type: ignore[misc]
        _flatten,
    )


def register_with_flax() -> None:
    """Let flax.serialization save an address as its words, and read it back."""
    from flax import serialization as _serialization

    serialization: Any = _serialization  # which is typed in part

    names = [key.name for key in _KEYS]

    def to_state(at: Address) -> dict[str, Any]:
        return dict(zip(names, _flatten(at)[0], strict=True))

    def from_state(at: Address, state: dict[str, Any]) -> Address:
        if set(state) != set(names):
            raise ValueError(
                f"Address: a saved one holds {', '.join(names)}, and this holds "
                f"{', '.join(map(str, state)) or 'nothing'}."
            )
        return _made([state[name] for name in names])

    serialization.register_serialization_state(Address, to_state, from_state, override=True)


if "flax" in sys.modules:
    register_with_flax()
