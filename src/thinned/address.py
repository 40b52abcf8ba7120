"""Address: which mask this is."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Never

from thinned import traced
from thinned.checks import integer, message
from thinned.foreign_arguments import unknown_to, without_foreign
from thinned.philox import fold_in
from thinned.traced import Traced

__all__ = ["Address", "Mirrored", "address_of_seed", "settled"]

_RANGES = {"seed": 2**64, "site": 2**32, "step": 2**32 - 1, "call": 2**16}
_REMEDY = {"call": "For more calls in one step, use another seed: at.fold_in(n)."}


# What knows JAX's tracers, once JAX is there. An address is a tree of JAX's from the first one on
# that is made after JAX was imported; PyTorch's compiler need not know.
_jax: Traced | None = None


def _meet_jax() -> None:
    global _jax
    if traced.load_jax is not None:
        _jax = traced.load_jax()


def settled(who: str, at: Address) -> Address:
    """The address in numbers; TypeError while JAX traces it."""
    if _jax is None or at.known:
        return at
    known: Address = _jax.settled(who, at)
    return known


def _coordinate(name: str, value: Any) -> Any:
    end = _RANGES[name]
    if type(value) is int and 0 <= value < end:
        return value
    if _jax is not None and _jax.is_traced(value):
        return _jax.coordinate(name, value)
    return integer("Address", name, value, 0, end, _REMEDY.get(name, ""))


def _crc32(name: str) -> int:
    try:
        return zlib.crc32(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        requirement = "a name that UTF-8 can encode"
        raise ValueError(message("Address", "site", requirement, ascii(name))) from None


# What torch.compiler.assume_constant_result says of a function, said without loading PyTorch: its
# compiler calls this one while it traces, and keeps the number.
_crc32._dynamo_marked_constant = True  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Address:
    """The address of a mask: equal addresses give equal masks, everywhere and always.

    Parameters
    ----------
    seed : int in [0, 2^64). The whole random field.
    site : int in [0, 2^32), or str. Which place in the network; a name stands for the CRC-32 of its
        UTF-8 bytes, and is kept for the repr.
    step : int in [0, 2^32 - 1). Which training step.
    call : int in [0, 2^16). Which call of that site within the step.

    Under JAX's transformations each may be a traced integer, whose range cannot be checked before
    the program runs: out of it, masks are undefined and noise is NaN. An address is a tree of five
    32-bit words there, without the site's name.

    Attributes
    ----------
    known : bool. Whether all coordinates are numbers, and none is an array or a tracer of JAX's.

    Raises
    ------
    ValueError if a coordinate is out of range. TypeError if it is no integer (site: or a name).

    Examples
    --------
    >>> at = Address(seed=0, site="fc1", step=7)
    >>> at.replace(step=8)
    Address(seed=0, site='fc1', step=8, call=0)
    >>> at == Address(seed=0, site=2887079646, step=7)
    True
    """

    seed: int
    site: int
    step: int
    call: int
    _name: str | None = field(repr=False)
    known: bool = field(repr=False)
    # Whether draws here are those of `mirror=True`.
    mirrored: ClassVar[bool] = False

    @without_foreign
    def __init__(
        self,
        seed: int = 0,
        site: int | str = 0,
        step: int = 0,
        call: int = 0,
        **foreign: Never,
    ) -> None:
        if foreign:
            raise unknown_to(Address.__init__, foreign)
        if _jax is None and "jax" in sys.modules:
            _meet_jax()
        put = object.__setattr__
        name = None
        if isinstance(site, str):
            # As a plain string, also where a subclass came (numpy.str_): the repr is to read back.
            name = site if type(site) is str else str.__str__(site)
        put(self, "_name", name)
        put(self, "seed", _coordinate("seed", seed))
        # A name's number is not asked for its type: PyTorch's compiler, which takes it for granted,
        # could not say.
        put(self, "site", _coordinate("site", site) if name is None else _crc32(name))
        put(self, "step", _coordinate("step", step))
        put(self, "call", _coordinate("call", call))
        words = self.seed, self.site if name is None else 0, self.step, self.call
        known = all(type(word) is int for word in words)
        put(self, "known", known)
        if not known and _jax is not None:
            _jax.poison(self, {"seed": seed, "site": site, "step": step, "call": call})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple[int, int, int, int]:
        at = settled("Address", self)
        return at.seed, at.site, at.step, at.call

    def __repr__(self) -> str:
        if _jax is not None and not self.known:
            return _jax.shown(self)
        site = self.site if self._name is None else self._name
        return f"Address(seed={self.seed}, site={site!r}, step={self.step}, call={self.call})"

    def replace(self, **coordinates: Any) -> Address:
        """The same address with other `seed`, `site`, `step` or `call`."""
        now = {"seed": self.seed, "site": self.site, "step": self.step, "call": self.call}
        unknown = set(coordinates) - set(now)
        if unknown:
            raise TypeError(
                f"Address.replace: {sorted(unknown)[0]!r} is no coordinate; "
                "the coordinates are seed, site, step and call."
            )
        if self._name is None or "site" in coordinates:
            return type(self)(**{**now, **coordinates})
        made = type(self)(**{**now, **coordinates, "site": 0})
        object.__setattr__(made, "site", self.site)  # the name's number, once and for all
        object.__setattr__(made, "_name", self._name)
        return made

    def fold_in(self, n: int) -> Address:
        """Another seed, made of this one and `n`: a member, an epoch, a rank. n in [0, 2^64)."""
        if _jax is not None and (not self.known or _jax.is_traced(n)):
            folded: Address = _jax.fold_in(self, n)
            return folded
        n = integer("Address.fold_in", "n", n, 0, 2**64)
        return self.replace(seed=fold_in(self.seed, n))


def address_of_seed(
    seed: int, site: int = 0, step: int = 0, call: int = 0, name: str | None = None
) -> Address:
    """The address of numbers that need no check, a generator's or a clock's: half of the time that
    a small array's noise has is Python's objects. name : of the site, whose number is `site`."""
    at = object.__new__(Address)
    put = object.__setattr__
    put(at, "seed", seed)
    put(at, "site", site)
    put(at, "step", step)
    put(at, "call", call)
    put(at, "_name", name)
    put(at, "known", True)
    return at


class Mirrored(Address):
    """The same address, at which every draw is the mirror of that of the plain one.

    What `mirror=True` says in a call, for code that hands on an address and nothing else.
    """

    __slots__ = ()
    mirrored: ClassVar[bool] = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mirrored) and self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash((True, self._numbers()))

    def __repr__(self) -> str:
        return f"Mirrored{Address.__repr__(self).removeprefix('Address')}"
